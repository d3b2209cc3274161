"""The numbers that chapters state, as functions of runs.

    results(run)["reconstruction"]["tsne-kmeans"]["train"]      # accuracy of the reconstructed labels

A run that was published with results carries them; for others they are computed from features, once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import confusion_matrix

from nclib.config import RunConfig
from nclib.data.grouping import task
from nclib.measures.collapse import collapse_of
from nclib.measures.distances import msdr_of
from nclib.measures.embedding import tsne
from nclib.measures.probe import linear_probe
from nclib.measures.reconstruction import match_labels, reconstruct_labels
from nclib.measures.variance import explained_variance_of
from nclib.networks.features import FeatureSet
from nclib.runs.baselines import pixel_components
from nclib.runs.remember import remembered, remembered_of_data
from nclib.runs.run import Run

METHOD_NAMES = {
    "kmeans": "k-means",
    "pca-gmm": "Gaussian mixture",
    "spectral": "spectral",
    "tsne-kmeans": "t-SNE + k-means",
}
METHODS = tuple(METHOD_NAMES)
TERMINAL_ACCURACY = 0.999  # on train
DRAWS = 1000  # of random labels for more classes than two


def results(run: Run, methods: Sequence[str] = METHODS) -> dict[str, Any]:
    """Reconstruction and probes of a run.

    Parameters
    ----------
    run : of the store, or a released one, which carries its results.
    methods : of the reconstruction, with as many clusters inside each super-class as it has fine classes; a
        released run has those that it was released with.

    Returns
    -------
    dict, JSON-ready. All accuracies are shares of samples.
    "reconstruction" : per method, "train" and "test": each split clustered by itself inside its true
        coarse labels, then matched one to one; "probe": accuracy on the true fine labels of test of a
        linear probe trained on the labels that were reconstructed on train; "confusion": (C, C) counts
        of true (rows) against matched labels on train.
    "pixels" : per method, accuracy on train of clustering 50 principal components of the pixels.
    "probe", "probe_per_class" : of a linear probe trained on the true fine labels, on test.
    "chance", "chance_test" : ``chance_of`` train and of test, also of a released run.
    "seconds" : that all this took now; little where it was remembered.
    """
    chance = {"chance": chance_of(run, "train"), "chance_test": chance_of(run, "test")}
    if run.results:
        return run.results | chance
    start = time.perf_counter()
    images = {name: getattr(run.config, name) for name in ("dataset", "grouping", "held_out")}
    clusters = tuple(fine_per_coarse(run))
    return {
        "reconstruction": {m: remembered(run, _reconstruction_of, clusters, m) for m in methods},
        "pixels": {m: remembered_of_data(_pixel_accuracy, images, clusters, m) for m in methods},
        **remembered(run, _probe_of),
        **chance,
        "seconds": time.perf_counter() - start,
    }


def _probe_of(run: Run) -> dict[str, Any]:
    train, test = run.features("train"), run.features("test")
    probe = linear_probe(train.h, train.fine)
    return {
        "probe": probe.accuracy(test.h, test.fine),
        "probe_per_class": probe.per_class_accuracy(test.h, test.fine).tolist(),
    }


def _reconstruction_of(run: Run, k: Sequence[int], method: str) -> dict[str, Any]:
    return _reconstruction(run.features("train"), run.features("test"), k, method)


def count_images(run: Run, split: str, epoch: int = -1) -> int:
    """How many images of a split were measured at an epoch; before the end it can be a part of train."""
    return int(run.moments(split, epoch).counts.sum())


def fewest_images(runs_of: Mapping[str, Sequence[Run]]) -> dict[str, dict[str, int]]:
    """By name and split, images of the first run at the measured epoch that has fewest of them."""
    return {
        name: {
            split: min(count_images(runs[0], split, epoch) for epoch in runs[0].measured_epochs)
            for split in ("train", "test")
        }
        for name, runs in runs_of.items()
    }


def fine_per_coarse(run: Run) -> list[int]:
    """Number of fine classes in every super-class."""
    return [len(run.grouping.members(c)) for c in range(run.grouping.num_coarse)]


def chance_of(run: Run, split: str) -> float:
    """``chance_accuracy`` on all images of a split, of as many clusters as there are fine classes."""
    sizes = run.moments(split).counts.long().tolist()
    return chance_accuracy(sizes, run.grouping.fine_to_coarse.tolist(), fine_per_coarse(run))


def chance_accuracy(sizes: Sequence[int], group: Sequence[int], k: int | Sequence[int]) -> float:
    """Expected accuracy of labels drawn at random inside each super-class, after the same matching.

    Parameters
    ----------
    sizes : (C,) images of each fine class.
    group : (C,) its super-class in [0, G).
    k : clusters in each super-class, one number or G.

    Returns
    -------
    float. Exact for two classes and two clusters: about 1/2 + 1 / sqrt(2 pi n) of n images. Else the mean of
    ``DRAWS`` draws, with a standard error of about 0.01 / sqrt(n).
    """
    group = np.asarray(group)
    families = [np.asarray(sizes)[group == g] for g in range(group.max() + 1)]
    clusters = np.broadcast_to(k, len(families)).tolist()
    matched = (_matched_by_chance(tuple(f.tolist()), c) for f, c in zip(families, clusters, strict=True))
    return float(sum(matched) / sum(sizes))


@cache
def _matched_by_chance(sizes: tuple[int, ...], k: int) -> float:
    """Mean number of images that random labels get right in a super-class of classes of these sizes."""
    n = sum(sizes)
    if len(sizes) == k == 2:  # n / 2 + the mean deviation of a binomial number from it, by De Moivre
        v = n // 2 + 1
        return n / 2 + v * math.comb(n, v) / 2**n
    rng = np.random.default_rng(0)
    counts = np.stack([rng.multinomial(n, np.full(k, 1 / k), size=DRAWS) for n in sizes], axis=1)  # (., C, k)
    return float(np.mean([table[linear_sum_assignment(table, maximize=True)].sum() for table in counts]))


def tsne_inside(f: FeatureSet) -> np.ndarray:
    """t-SNE of each super-class by itself. (N, 2) float64, in the order of ``f``."""
    points = np.empty((len(f.h), 2))
    for coarse in f.coarse.unique():
        rows = f.coarse == coarse
        points[rows.numpy()] = tsne(f.h[rows])
    return points


def embedding(run: Run) -> np.ndarray:
    """``tsne_inside`` of the test features, as released or computed now."""
    return np.array(remembered(run, _embedding_of)) if run.embedding is None else run.embedding


def _embedding_of(run: Run) -> list[list[float]]:
    return tsne_inside(run.features("test")).tolist()


def _reconstruction(
    train: FeatureSet, test: FeatureSet, k: int | Sequence[int], method: str
) -> dict[str, Any]:
    on_train, on_test = (
        match_labels(reconstruct_labels(f.h, f.coarse, k, method), f.fine) for f in (train, test)
    )
    named = on_train.labels >= 0  # clusters beyond the number of classes have no name
    probe = linear_probe(train.h[torch.as_tensor(named)], on_train.labels[named])
    fine = np.arange(int(train.fine.max()) + 1)
    return {
        "train": on_train.accuracy,
        "test": on_test.accuracy,
        "probe": probe.accuracy(test.h, test.fine),
        "confusion": confusion_matrix(train.fine, on_train.labels, labels=fine).tolist(),
    }


def _pixel_accuracy(fields: dict[str, Any], k: int | Sequence[int], method: str) -> float:
    """Accuracy of clustering the training images of a configuration's data set and grouping."""
    (images, _), grouping = task(RunConfig(**fields))
    coarse = grouping.coarse(images.labels)
    components = pixel_components(images.images)
    return match_labels(reconstruct_labels(components, coarse, k, method), images.labels).accuracy


