"""Chapter 4: t-SNE inside a super-class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from nclib.chapters.figures import MARKERS, described
from nclib.chapters.statistics import interval, with_interval
from nclib.chapters.tables import shown_split
from nclib.measures.embedding import tsne
from nclib.measures.neighbours import neighbour_purity
from nclib.networks.features import FeatureSet
from nclib.runs.baselines import NEIGHBOURS, spaces
from nclib.runs.evaluation import embedding, tsne_inside
from nclib.runs.run import Run

SPACES = {"features": "features", "untrained": "untrained network", "pixels": "pixels"}
TSNE_STARTS = {  # name: initialization and seed
    "principal components": ("pca", 0),
    "random, seed 0": ("random", 0),
    "random, seed 1": ("random", 1),
}


def of_label(f: FeatureSet, coarse: int) -> FeatureSet:
    """The samples of one coarse label."""
    rows = f.coarse == coarse
    return replace(f, h=f.h[rows], fine=f.fine[rows], coarse=f.coarse[rows])


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


def tsne_grid_figure(
    grid: Mapping[tuple[str, float], ArrayLike], f: FeatureSet, names: Sequence[str]
) -> Axes:
    """One coarse label embedded from several starts (rows) at several perplexities (columns).

    Each panel states the neighbour purity of its picture, in the plane.

    Parameters
    ----------
    grid : of ``nclib.chapters.tsne.tsne_grid``.
    f : the samples, of one coarse label.
    names : of all fine classes.
    """
    starts, perplexities = (list(dict.fromkeys(keys)) for keys in zip(*grid, strict=True))
    figure, panels = plt.subplots(
        len(starts),
        len(perplexities),
        figsize=(2.5 * len(perplexities) + 0.4, 2.3 * len(starts) + 0.8),
        squeeze=False,
        layout="constrained",
    )
    fine, purities = f.fine.numpy(), []
    for panel, ((start, perplexity), points) in zip(panels.flat, grid.items(), strict=True):
        for member in np.unique(fine):
            panel.scatter(*np.asarray(points)[fine == member].T, s=3, lw=0, label=names[member])
        purities.append(neighbour_purity(points, f.fine, f.coarse).mean())
        panel.set(xticks=[], yticks=[])
        panel.set_title(f"perplexity {perplexity:g}, purity {purities[-1]:.3f}", fontsize="small")
        if panel in panels[:, 0]:
            panel.set_ylabel(start, fontsize="small")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), markerscale=4)
    figure.suptitle("The picture changes with its settings, the purity of neighbours hardly does")
    text = (
        f"{len(grid)} t-SNE pictures of {' and '.join(labels)}; the neighbour purity in the plane goes from "
        f"{min(purities):.3f} to {max(purities):.3f}."
    )
    return described(panels[0, 0], text)


def neighbours_figure(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> Axes:
    """Neighbour purity of features, of the untrained network and of pixels, beside chance.

    Points are means over seeds, bars their 95 % intervals.

    Parameters
    ----------
    results : a list of ``nclib.runs.baselines.neighbours`` for each name, one entry a seed.
    """
    rows = {
        f"{name}\n{split}": [result[split] for result in of_seeds]
        for name, of_seeds in results.items()
        for split in ("train", "test")
        if split in of_seeds[0]
    }
    k = next(iter(results.values()))[0]["k"]
    _, axes = plt.subplots(figsize=(6.5, 1.2 + 0.7 * len(rows)), layout="constrained")
    words = []
    for at, (name, of_seeds) in enumerate(rows.items()):
        for number, (space, title) in enumerate(SPACES.items()):
            values = [part["all"][space] for part in of_seeds]
            mean, half = interval(values[:1] if space == "pixels" else values)  # pixels know no seed
            style = {"color": f"C{number}", "marker": MARKERS[number], "ms": 6, "lw": 1.5, "ls": "none"}
            axes.errorbar(mean, at + 0.2 * (number - 1), xerr=half, label=title if at == 0 else None, **style)
            words.append(f"{name}, {title}: {mean:.3f}".replace("\n", ", "))
        axes.plot([of_seeds[0]["chance"]] * 2, [at - 0.4, at + 0.4], color="0.4", ls=":")
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.set_xlim(right=1.01)
    axes.set_xlabel(f"share of {k} nearest neighbours with the same fine label")
    axes.set_title("Neighbours share the hidden class (dotted: chance)")
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1))
    return described(axes, f"Neighbour purity. {'; '.join(words)}.")
