"""Chapter 4: t-SNE inside a super-class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from nclib.chapters.conclusions import CLOSE, Case, Statement
from nclib.chapters.figures import MARKERS, described, theme
from nclib.chapters.statistics import SHARE, error_bar, with_interval
from nclib.chapters.tables import SPACES
from nclib.data.grouping import Grouping
from nclib.measures.embedding import tsne
from nclib.measures.neighbours import neighbour_purity
from nclib.networks.features import FeatureSet
from nclib.runs.baselines import NEIGHBOURS
from nclib.runs.released import REFERENCE_IMAGES
from nclib.runs.rows import of_rows, stratified_rows
from nclib.runs.run import Run

Grid = Mapping[tuple[str, float], ArrayLike]  # embeddings (N, 2) by start and perplexity
TSNE_STARTS = {  # name: initialization and seed
    "principal components": ("pca", 0),
    "random, seed 0": ("random", 0),
    "random, seed 1": ("random", 1),
}

SAME = 0.05  # two agreements in the plane; the bound is our choice
PERPLEXITIES = (5, 30, 90)


def statements(
    results_of: Mapping[str, Sequence[Mapping[str, Any]]],
    agreement: Mapping[str, Sequence[float]],
    n: int,
) -> list[Statement]:
    """What this chapter's runs decide.

    Parameters
    ----------
    results_of : a list of ``neighbours`` for each name, one entry a seed.
    agreement : by the name of a run, of all embeddings of one super-class, of ``grid_agreement``.
    n : images of which each was embedded.
    """

    def cases(effect: Callable[[Mapping[str, Any]], float], suffix: str = "") -> list[Case]:
        return [Case(name + suffix, [effect(result["test"]) for result in of], of[0]["test"]["n"])
                for name, of in results_of.items()]  # fmt: skip

    def above(reference: str) -> Callable[[Mapping[str, Any]], float]:
        return lambda part: part["all"]["features"] - part["all"][reference]

    return [
        Statement(
            "Training raises the label agreement of nearest neighbours",
            "k-NN label agreement on test, features minus features at initialisation",
            cases(above("untrained")),
        ),
        Statement(
            "Neighbours in feature space agree more often than neighbours in pixel space, by more than"
            f" {CLOSE:g}",
            "k-NN label agreement on test, features minus pixels",
            cases(above("pixels")),
            above=CLOSE,
        ),
        Statement(
            "The label agreement of neighbours in the plane hardly depends on the settings of t-SNE",
            "lowest minus highest agreement, over starts and perplexities, of one super-class",
            [Case(name, [min(values) - max(values)], n) for name, values in agreement.items()],
            above=-SAME,
        ),
    ]


def of_super_class(f: FeatureSet, coarse: int) -> FeatureSet:
    """The samples of one super-class."""
    return of_rows(f, f.coarse == coarse)


def neighbour_table(
    results_of: Mapping[str, Sequence[Mapping[str, Any]]], names: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """``neighbours`` on test. A cell is the mean over seeds with its 95 % interval.

    Parameters
    ----------
    results_of : a list of ``neighbours`` for each name, one entry a seed.
    names : of the fine classes, by the same names.
    """
    rows = []
    for name, of_seeds in results_of.items():
        parts = [result["test"] for result in of_seeds]
        row = {"data": name, "n": f"{parts[0]['n']:,}"}
        for space, title in SPACES.items():
            chosen = parts[:1] if space == "pixels" else parts  # which do not depend on the seed
            row[title] = with_interval((part["all"][space] for part in chosen), SHARE)
        row["chance"] = f"{parts[0]['chance']:.3f}"
        by_class = np.mean([part["features"] for part in parts], axis=0)
        worst = int(by_class.argmin())
        row["class of lowest agreement, features"] = f"{names[name][worst]}: {by_class[worst]:.3f}"
        rows.append(row)
    return pd.DataFrame(rows).set_index("data")


@theme()
def spaces_figure(spaces_of: Mapping[str, FeatureSet], coarse: int, grouping: Grouping) -> Axes:
    """t-SNE of one super-class from its features, from those at initialisation and from its pixels.

    Parameters
    ----------
    spaces_of : of ``nclib.runs.baselines.spaces``.
    coarse : the super-class.
    """
    figure, panels = plt.subplots(1, len(spaces_of), figsize=(3 * len(spaces_of), 3.4), layout="constrained")
    for panel, (space, f) in zip(panels, spaces_of.items(), strict=True):
        inside = of_super_class(f, coarse)
        points, fine = tsne(inside.h), inside.fine.numpy()
        for member in grouping.members(coarse):
            panel.scatter(*points[fine == member].T, s=5, lw=0, label=grouping.fine_names[member])
        panel.set(xticks=[], yticks=[])
        panel.set_title(SPACES[space], fontsize="medium")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), markerscale=4)
    title = "One super-class in three spaces; colours are fine classes"
    figure.suptitle(title)
    return described(panels[0], f"{title}: {' and '.join(labels)}, in {', '.join(SPACES.values())}.")


def least_agreeing_super_class(f: FeatureSet, k: int = NEIGHBOURS) -> int:
    """The super-class of the lowest k-NN label agreement."""
    agreement, coarse = neighbour_purity(f.h, f.fine, f.coarse, k), f.coarse.numpy()
    return int(np.argmin(np.bincount(coarse, agreement) / np.bincount(coarse)))


def mixed(run: Run, k: int = NEIGHBOURS) -> FeatureSet:
    """Some test images of the super-class of the lowest k-NN label agreement in them."""
    f = run.features("test")
    f = of_rows(f, stratified_rows(f.fine, REFERENCE_IMAGES))
    return of_super_class(f, least_agreeing_super_class(f, k))


def tsne_grid(f: FeatureSet, perplexities: Sequence[float] = PERPLEXITIES) -> Grid:
    """t-SNE of features from each of ``TSNE_STARTS`` at each perplexity, (N, 2) by both."""
    return {
        (name, perplexity): tsne(f.h, perplexity, seed, start)
        for name, (start, seed) in TSNE_STARTS.items()
        for perplexity in perplexities
    }


def grid_agreement(grid: Grid, f: FeatureSet) -> dict[tuple[str, float], float]:
    """Mean k-NN label agreement in the plane of every embedding of a ``tsne_grid`` of ``f``."""
    return {at: float(neighbour_purity(points, f.fine, f.coarse).mean()) for at, points in grid.items()}


def settings_table(agreement: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """Lowest and highest of the agreements under all settings, by run."""
    rows = {name: (min(values), max(values)) for name, values in agreement.items()}
    return pd.DataFrame.from_dict(rows, "index", columns=["lowest", "highest"]).map("{:.3f}".format)


@theme()
def tsne_grid_figure(
    grid: Grid, agreement: Mapping[tuple[str, float], float], fine: ArrayLike, names: Sequence[str]
) -> Axes:
    """One super-class embedded from several starts (rows) at several perplexities (columns).

    Parameters
    ----------
    grid : of ``nclib.chapters.tsne.tsne_grid``.
    agreement : of ``nclib.chapters.tsne.grid_agreement``, stated above each panel.
    fine : (N,) fine labels of the samples.
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
    fine = np.asarray(fine)
    for panel, ((start, perplexity), points) in zip(panels.flat, grid.items(), strict=True):
        for member in np.unique(fine):
            panel.scatter(*np.asarray(points)[fine == member].T, s=3, lw=0, label=names[member])
        panel.set(xticks=[], yticks=[])
        stated = f"perplexity {perplexity:g}, agreement {agreement[start, perplexity]:.3f}"
        panel.set_title(stated, fontsize="small")
        if panel in panels[:, 0]:
            panel.set_ylabel(start, fontsize="small")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), markerscale=4)
    figure.suptitle("One super-class under nine settings of t-SNE" if len(grid) == 9 else "Settings of t-SNE")
    text = (
        f"{len(grid)} t-SNE embeddings of {' and '.join(labels)}; the k-NN label agreement in the plane goes "
        f"from {min(agreement.values()):.3f} to {max(agreement.values()):.3f}."
    )
    return described(panels[0, 0], text)


