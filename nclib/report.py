"""The numbers that chapters state, as functions of runs.

    results(run)["reconstruction"]["tsne-kmeans"]["train"]      # accuracy of the reconstructed labels

A released run carries its results; for a run of the store they are computed from its features.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student_t
from sklearn.decomposition import PCA
from sklearn.metrics import confusion_matrix
from torch import Tensor

from nclib.baselines import NEIGHBOURS, pixel_distances, pixels, spaces
from nclib.collapse import collapse_of
from nclib.config import RunConfig
from nclib.embed import tsne
from nclib.features import FeatureSet
from nclib.grouping import task
from nclib.paths import BENCHMARKS
from nclib.probe import linear_probe
from nclib.released import ReleasedRun
from nclib.remember import remembered
from nclib.run import Run
from nclib.structure import (
    distances_of,
    match_labels,
    msdr_of,
    neighbour_purity,
    ratio_to_siblings,
    reconstruct_labels,
    relative_distances,
    sibling_pairs,
)
from nclib.variance import explained_variance_of

METHOD_NAMES = {
    "kmeans": "k-means",
    "pca-gmm": "Gaussian mixture",
    "spectral": "spectral",
    "tsne-kmeans": "t-SNE + k-means",
}
METHODS = tuple(METHOD_NAMES)
COLLAPSE_NAMES = {  # keys of ``measures`` in the order of NC1 to NC4
    "nc1": "NC1",
    "nc2_equinorm_means": "NC2 equinorm, means",
    "nc2_equinorm_weights": "NC2 equinorm, classifier",
    "nc2_equiangular_means": "NC2 equiangular, means",
    "nc2_equiangular_weights": "NC2 equiangular, classifier",
    "nc2_maxangle_means": "NC2 maximal angle, means",
    "nc2_maxangle_weights": "NC2 maximal angle, classifier",
    "nc3": "NC3",
    "nc4": "NC4",
    "accuracy": "accuracy",
}
TERMINAL_ACCURACY = 0.999  # on train
PIXEL_COMPONENTS = 50  # principal components of the images that are clustered for comparison
SPACES = {"features": "features", "untrained": "untrained network", "pixels": "pixels"}
CONTRAST_NAMES = {  # keys of ``contrasts``: title, how a cell is written
    "siblings": ("siblings", "{:.2f}"),
    "others": ("other labels", "{:.2f}"),
    "difference": ("difference / other labels", "{:.2g}"),
    "msdr": ("MSDR", "{:.2f}"),
}
TSNE_STARTS = {  # name: initialization and seed
    "principal components": ("pca", 0),
    "random, seed 0": ("random", 0),
    "random, seed 1": ("random", 1),
}


def results(run: Run, k: int = 0, seed: int = 0, methods: Sequence[str] = METHODS) -> dict[str, Any]:
    """Reconstruction and probes of a run.

    Parameters
    ----------
    run : of the store, or a released one, which carries its results.
    k : clusters inside each super-class; 0 means as many as it has fine classes.
    seed : of the clustering and of t-SNE.
    methods : of the reconstruction; a released run has those that it was released with.

    Returns
    -------
    dict, JSON-ready. All accuracies are shares of samples.
    "reconstruction" : per method, "train" and "test": each split clustered by itself inside its true
        coarse labels, then matched one to one; "probe": accuracy on the true fine labels of test of a
        linear probe trained on the labels that were reconstructed on train; "confusion": (C, C) counts
        of true (rows) against matched labels on train.
    "pixels" : per method, accuracy on train of clustering 50 principal components of the pixels.
    "probe", "probe_per_class" : of a linear probe trained on the true fine labels, on test.
    "chance" : accuracy of labels drawn at random inside each super-class, after the same matching.
    "seconds" : that all this took.
    """
    if run.released and k == 0:
        return run.results
    start = time.perf_counter()
    clusters = k or tuple(fine_per_coarse(run))
    return {
        "reconstruction": {m: remembered(run, _reconstruction_of, clusters, m, seed) for m in methods},
        "pixels": {m: _pixel_accuracy(replace(run.config, seed=0), clusters, m, seed) for m in methods},
        **remembered(run, _probe_of),
        "chance": chance_accuracy(run.features("train"), clusters, seed),
        "seconds": time.perf_counter() - start,
    }


def _probe_of(run: Run) -> dict[str, Any]:
    train, test = run.features("train"), run.features("test")
    probe = linear_probe(train.h, train.fine)
    return {
        "probe": probe.accuracy(test.h, test.fine),
        "probe_per_class": probe.per_class_accuracy(test.h, test.fine).tolist(),
    }


def _reconstruction_of(run: Run, k: int | Sequence[int], method: str, seed: int) -> dict[str, Any]:
    return _reconstruction(run.features("train"), run.features("test"), k, method, seed)


def fine_per_coarse(run: Run) -> list[int]:
    """Number of fine classes in every super-class."""
    return [len(run.grouping.members(c)) for c in range(run.grouping.num_coarse)]


def chance_accuracy(f: FeatureSet, k: int | Sequence[int], seed: int = 0) -> float:
    """Accuracy of labels drawn at random inside each super-class, after the same matching."""
    clusters = np.broadcast_to(k, len(f.weight))
    offset = np.concatenate([[0], np.cumsum(clusters)[:-1]])
    random = np.random.default_rng(seed).random(len(f.h))
    coarse = f.coarse.numpy()
    pseudo = offset[coarse] + (random * clusters[coarse]).astype(np.int64)
    return match_labels(pseudo, f.fine).accuracy


def of_label(f: FeatureSet, coarse: int) -> FeatureSet:
    """The samples of one coarse label."""
    rows = f.coarse == coarse
    return replace(f, h=f.h[rows], fine=f.fine[rows], coarse=f.coarse[rows])


def tsne_inside(f: FeatureSet, perplexity: float = 30, seed: int = 0) -> np.ndarray:
    """t-SNE of each super-class by itself. (N, 2) float64, in the order of ``f``."""
    points = np.empty((len(f.h), 2))
    for coarse in f.coarse.unique():
        rows = f.coarse == coarse
        points[rows.numpy()] = tsne(f.h[rows], perplexity, seed)
    return points


def embedding(run: Run) -> np.ndarray:
    """``tsne_inside`` of the test features, as released or computed now."""
    return run.embedding if run.released else np.array(remembered(run, _embedding_of))


def _embedding_of(run: Run) -> list[list[float]]:
    return tsne_inside(run.features("test")).tolist()


def _reconstruction(
    train: FeatureSet, test: FeatureSet, k: int | Sequence[int], method: str, seed: int
) -> dict[str, Any]:
    on_train, on_test = (
        match_labels(reconstruct_labels(f.h, f.coarse, k, method, seed), f.fine) for f in (train, test)
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


@cache  # the images of all seeds are the same
def _pixel_accuracy(config: RunConfig, k: int | tuple[int, ...], method: str, seed: int) -> float:
    (images, _), grouping = task(config)
    coarse = grouping.coarse(images.labels)
    x = pixels(images.images).numpy()  # (N, C H W)
    components = PCA(min(PIXEL_COMPONENTS, *x.shape), random_state=seed).fit_transform(x)
    return match_labels(reconstruct_labels(components, coarse, k, method, seed), images.labels).accuracy


def reconstruction_table(results_of: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """Reconstruction accuracies by data and method; several results of one name are seeds.

    A cell is the mean over seeds with its 95 % interval. Pixels know no seed.
    """
    rows = []
    for name, seeds in results_of.items():
        for method, title in METHOD_NAMES.items():
            with_method = [r for r in seeds if method in r["reconstruction"]]
            if not with_method:
                continue
            found = [r["reconstruction"][method] for r in with_method]
            row = {"data": name, "method": title, "seeds": len(found)}
            row["found again, train"] = with_interval(r["train"] for r in found)
            row["found again, test"] = with_interval(r["test"] for r in found)
            row["probe on found labels"] = with_interval(r["probe"] for r in found)
            row["probe on true labels"] = with_interval(r["probe"] for r in with_method)
            row["pixels, train"] = f"{with_method[0]['pixels'][method]:.3f}"
            row["chance"] = f"{with_method[0]['chance']:.3f}"
            rows.append(row)
    return pd.DataFrame(rows).set_index(["data", "method"])


def collapse_table(runs_of: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Coarse accuracy, NC1 of coarse labels and mean MSDR of fine classes at the end of training."""
    rows = []
    for name, runs in runs_of.items():
        last = [run.history[-1] for run in runs]
        row = {"data": name}
        for split in ("train", "test"):
            row[f"coarse accuracy, {split}"] = over_seeds(record[f"{split}_accuracy"] for record in last)
        row["NC1 of coarse labels, train"] = over_seeds((coarse_nc1(run) for run in runs), "{:.2g}")
        for split in ("train", "test"):
            row[f"MSDR, {split}"] = over_seeds((mean_msdr(run, split) for run in runs), "{:.2f}")
        rows.append(row)
    return pd.DataFrame(rows).set_index("data")


