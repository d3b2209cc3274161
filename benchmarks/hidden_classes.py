"""Which classes hide sub-classes: ``nclib.subpopulations`` beside what people use.

    python -m benchmarks.hidden_classes [--output benchmarks/results/hidden_classes.json]

Every method gets the features of classes and says how many sub-classes each has. Classes with hidden ones:
super-classes of runs, and classes planted from several Gaussians. Controls: fine classes of the same runs, of
runs that were trained on fine classes, and single populations. A fine class may have parts too; where
``nclib.subpopulations`` divides one, the file says how many images of either part the network itself takes
for another class.

``nclib.subpopulations`` was chosen among variants by what they said of some of these data, which favours it
there. Rows of data that no choice has seen are marked "fresh".

Methods of the literature on given features: GEORGE (Sohoni et al., 2020) with k-means, without UMAP and
without its condition on losses; LELP (Loo et al., 2024) with one direction; the underperforming group of
cleanlab, which divides a class where the network's predictions are poor on one cluster of it: it is asked
about one class at a time, since of a whole data set it names one group only. cleanlab is no dependency of
this package: without it, its rows are left out, and the file says so.

The file is written after every data set; started again, the program adds those that are missing, unless
the code has changed. One thread, a quarter of an hour on a quiet core. Runs that are neither in the store nor
released with features are trained, which for those of ResNets takes half an hour or more each, and for
"cifar10-paper-seed0" days without a GPU.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import softmax
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, silhouette_samples
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import cross_val_predict

from nclib.measures import subpopulations as module
from nclib.measures import valley
from nclib.measures.cluster_number import MOST, choose_k
from nclib.measures.reconstruction import reconstruct_labels
from nclib.runs.get import find_run, get_run, train_run
from nclib.runs.provenance import provenance
from nclib.runs.released import released_runs
from nclib.runs.rows import stratified_rows
from nclib.runs.run import Run
from nclib.storage.files import write_json

ROOT = Path(__file__).parents[1]
RELEASED = (
    "cifar10-laptop-seed0",
    "fashion-laptop-seed0",
    "cifar10-unaugmented-seed0",
    "fashion-unaugmented-seed0",
    "cifar100-laptop-seed0",
    "cifar100-laptop-random20-seed0",
    "cifar10-paper-seed0",
)
FRESH = ("cifar10-laptop-seed1",)  # released runs that no choice in the test has seen,
FRESH_SEEDS = {"digits": (10, 11, 12), "fashion-narrow": (5,)}  # and seeds, trained for this comparison
FINE = ("digits", "cifar10-laptop")  # recipes trained on fine classes
SPLIT = {"digits": "train"}  # of a recipe; of others "test"
IMAGES = 200  # of a fine class, at most
COMPONENTS = 10  # principal components for mixtures and HDBSCAN
GEORGE_MOST, GEORGE_FACTOR, GEORGE_LEAST = 10, 5, 25  # clusters, parts of each, smallest part
PLANTED = ((100, 100), (200, 40), (100, 100, 100), (60, 60, 60, 60), (300, 30))  # sizes of sub-classes
GAP = 6.0  # between planted sub-classes, in their standard deviations
DIMENSION = 64


class Classes(NamedTuple):
    """Classes as a method sees them, and what it does not see.

    Attributes
    ----------
    h, y : (N, D) features and (N,) labels.
    hidden : (N,) labels of sub-classes.
    trained : (N,) labels that the classifier was trained on.
    probabilities : (N, K) that it gives to these labels, for samples of ``SPLIT``; on digits, where it was
        trained on them, it is nearly certain, and cleanlab has little to go by.
    """

    h: np.ndarray
    y: np.ndarray
    hidden: np.ndarray
    trained: np.ndarray
    probabilities: np.ndarray

    @property
    def confused(self) -> np.ndarray:
        """(N,) whether the classifier is wrong."""
        return self.probabilities.argmax(axis=1) != self.trained


def of_run(run: Run, split: str = "test") -> tuple[Classes | None, Classes]:
    """Super-classes of a run, None if it was trained on fine classes, and its fine classes as controls."""
    f = run.features(split)
    rows = stratified_rows(f.fine, min(len(f.fine), IMAGES * (int(f.fine.max()) + 1)))
    h, fine, coarse = f.h[rows].double().numpy(), f.fine[rows].numpy(), f.coarse[rows].numpy()
    probabilities = softmax(f.logits()[rows].double().numpy(), axis=1)
    controls = Classes(h, fine, fine, coarse, probabilities)
    return None if (fine == coarse).all() else controls._replace(y=coarse), controls


def coarse_labels(name: str) -> tuple[Classes | None, Classes]:
    """Of a released run; one that was released without features is trained again, an hour or more."""
    (run,) = released_runs(name)
    if "test" in run.feature_splits:
        return of_run(run)
    return of_run(find_run(run.config, released=False) or train_run(run.config))


def fresh(recipe: str, seed: int) -> tuple[Classes | None, Classes]:
    return of_run(get_run(recipe, seed=seed, released=False), SPLIT.get(recipe, "test"))


def fine_labels(recipe: str) -> tuple[Classes | None, Classes]:
    return of_run(get_run(recipe, grouping="none"), SPLIT.get(recipe, "test"))


def planted() -> tuple[Classes, Classes]:
    """Classes of several Gaussians, and ones that are single populations of different shapes."""
    rng = np.random.default_rng(0)
    parts = [np.repeat(np.arange(len(sizes)), sizes) for sizes in PLANTED]
    h = [rng.normal(size=(len(p), DIMENSION)) + GAP / 2**0.5 * np.eye(DIMENSION)[p] for p in parts]
    draws = (rng.standard_normal, rng.standard_exponential, rng.random, lambda size: rng.standard_t(3, size))
    single = [draw((200, DIMENSION)) * np.arange(1, DIMENSION + 1) ** -0.75 for draw in draws * 2]
    hidden, y = np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(p) for p in parts])
    ones = np.repeat(np.arange(len(single)), 200)
    return with_classifier(np.concatenate(h), y, hidden), with_classifier(np.concatenate(single), ones, ones)


def with_classifier(h: np.ndarray, y: np.ndarray, hidden: np.ndarray) -> Classes:
    """Classes with the probabilities of a logistic regression, each fold's by one fitted to the others."""
    model = LogisticRegression(max_iter=1000)
    return Classes(h, y, hidden, y, cross_val_predict(model, h, y, method="predict_proba"))