@theme()
def neighbours_figure(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> Axes:
    """k-NN label agreement on test in features, in those at initialisation and in pixels, beside chance.

    Points are means over seeds, bars those of ``error_bar``.

    Parameters
    ----------
    results : a list of ``nclib.runs.baselines.neighbours`` for each name, one entry a seed.
    """
    rows = {name: [result["test"] for result in of_seeds] for name, of_seeds in results.items()}
    k = next(iter(results.values()))[0]["k"]
    _, axes = plt.subplots(figsize=(6.5, 1.2 + 0.7 * len(rows)), layout="constrained")
    words = []
    for at, (name, of_seeds) in enumerate(rows.items()):
        for number, (space, title) in enumerate(SPACES.items()):
            values = [part["all"][space] for part in of_seeds]
            values = values[:1] if space == "pixels" else values  # no seed
            mean, *bar = error_bar(values, SHARE)
            style = {"color": f"C{number}", "marker": MARKERS[number], "ms": 6, "lw": 1.5, "ls": "none"}
            label = title if at == 0 else None
            axes.errorbar(mean, at + 0.2 * (number - 1), xerr=[[b] for b in bar], label=label, **style)
            words.append(f"{name}, {title}: {mean:.3f}")
        axes.plot([of_seeds[0]["chance"]] * 2, [at - 0.4, at + 0.4], color="0.4", ls=":")
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.set_xlim(right=1.01)
    axes.set_xlabel(f"k-NN label agreement inside the super-class, k = {k}")
    axes.set_title("k-NN label agreement in three spaces (dotted: chance)")
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1))
    return described(axes, f"k-NN label agreement. {'; '.join(words)}.")