def measures(run: Run) -> list[dict[str, Any]]:
    """Neural collapse of the coarse labels and MSDR of the fine classes, over training.

    Returns
    -------
    list of JSON-ready dict, one for each measured epoch and split: "epoch", "split", the keys of
    ``nclib.collapse.collapse_of``, "msdr" and "explained_variance", means over the fine classes that have
    siblings and over their super-classes (if there are any), and from the history "accuracy" and "nc4",
    which on both splits compares with the class means of train.
    """
    recorded = {record["epoch"]: record for record in run.history}
    return [
        {"epoch": epoch, "split": split}
        | collapse_of(run.moments(split, epoch).grouped(run.grouping.fine_to_coarse), run.head(epoch)[0])
        | {name: recorded[epoch][f"{split}_{name}"] for name in ("nc4", "accuracy")}
        | (_structure(run, split, epoch) if max(fine_per_coarse(run)) > 1 else {})
        for epoch in run.measured_epochs
        for split in ("train", "test")
    ]


def _structure(run: Run, split: str, epoch: int) -> dict[str, float]:
    explained = explained_variance_of(run.moments(split, epoch), run.grouping.fine_to_coarse)
    return {"msdr": mean_msdr(run, split, epoch), "explained_variance": float(explained.nanmean())}


def trajectory(run: Run, method: str = "kmeans") -> list[dict[str, Any]]:
    """``measures`` of a run of the store, and the accuracy of clustering its features at each of them.

    Under the name of the method; of train those images that are followed, see ``Run.features``.
    """
    k = fine_per_coarse(run)
    rows = measures(run)
    for row in rows:
        f = run.features(row["split"], row["epoch"])
        row[method] = match_labels(reconstruct_labels(f.h, f.coarse, k, method), f.fine).accuracy
    return rows


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