def ours(classes: Classes) -> np.ndarray:
    return module.subpopulations(classes.h, classes.y).labels


def by_criterion(method: str) -> Callable[[Classes], np.ndarray]:
    def divide(classes: Classes) -> np.ndarray:
        k = choose_k(classes.h, classes.y, method).tolist()
        return np.asarray(reconstruct_labels(classes.h, classes.y, k, "kmeans"))

    return divide


def in_every_class(divide: Callable[[np.ndarray], np.ndarray]) -> Callable[[Classes], np.ndarray]:
    """A method that divides one class at a time, by its features (n, D)."""

    def in_each(classes: Classes) -> np.ndarray:
        found = np.zeros(len(classes.y), dtype=int)
        for c in np.unique(classes.y):
            found[classes.y == c] = divide(classes.h[classes.y == c])
        return found

    return in_each


def components(x: np.ndarray) -> np.ndarray:
    return PCA(COMPONENTS, svd_solver="full").fit_transform(x)


def mixture(x: np.ndarray) -> np.ndarray:
    """Gaussian mixture with the number of parts that BIC chooses."""
    z = components(x)
    fits = [GaussianMixture(k, reg_covar=1e-6 * z.var(), random_state=0).fit(z) for k in range(1, MOST + 1)]
    return min(fits, key=lambda fit: fit.bic(z)).predict(z)


def hdbscan(x: np.ndarray) -> np.ndarray:
    """HDBSCAN as scikit-learn sets it up; -1 for samples of no cluster."""
    return HDBSCAN(copy=True).fit_predict(components(x))


def george(x: np.ndarray) -> np.ndarray:
    """The k from 2 to 10 with the highest silhouette, averaged over clusters; then five parts of each.

    A part counts if it is large enough and its silhouette is higher than before the second division.
    """
    fits = [KMeans(k, n_init=3, random_state=0).fit_predict(x) for k in range(2, GEORGE_MOST + 1)]
    first = max(fits, key=lambda labels: _mean_by_cluster(silhouette_samples(x, labels), labels).mean())
    parts = np.empty(len(x), dtype=int)
    for c in np.unique(first):
        k = min(GEORGE_FACTOR, int((first == c).sum()))
        inside = KMeans(k, n_init=3, random_state=0).fit_predict(x[first == c])
        parts[first == c] = GEORGE_FACTOR * c + inside
    _, index, sizes = np.unique(parts, return_inverse=True, return_counts=True)
    before, after = (_mean_by_cluster(silhouette_samples(x, labels), index) for labels in (first, index))
    kept = (after > np.maximum(before, 0)) & (sizes >= GEORGE_LEAST)
    return np.where(kept[index], len(x) + index, first)