def measures(run: Run) -> list[dict[str, Any]]:
    """Neural collapse of the coarse labels and MSDR of the fine classes, over training.

    Returns
    -------
    list of JSON-ready dict, one for each measured epoch and split: "epoch", "split", the keys of
    ``nclib.measures.collapse.collapse_of``, "msdr" and "explained_variance", means over the fine classes that
    have siblings and over their super-classes (if there are any), and from the history "accuracy" and "nc4",
    which on both splits compares with the class means of train.
    """
    return remembered(run, _measures)


def _measures(run: Run) -> list[dict[str, Any]]:
    recorded = {record["epoch"]: record for record in run.history}
    inside = {"msdr": mean_msdr, "explained_variance": mean_explained_variance}
    if max(fine_per_coarse(run)) == 1:
        inside = {}  # trained on its fine classes: nothing is inside them
    return [
        {"epoch": epoch, "split": split}
        | collapse_of(run.moments(split, epoch).grouped(run.grouping.fine_to_coarse), run.head(epoch)[0])
        | {name: recorded[epoch][f"{split}_{name}"] for name in ("nc4", "accuracy")}
        | {name: measure(run, split, epoch) for name, measure in inside.items()}
        for epoch in run.measured_epochs
        for split in ("train", "test")
    ]


def trajectory(run: Run) -> list[dict[str, Any]]:
    """``measures`` of a run of the store, and "kmeans", how accurately it clusters the features at each.

    Of train those images that are followed, see ``Run.features``.
    """
    k = fine_per_coarse(run)
    rows = measures(run)
    for row in rows:
        f = run.features(row["split"], row["epoch"])
        row["kmeans"] = match_labels(reconstruct_labels(f.h, f.coarse, k, "kmeans"), f.fine).accuracy
    return rows


def halfway(epochs: Sequence[int]) -> int:
    """The measured epoch nearest to half of training, the earlier of two."""
    return min(epochs, key=lambda epoch: abs(epoch - epochs[-1] / 2))


def terminal_epoch(runs: Sequence[Run]) -> int | None:
    """First measured epoch at which all runs are in the terminal phase; None if one never gets there.

    A run is in it from its first measured epoch with a train accuracy of at least 99.9 %: Papyan, Han
    and Donoho (2020), but for the word "measured".
    """
    begins = []
    for run in runs:
        accurate = [r["epoch"] for r in run.history if r.get("train_accuracy", 0) >= TERMINAL_ACCURACY]
        if not accurate:
            return None
        begins.append(accurate[0])
    return max(begins)


def coarse_nc1(run: Run, split: str = "train", epoch: int = -1) -> float:
    """NC1 of the coarse labels at a measured epoch."""
    return collapse_of(run.moments(split, epoch).grouped(run.grouping.fine_to_coarse))["nc1"]


def mean_msdr(run: Run, split: str = "train", epoch: int = -1) -> float:
    """MSDR at a measured epoch, averaged over the fine classes that have siblings."""
    return float(torch.nanmean(msdr_of(run.moments(split, epoch), run.grouping.fine_to_coarse)))


def mean_explained_variance(run: Run, split: str = "train", epoch: int = -1) -> float:
    """Explained variance at a measured epoch, averaged over the super-classes of several fine classes."""
    shares = explained_variance_of(run.moments(split, epoch), run.grouping.fine_to_coarse)
    return float(shares.nanmean())