def neural_collapse_table(runs_of: Mapping[str, Sequence[Run]], split: str = "train") -> pd.DataFrame:
    """NC1 to NC4 in the untrained network and at the end of training, a column for each name.

    A cell is the mean over seeds, with the lowest and the highest in brackets.
    """
    columns = {}
    for name, runs in runs_of.items():
        rows = [[row for row in measures(run) if row["split"] == split] for run in runs]
        for position, when in ((0, "untrained"), (-1, "end")):
            columns[name, when] = {
                title: over_seeds(of_run[position][key] for of_run in rows)
                for key, title in COLLAPSE_NAMES.items()
            }
    table = pd.DataFrame(columns)
    table.columns.names = ["data", split]
    return table


def coarse_nc1(run: Run, split: str = "train", epoch: int = -1) -> float:
    """NC1 of the coarse labels at a measured epoch."""
    return collapse_of(run.moments(split, epoch).grouped(run.grouping.fine_to_coarse))["nc1"]


def mean_msdr(run: Run, split: str = "train", epoch: int = -1) -> float:
    """MSDR at a measured epoch, averaged over the fine classes that have siblings."""
    return float(torch.nanmean(msdr_of(run.moments(split, epoch), run.grouping.fine_to_coarse)))


def msdr_table(run: Run, split: str = "test") -> pd.DataFrame:
    """MSDR of every fine class at the end of training, siblings side by side."""
    group = run.grouping.fine_to_coarse
    columns = {"label": group.tolist(), f"MSDR, {split}": msdr_of(run.moments(split), group).tolist()}
    table = pd.DataFrame(columns, index=pd.Index(run.grouping.fine_names, name="class"))
    return table.sort_values("label", kind="stable").round(2).T