def _mean_by_cluster(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.bincount(labels, values) / np.bincount(labels)


def direction(x: np.ndarray) -> np.ndarray:
    """Both sides of the first principal direction, whatever the data."""
    return (PCA(1, svd_solver="full").fit_transform(x)[:, 0] > 0).astype(int)


def underperforming(classes: Classes) -> np.ndarray:
    """1 for the group of every class that cleanlab says the classifier does worst on, if it names one."""
    from cleanlab.datalab.internal.issue_manager.underperforming_group import (
        UnderperformingGroupIssueManager as Finder,
    )

    found = np.zeros(len(classes.y), dtype=int)
    for c in np.unique(classes.y):
        rows = np.flatnonzero(classes.y == c)
        finder = Finder(SimpleNamespace(labels=classes.trained[rows], get_info=lambda _name: {}))
        try:
            finder.find_issues(pred_probs=classes.probabilities[rows], features=classes.h[rows])
        except ValueError as error:
            if "No meaningful clusters" not in str(error):
                raise
        else:
            found[rows] = finder.issues["is_underperforming_group_issue"]
    return found


def cleanlab_version() -> str | None:
    """None where it is not installed."""
    try:
        return version("cleanlab")
    except PackageNotFoundError:
        return None


CLEANLAB = "cleanlab, underperforming group"
METHODS: dict[str, Callable[[Classes], np.ndarray]] = {
    "nclib.subpopulations": ours,
    "k-means, prediction strength": by_criterion("prediction-strength"),
    "k-means, gap statistic": by_criterion("gap"),
    "k-means, silhouette": by_criterion("silhouette"),
    "Gaussian mixture, BIC": in_every_class(mixture),
    "HDBSCAN": in_every_class(hdbscan),
    "over-clustering as in GEORGE": in_every_class(george),
    "principal direction as in LELP": in_every_class(direction),
    CLEANLAB: underperforming,
}


def counts(classes: Classes, found: np.ndarray) -> np.ndarray:
    """Number of parts of every class; what belongs to no cluster (-1) is no part."""
    parts = [np.unique(found[classes.y == c]) for c in np.unique(classes.y)]
    return np.array([max(1, int((of_class >= 0).sum())) for of_class in parts])


def compared(data: str, hiding: Classes | None, controls: Classes) -> list[dict[str, Any]]:
    """A row for each method."""
    result = []
    for name, divide in METHODS.items():
        if name == CLEANLAB and cleanlab_version() is None:
            continue
        start = time.process_time()
        in_controls = divide(controls)
        found = divide(hiding) if hiding else None
        seconds = time.process_time() - start
        alarms = counts(controls, in_controls) > 1
        row = {"data": data, "method": name, **against_truth(hiding, found)}
        row |= {"controls": len(alarms), "false_alarms": int(alarms.sum())}
        row |= {"seconds": seconds / (row["classes"] + len(alarms))}
        if divide is ours:
            row["divided_controls"] = divided(controls, in_controls)
        print(json.dumps(row), flush=True)
        result.append(row)
    return result


def against_truth(hiding: Classes | None, found: np.ndarray | None) -> dict[str, Any]:
    """How many of the classes are divided, in how many parts, and as which hidden ones."""
    if hiding is None:
        return {"classes": 0, "found": 0, "right": 0, "off_by_one": 0, "rand": None}
    each = [hiding.y == c for c in np.unique(hiding.y)]
    true = np.array([len(np.unique(hiding.hidden[rows])) for rows in each])
    number = counts(hiding, found)
    return {
        "classes": len(true),
        "found": int((number > 1).sum()),
        "right": int((number == true).sum()),
        "off_by_one": int((abs(number - true) == 1).sum()),
        "rand": float(np.mean([adjusted_rand_score(hiding.hidden[rows], found[rows]) for rows in each])),
    }


def divided(controls: Classes, found: np.ndarray) -> list[dict[str, Any]]:
    """Controls that are divided, with the shares of either part that the classifier gets wrong."""
    rows = []
    for c in np.unique(controls.y):
        parts = found[controls.y == c]
        if parts.any():
            wrong = controls.confused[controls.y == c]
            rows.append(
                {
                    "class": int(c),
                    "smaller_part": int((parts > 0).sum()),
                    "confused_in_smaller": float(wrong[parts > 0].mean()),
                    "confused_in_larger": float(wrong[parts == 0].mean()),
                }
            )
    return rows


def source() -> str:
    """Fingerprint of this file and of the test."""
    texts = [Path(__file__).read_text(), inspect.getsource(module), inspect.getsource(valley)]
    return hashlib.sha256("".join(texts).encode()).hexdigest()


def main() -> None:
    """Compare on every data set, and write the file after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/hidden_classes.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    before = json.loads(options.output.read_text()) if options.output.exists() else {}
    used = {"source": source(), "cleanlab": cleanlab_version()}
    rows = before["rows"] if used.items() <= before.items() else []
    for name, data in datasets().items():
        if name not in {row["data"] for row in rows}:
            rows += [row | {"fresh": is_fresh(name)} for row in compared(name, *data())]
            made = provenance(torch.device("cpu"))
            write_json(options.output, {"rows": rows, **used, "provenance": made})


def is_fresh(name: str) -> bool:
    """Whether no choice in the test was made, or kept, because of what it says of these data."""
    return name in FRESH or name.rpartition("-seed")[0] in FRESH_SEEDS


def datasets() -> dict[str, Callable[[], tuple[Classes | None, Classes]]]:
    """Classes by the name of the data, read or trained when called."""
    coarse = {name: partial(coarse_labels, name) for name in (*RELEASED, *FRESH)}
    coarse |= {
        f"{recipe}-seed{seed}": partial(fresh, recipe, seed)
        for recipe, seeds in FRESH_SEEDS.items()
        for seed in seeds
    }
    fine = {
        f"{recipe}, fine labels, {SPLIT.get(recipe, 'test')} images": partial(fine_labels, recipe)
        for recipe in FINE
    }
    return {"planted": planted, **coarse, **fine}


if __name__ == "__main__":
    main()