def stages(run: Run) -> dict[str, int]:
    """Three measured epochs to look at: "untrained", "on the way" and "end".

    "on the way" is the first with a coarse train accuracy of at least 99.9 %. Where that is the last, or
    where there is none, it is the one before the last, so that there is something to compare with.
    """
    epochs = run.measured_epochs
    begin = terminal_epoch([run])
    between = epochs[-2] if begin in (None, epochs[-1]) else begin
    return {"untrained": epochs[0], "on the way": between, "end": epochs[-1]}


def distances(run: Run) -> dict[str, Tensor]:
    """Class distances (C, C) of both splits at the end of training."""
    return {split: distances_of(run.moments(split)) for split in ("train", "test")}


def distances_over_training(run: Run, split: str) -> dict[str, Tensor]:
    """Class distances (C, C) of pixels and at the ``stages`` of a run, by a title for each."""
    accuracy = {record["epoch"]: record.get("train_accuracy") for record in run.history}
    found = {"pixels": pixel_distances(run, split)}
    for stage, epoch in stages(run).items():
        name = "untrained" if stage == "untrained" else f"epoch {epoch}"
        title = f"{name}\ncoarse accuracy {100 * accuracy[epoch]:.1f} %"
        found[title] = distances_of(run.moments(split, epoch))
    return found


def contrasts(distances: Tensor, group: Tensor) -> dict[str, float]:
    """What a heatmap shows, in four numbers.

    Parameters
    ----------
    distances : (C, C) of ``class_distances``.
    group : (C,) coarse label of every class.

    Returns
    -------
    dict. "siblings" and "others": mean of ``relative_distances`` over pairs of classes with one label, and
    with two. "difference": by how much siblings are further apart than samples of one class, mean of
    D(c, c') - (D(c, c) + D(c', c')) / 2, over the mean of D between labels; the definition is ours. "msdr":
    its mean. Where no class has siblings all but "others" are not a number.
    """
    siblings, others = sibling_pairs(group), group[:, None] != group[None, :]
    relative, width = relative_distances(distances), distances.diagonal()
    gaps = distances - (width[:, None] + width[None, :]) / 2
    return {
        "siblings": float(relative[siblings].mean()),
        "others": float(relative[others].mean()),
        "difference": float(gaps[siblings].mean() / distances[others].mean()),
        "msdr": float(torch.nanmean(ratio_to_siblings(distances, group))),
    }


def distance_table(runs_of: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """``contrasts`` of pixels and at the stages of training. A cell is the mean over seeds, 95 % interval."""
    rows = []
    for name, runs in runs_of.items():
        group = runs[0].grouping.fine_to_coarse
        for stage in ("pixels", "untrained", "on the way", "end"):
            epochs = None if stage == "pixels" else [stages(run)[stage] for run in runs]
            row = {"data": name, "when": stage, "epoch": "-", "coarse accuracy, train": "-"}
            if epochs:
                low, high = min(epochs), max(epochs)
                row["epoch"] = f"{low}" if low == high else f"{low} to {high}"
                row["coarse accuracy, train"] = over_seeds(_accuracies(runs, epochs))
            for split in ("train", "test"):
                of_seeds = _contrasts_of(runs, epochs, split, group)
                for key, (title, form) in CONTRAST_NAMES.items():
                    row[f"{title}, {split}"] = with_interval((found[key] for found in of_seeds), form)
            rows.append(row)
    return pd.DataFrame(rows).set_index(["data", "when"]).T


def _accuracies(runs: Sequence[Run], epochs: Sequence[int]) -> list[float]:
    records = [{record["epoch"]: record for record in run.history} for run in runs]
    return [of_run[epoch]["train_accuracy"] for of_run, epoch in zip(records, epochs, strict=True)]


def _contrasts_of(
    runs: Sequence[Run], epochs: Sequence[int] | None, split: str, group: Tensor
) -> list[dict[str, float]]:
    """At one epoch of each run; of the pixels, which know no seed, once."""
    if epochs is None:
        return [contrasts(pixel_distances(runs[0], split), group)]
    measured = zip(runs, epochs, strict=True)
    return [contrasts(distances_of(run.moments(split, epoch)), group) for run, epoch in measured]


def shown_split(run: Run) -> str:
    """Whose features a page draws: those of train, or of test for a released run, which has no others."""
    return "test" if run.released else "train"


def neighbour_table(
    results_of: Mapping[str, Sequence[Mapping[str, Any]]], names: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """``neighbours`` by data and split. A cell is the mean over seeds with its 95 % interval.

    Parameters
    ----------
    results_of : a list of ``neighbours`` for each name, one entry a seed.
    names : of the fine classes, by the same names.
    """
    rows = []
    for name, of_seeds in results_of.items():
        for split in (split for split in ("train", "test") if split in of_seeds[0]):
            parts = [result[split] for result in of_seeds]
            row = {"data": name, "split": split, "n": f"{parts[0]['n']:,}"}
            for space, title in SPACES.items():
                # pixels know no seed
                chosen = parts[:1] if space == "pixels" else parts
                row[title] = with_interval(part["all"][space] for part in chosen)
            row["chance"] = f"{parts[0]['chance']:.3f}"
            by_class = np.mean([part["features"] for part in parts], axis=0)
            worst = int(by_class.argmin())
            row["least pure class, features"] = f"{names[name][worst]}: {by_class[worst]:.3f}"
            rows.append(row)
    return pd.DataFrame(rows).set_index(["data", "split"])


def pictures(run: Run) -> dict[str, tuple[FeatureSet, np.ndarray]]:
    """t-SNE inside each label of features, of the untrained network's, and of pixels, by space.

    Of the train split, or of test for a released run, whose picture of its features is the released one.
    """
    return {
        space: (f, embedding(run) if run.released and space == "features" else tsne_inside(f))
        for space, f in spaces(run, shown_split(run)).items()
    }


def least_pure_label(f: FeatureSet, k: int = NEIGHBOURS) -> int:
    """The coarse label whose samples have the least pure neighbourhoods."""
    purity, coarse = neighbour_purity(f.h, f.fine, f.coarse, k), f.coarse.numpy()
    return int(np.argmin(np.bincount(coarse, purity) / np.bincount(coarse)))


def tsne_grid(f: FeatureSet, perplexities: Sequence[float]) -> dict[tuple[str, float], np.ndarray]:
    """t-SNE of features from each of ``TSNE_STARTS`` at each perplexity, (N, 2) by both."""
    return {
        (name, perplexity): tsne(f.h, perplexity, seed, start)
        for name, (start, seed) in TSNE_STARTS.items()
        for perplexity in perplexities
    }


def rounding_table(tables: Mapping[str, Sequence[pd.DataFrame]], factor: float = 1) -> pd.DataFrame:
    """MSDR and found labels by data and number format, at one depth of collapse.

    Parameters
    ----------
    tables : of ``nclib.precision.rounding``; several of one name are seeds.
    factor : how much further than trained; 1 is as trained.
    """
    rows = []
    for name, of_seeds in tables.items():
        joined = pd.concat(of_seeds)
        for kept, of_format in joined[joined["factor"] == factor].groupby("format", sort=False):
            rows.append(
                {
                    "data": name,
                    "format": kept,
                    "NC1 before rounding": over_seeds(of_format["nc1"], "{:.2g}"),
                    "MSDR": over_seeds(of_format["msdr"], "{:.4f}"),
                    "found again, k-means": over_seeds(of_format["found"], "{:.4f}"),
                }
            )
    return pd.DataFrame(rows).set_index(["data", "format"])


def by_experiment(runs: Iterable[ReleasedRun]) -> dict[str, list[ReleasedRun]]:
    """Released runs by name without "-seedN", those of one name in the order of their seeds."""
    grouped: dict[str, list[ReleasedRun]] = {}
    for run in sorted(runs, key=lambda run: run.config.seed):
        grouped.setdefault(run.folder.name.rpartition("-seed")[0], []).append(run)
    return dict(sorted(grouped.items()))


def provenance_table(runs_of: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Where the numbers of a chapter come from."""
    rows = []
    for name, runs in runs_of.items():
        c, made = runs[0].config, runs[0].provenance
        n_train, n_test = (int(runs[0].moments(split).counts.sum()) for split in ("train", "test"))
        rows.append(
            {
                "data": name,
                "n train / test": f"{n_train:,} / {n_test:,}",
                "network": f"{c.arch}, width {c.width}",
                "epochs": c.epochs,
                "augmentation": c.augment,
                "seeds": ", ".join(str(run.config.seed) for run in runs),
                "time a run": duration(float(np.mean([run.provenance["seconds"] for run in runs]))),
                "device": made["device"],
                "torch": made["torch"],
                "commit": ", ".join(dict.fromkeys(short_commit(run.provenance["commit"]) for run in runs)),
            }
        )
    return pd.DataFrame(rows).set_index("data").T


def short_commit(commit: str) -> str:
    """The first ten digits of a commit; still "-dirty" if it was."""
    return commit[:10] + ("-dirty" if commit.endswith("-dirty") else "")


DISTANCES_COLUMNS = {  # of benchmarks/results/distances.json
    "samples": ("N", "{:,}"),
    "dimension": ("D", "{:,}"),
    "classes": ("C", "{:,}"),
    "method": ("method", "{}"),
    "seconds": ("s", "{:.3f}"),
    "peak_over_features": ("peak memory / features", "{:.2f}"),
    "relative_error": ("relative error", "{:.0e}"),
    "relative_error_close_pairs": ("the same, close pairs", "{:.0e}"),
}
MEASURES_COLUMNS = {  # of benchmarks/results/measures.json: title, how a cell is written
    "samples": ("N", "{:,}"),
    "dimension": ("D", "{:,}"),
    "classes": ("C", "{:,}"),
    "method": ("method", "{}"),
    "nc1_seconds": ("NC1, s", "{:.3f}"),
    "all_seconds": ("all measures, s", "{:.3f}"),
    "peak_over_features": ("peak memory / features", "{:.2f}"),
    "nc1_relative_error": ("relative error of NC1", "{:.0e}"),
    "nc1_relative_error_close_pairs": ("the same, close pairs", "{:.0e}"),
}
SEEDS_COLUMNS = {  # of benchmarks/results/many_seeds.json
    "case": ("network and loss", "{}"),
    "seeds": ("seeds", "{}"),
    "apart_seconds": ("one after another, s", "{:.3f}"),
    "together_seconds": ("as one program, s", "{:.3f}"),
    "chosen": ("nclib chooses", "{}"),
}


NETWORKS_COLUMNS = {  # of benchmarks/results/phase_diagram.json
    "how": ("how", "{}"),
    "networks": ("networks", "{:,}"),
    "seconds": ("s", "{:.0f}"),
    "seconds_lowest": ("fastest", "{:.0f}"),
    "seconds_highest": ("slowest", "{:.0f}"),
}


def benchmark_table(name: str, columns: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Rows that a benchmark wrote under benchmarks/results, a dash where nothing was measured."""
    rows = benchmark(name)["rows"]
    cells = [
        {title: "-" if row[key] is None else form.format(row[key]) for key, (title, form) in columns.items()}
        for row in rows
    ]
    return pd.DataFrame(cells).set_index(next(title for title, _ in columns.values()))


def benchmark(name: str) -> dict[str, Any]:
    """What a benchmark wrote under benchmarks/results."""
    return json.loads((BENCHMARKS / f"{name}.json").read_text(encoding="utf-8"))


def benchmark_provenance(name: str) -> str:
    """Where and how a benchmark was taken, for a caption."""
    record = benchmark(name)
    made = record["provenance"]
    repeats = sorted({row["repeats"] for row in record["rows"]})
    return (
        f"Medians of {' or '.join(map(str, repeats))} repeats; {made['device']}, threads: {made['threads']}, "
        f"torch {made['torch']}, commit {short_commit(made['commit'])}."
    )


def describe(run: Run) -> str:
    """What was trained, for a caption."""
    c = run.config
    return f"{c.dataset}, grouping {c.grouping}, {c.arch} of width {c.width}, {c.epochs} epochs"


def duration(seconds: float) -> str:
    """Seconds, or minutes from two minutes on."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def end_table(runs_of: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Collapse of the coarse labels and what is left of the fine ones at the end of training, by name.

    A cell is the mean over seeds with its 95 % interval. On train, unless it says test.
    """
    rows = []
    for name, runs in runs_of.items():
        ends = [{row["split"]: row for row in measures(run)[-2:]} for run in runs]
        found = [results(run, methods=METHODS[:1]) for run in runs]
        row = {"": name, "seeds": len(runs)}
        for split in ("train", "test"):
            row[f"coarse accuracy, {split}"] = with_interval(end[split]["accuracy"] for end in ends)
        for key in ("nc1", "nc2_maxangle_means", "nc2_maxangle_weights", "nc3", "nc4"):
            row[COLLAPSE_NAMES[key]] = with_interval((end["train"][key] for end in ends), "{:.2g}")
        row["MSDR of fine classes"] = with_interval((end["train"]["msdr"] for end in ends), "{:.2f}")
        accuracies = [r["reconstruction"][METHODS[0]]["train"] for r in found]
        row[f"fine labels found again, {METHOD_NAMES[METHODS[0]]}"] = with_interval(accuracies)
        row["probe on fine labels, test"] = with_interval(r["probe"] for r in found)
        rows.append(row)
    return pd.DataFrame(rows).set_index("").T


def detection_table(rows: pd.DataFrame, measure: str = "auroc") -> pd.DataFrame:
    """A measure of detection by score (rows) and by outliers, training and labels (columns).

    Parameters
    ----------
    rows : of ``nclib.outliers.detections``.
    measure : "auroc" or "fpr95".

    Returns
    -------
    text: mean over seeds with its 95 % interval.
    """
    keys = ["outliers", "trained on", "score", "labels"]
    cells = rows.groupby(keys, sort=False)[measure].agg(with_interval)
    table = cells.unstack("outliers", sort=False)
    table.columns.name = {"auroc": "AUROC", "fpr95": "FPR at 95 % TPR"}[measure]
    return table


def best_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """For all outliers and trainings, the score and labelling with the highest mean AUROC over seeds.

    Parameters
    ----------
    rows : as in ``detection_table``.

    Notes
    -----
    The best of many is chosen on the samples that judge it: a comparison of bests, not a forecast.
    """
    found = []
    for (kind, trained), of_case in rows.groupby(["outliers", "trained on"], sort=False):
        of_score = of_case.groupby(["score", "labels"], sort=False)
        best = of_score["auroc"].mean().idxmax()
        chosen = of_score.get_group(best)
        row = {"outliers": kind, "trained on": trained, "best score": best[0], "labels": best[1]}
        row |= {"AUROC": with_interval(chosen["auroc"]), "worst seed": f"{chosen['auroc'].min():.3f}"}
        found.append(
            row | {"FPR at 95 % TPR": with_interval(chosen["fpr95"]), "outliers, n": chosen["n"].iloc[0]}
        )
    return pd.DataFrame(found).set_index(["outliers", "trained on"])


def interval(values: Iterable[float]) -> tuple[float, float]:
    """Mean of independent values, and half the width of its 95 % interval.

    Student's t; the half width of a single value is not a number.
    """
    values = np.fromiter(values, float)
    if len(values) < 2:
        return float(values.mean()), float("nan")
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(student_t.ppf(0.975, len(values) - 1) * error)


def with_interval(values: Iterable[float], form: str = "{:.3f}") -> str:
    """Mean of some values with its 95 % interval; the value itself where there is one."""
    mean, half = interval(values)
    return form.format(mean) + ("" if np.isnan(half) else f" ± {half:.1g}")


def over_seeds(values: Iterable[float], form: str = "{:.3f}") -> str:
    """Mean of some values, with the lowest and the highest where there are several; a dash if undefined."""
    values = list(values)
    if np.isnan(values).all():
        return "-"
    mean, low, high = (form.format(f(values)) for f in (np.mean, min, max))
    return mean if low == high else f"{mean} ({low} to {high})"
