"""Chapter 3: distances between classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, Normalize
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator
from numpy.typing import ArrayLike
from torch import Tensor

from nclib.chapters.conclusions import Case, Statement
from nclib.chapters.figures import OFF_SCALE, WIDTH, by_super_class, described, draw_edges, theme
from nclib.chapters.statistics import NOT_NEGATIVE, UNLIMITED, with_interval
from nclib.data.grouping import Grouping
from nclib.measures.distances import distances_of, ratio_to_siblings, relative_distances, sibling_pairs
from nclib.runs.baselines import pixel_distances
from nclib.runs.evaluation import fewest_images, terminal_epoch
from nclib.runs.run import Run

CONTRAST_NAMES = {  # keys of ``contrasts``: title, what is possible, how a cell is written
    "siblings": ("siblings", NOT_NEGATIVE, "{:.2f}"),
    "others": ("other super-classes", NOT_NEGATIVE, "{:.2f}"),
    "difference": ("excess", UNLIMITED, "{:.2g}"),
    "msdr": ("MSDR", NOT_NEGATIVE, "{:.2f}"),
}
STAGES = ("initialisation", "before the end", "end")  # measured epochs that are shown
SPLITS = ("test", "train")
ALIKE = 0.8  # siblings at initialisation: their R over that of other classes; the choice is ours


def stages(run: Run) -> dict[str, int]:
    """Three measured epochs to look at: "initialisation", "before the end" and "end".

    "before the end" is the first with a coarse train accuracy of at least 99.9 %. Where that is the last, or
    where there is none, it is the one before the last, so that there is something to compare with.
    """
    epochs = run.measured_epochs
    begin = terminal_epoch([run])
    between = epochs[-2] if begin in (None, epochs[-1]) else begin
    return dict(zip(STAGES, (epochs[0], between, epochs[-1]), strict=True))


def distances_over_training(run: Run, split: str) -> dict[str, Tensor]:
    """Class distances (C, C) of pixels and at the ``stages`` of a run, by a title for each."""
    accuracy = {record["epoch"]: record.get("train_accuracy") for record in run.history}
    found = {"pixels": pixel_distances(run, split)}
    for stage, epoch in stages(run).items():
        name = stage if stage == "initialisation" else f"epoch {epoch}"
        title = f"{name}\ncoarse accuracy {100 * accuracy[epoch]:.1f} %"
        found[title] = distances_of(run.moments(split, epoch))
    return found


def contrasts(distances: Tensor, group: Tensor) -> dict[str, float]:
    """What a heatmap shows, in four numbers.

    Parameters
    ----------
    distances : (C, C) of ``class_distances``.
    group : (C,) super-class of every class.

    Returns
    -------
    dict. "siblings" and "others": mean of ``relative_distances`` over pairs of classes of one super-class,
    and of two. "difference": by how much siblings are further apart than samples of one class, mean of
    D(c, c') - (D(c, c) + D(c', c')) / 2, over the mean of D between super-classes; the definition is ours.
    "msdr": its mean. Where no class has siblings all but "others" are not a number.
    """
    siblings, others = sibling_pairs(group), group[:, None] != group[None, :]
    relative, own = relative_distances(distances), distances.diagonal()
    gaps = distances - (own[:, None] + own[None, :]) / 2
    return {
        "siblings": float(relative[siblings].mean()),
        "others": float(relative[others].mean()),
        "difference": float(gaps[siblings].mean() / distances[others].mean()),
        "msdr": float(torch.nanmean(ratio_to_siblings(distances, group))),
    }


def explained_by(distances: Tensor, group: Tensor) -> float:
    """The variance that classes explain inside super-classes, mean of their shares, from distances alone.

    Parameters
    ----------
    distances : (C, C) of ``class_distances``.
    group : (C,) super-class of every class.

    Notes
    -----
    Of k equally large classes with mean variance s, whose means lie g apart in the square, on average over
    pairs: (k - 1) g / 2k over the same plus s. It is ``explained_variance`` without samples.
    """
    own = distances.diagonal()
    gaps = distances - (own[:, None] + own[None, :]) / 2
    shares = []
    for coarse in group.unique():
        inside = group == coarse
        k = int(inside.sum())
        if k > 1:
            between = float(gaps[inside][:, inside].sum()) / (2 * k * k)  # k (k - 1) pairs
            shares.append(between / (between + float(own[inside].mean()) / 2))
    return sum(shares) / len(shares)


def siblings_table(runs_of: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """R of siblings by stage on test, and ``contrasts`` at the end. Means over seeds, 95 % interval."""
    rows = []
    for name, runs in runs_of.items():
        of_seeds = [of_run["test"] for of_run in _by_stage(runs)]
        row = {"data": name, "seeds": len(runs)}
        for stage in ("pixels", "initialisation", "end"):
            values = [found[stage]["siblings"] for found in of_seeds]
            values = values[:1] if stage == "pixels" else values
            row[f"siblings, {stage}"] = with_interval(values, NOT_NEGATIVE, "{:.2f}")
        for key in ("others", "difference", "msdr"):
            title, limits, form = CONTRAST_NAMES[key]
            row[f"{title}, end"] = with_interval((found["end"][key] for found in of_seeds), limits, form)
        rows.append(row)
    return pd.DataFrame(rows).set_index("data")


def _contrasts_of(
    runs: Sequence[Run], epochs: Sequence[int] | None, split: str, group: Tensor
) -> list[dict[str, float]]:
    """At one epoch of each run; of the pixels, which do not depend on the seed, once."""
    if epochs is None:
        return [contrasts(pixel_distances(runs[0], split), group)]
    measured = zip(runs, epochs, strict=True)
    return [contrasts(distances_of(run.moments(split, epoch)), group) for run, epoch in measured]


def statements(runs_of: Mapping[str, Sequence[Run]]) -> list[Statement]:
    """What this chapter's runs decide, from ``contrasts``: a value for each run of a name."""
    contrasts_of = {name: _by_stage(runs) for name, runs in runs_of.items()}
    return statements_of(contrasts_of, fewest_images(runs_of))


def _by_stage(runs: Sequence[Run]) -> list[dict[str, dict[str, dict[str, float]]]]:
    """``contrasts`` of each run by split, and in that of pixels, at initialisation and at the end."""
    group = runs[0].grouping.fine_to_coarse
    first, last = ([stages(run)[stage] for run in runs] for stage in (STAGES[0], STAGES[-1]))
    when = {"pixels": None, "initialisation": first, "end": last}
    found = {
        split: {stage: _contrasts_of(runs, epochs, split, group) for stage, epochs in when.items()}
        for split in SPLITS
    }
    return [
        {
            split: {stage: of[0 if stage == "pixels" else number] for stage, of in of_split.items()}
            for split, of_split in found.items()
        }
        for number in range(len(runs))
    ]


def statements_of(
    contrasts_of: Mapping[str, Sequence[Mapping[str, Mapping[str, Mapping[str, float]]]]],
    n_of: Mapping[str, Mapping[str, int]],
) -> list[Statement]:
    """``statements`` from ``contrasts`` by split and stage ("pixels", "initialisation", "end")."""

    def cases(
        effect: Callable[[Mapping[str, Mapping[str, float]]], float], splits: Sequence[str], suffix: str = ""
    ) -> list[Case]:
        return [
            Case(f"{name}, {split}{suffix}", [effect(run[split]) for run in of], n_of[name][split])
            for name, of in contrasts_of.items()
            for split in splits
        ]

    def ratio(stages: Mapping[str, Mapping[str, float]], stage: str) -> float:
        return stages[stage]["siblings"] / stages[stage]["others"]

    def gap(stages: Mapping[str, Mapping[str, float]], stage: str) -> float:
        """(R - 1) / (R + 1) of the mean R, which is not quite the mean of that of every pair."""
        return (stages[stage]["siblings"] - 1) / (stages[stage]["siblings"] + 1)

    both = [
        Case(name, [gap(run["train"], "end") - gap(run["test"], "end") for run in of], n_of[name]["test"])
        for name, of in contrasts_of.items()
    ]
    return [
        Statement(
            "Before training, siblings are about as far apart as classes of different super-classes",
            "R of siblings over R of others, or its inverse if smaller, at initialisation",
            cases(lambda of: min(ratio(of, "initialisation"), 1 / ratio(of, "initialisation")), ["test"]),
            above=ALIKE,
        ),
        Statement(
            "Training makes the blocks: other super-classes move further apart than siblings do",
            "log2 of R of other classes over R of siblings, the end minus initialisation",
            cases(lambda of: float(np.log2(ratio(of, "initialisation") / ratio(of, "end"))), ["test"]),
        ),
        Statement(
            "Training also moves siblings apart, relative to their variance",
            "(R - 1) / (R + 1) of siblings, the end minus initialisation or pixels",
            [
                case
                for stage in ("initialisation", "pixels")
                for case in cases(
                    lambda of, stage=stage: gap(of, "end") - gap(of, stage), SPLITS, f", against {stage}"
                )
            ],
        ),
        Statement(
            "At the end of training, siblings are further apart on training images than on test images",
            "(R - 1) / (R + 1) of siblings, train minus test",
            both,
        ),
    ]


MOST_SIDE_BY_SIDE = 3  # heatmaps of one row; more are broken into two
MOST_NAMED = 20  # classes whose names fit beside a heatmap
WIDEST = 2.5  # inches of a heatmap with numbers in its cells, and the space beside it
NUMBER = 7.5  # points of a number in a cell: 10 pixels
MOST_CHARACTERS = 4  # of such a number


@theme()
def raw_distances_figure(distances: ArrayLike, grouping: Grouping) -> Axes:
    """Class distances in two colour scales: of all of them, and of those inside one super-class.

    Parameters
    ----------
    distances : (C, C) of ``nclib.class_distances``.
    """
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.3), layout="constrained")
    matrix, inside = np.asarray(distances), _inside(grouping)
    siblings = sibling_pairs(grouping.fine_to_coarse).numpy()
    norms = Normalize(0, matrix.max()), Normalize(0, matrix[inside].max())
    for panel, norm, scale in zip(panels, norms, ("all distances", "inside super-classes"), strict=True):
        image = _heatmap(panel, matrix, grouping, norm)
        extend = "max" if norm is norms[1] else "neither"
        figure.colorbar(image, ax=panel, extend=extend, label="squared feature units")
        panel.set_title(scale, fontsize="medium")
    figure.suptitle("Class distances in two colour scales: of all pairs, and of pairs inside a super-class")
    words = (
        f"inside one class {np.diag(matrix).mean():.3g}, between classes of one super-class "
        f"{matrix[siblings].mean():.3g}, of two {matrix[~inside].mean():.3g}"
    )
    return described(panels[0], f"Mean squared class distances: {words}.")


@theme()
def relative_distances_figure(
    rows: Mapping[str, Mapping[str, ArrayLike]], grouping: Grouping, title: str = ""
) -> Axes:
    """Relative class distances, on one colour scale for all panels.

    Colours are for distances inside a super-class, which are also written down; those between super-classes
    that are larger than all of these are grey.

    Parameters
    ----------
    rows : for each name, class distances (C, C) by the title of their panel.
    """
    relative = {
        name: {when: relative_distances(matrix).numpy() for when, matrix in of_row.items()}
        for name, of_row in rows.items()
    }
    inside = _inside(grouping)
    shown = np.concatenate([matrix[inside] for of_row in relative.values() for matrix in of_row.values()])
    norm = LogNorm(min(1, shown.min()), shown.max())
    columns = max(len(of_row) for of_row in rows.values())
    lines = len(rows)
    if lines == 1 and columns > MOST_SIDE_BY_SIDE:
        columns = -(-columns // 2)
        lines = 2
    side = min(WIDEST, (WIDTH - 1) / columns)
    figure, panels = plt.subplots(
        lines, columns, figsize=(1 + side * columns, 1.75 + (side + 0.3) * lines), squeeze=False, sharex=True,
        sharey=True, layout="constrained",
    )  # fmt: skip
    cell = 72 * side / len(grouping.fine_names)
    room = int(cell / (0.6 * NUMBER))  # a digit is 0.64 as wide as its size, the point half of that
    by_name = panels.reshape(len(rows), -1)
    for line, (name, of_row) in zip(by_name, relative.items(), strict=True):
        for panel in line[len(of_row) :]:
            panel.axis("off")
        for panel, (when, matrix) in zip(line, of_row.items(), strict=False):
            image = _heatmap(panel, matrix, grouping, norm, characters=min(room, MOST_CHARACTERS))
            panel.set_title(when, fontsize="small")
        line[0].set_ylabel(name)
    bar = figure.colorbar(image, ax=panels, extend="max", location="bottom", aspect=50, shrink=0.6, pad=0.02)
    bar.set_label("relative distance R (1: equal means)")
    bar.ax.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    bar.ax.xaxis.set_major_formatter("{x:g}")
    bar.ax.minorticks_off()
    figure.suptitle(title or "Relative class distances over training")
    siblings = sibling_pairs(grouping.fine_to_coarse).numpy()
    words = "; ".join(
        f"{name}, {when}: inside super-classes {m[siblings].mean():.2f}, between {m[~inside].mean():.2f}"
        for name, of_row in relative.items()
        for when, m in of_row.items()
    ).replace("\n", ", ")
    return described(panels[0, 0], f"Relative class distances. Means: {words}.")


def _heatmap(
    panel: Axes,
    matrix: np.ndarray,
    grouping: Grouping,
    norm: Normalize,
    characters: int = 0,
) -> QuadMesh | AxesImage:
    """A (C, C) matrix ordered by super-class; what lies above the colour scale is grey.

    Parameters
    ----------
    characters : that a cell has room for; without room for a decimal, three, no numbers are written.
    """
    order, edges = by_super_class(grouping)
    cmap = sns.color_palette("mako_r", as_cmap=True).with_extremes(over=OFF_SCALE)
    few = len(order) <= MOST_NAMED
    names = [grouping.fine_names[fine] for fine in order] if few else []
    ordered = matrix[np.ix_(order, order)]
    if few:  # seaborn's heatmap draws the figure every time
        image = panel.pcolormesh(ordered, norm=norm, cmap=cmap)
    else:  # a pixel a cell, which weighs less than many cells at the resolution of figures
        place = {"extent": (0, len(order), len(order), 0), "interpolation": "none"}
        image = panel.imshow(ordered, norm=norm, cmap=cmap, **place)
    panel.set(xlim=(0, len(order)), ylim=(len(order), 0), aspect="equal")
    panel.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90)
    panel.set_yticks(np.arange(len(names)) + 0.5, names)
    panel.tick_params(labelsize="x-small")
    panel.grid(False)
    panel.spines[:].set_visible(False)
    draw_edges(panel, edges)
    if characters >= 3:
        siblings = sibling_pairs(grouping.fine_to_coarse[order])
        for i, j in siblings.triu().nonzero().tolist():  # the matrix is symmetric
            light = norm(ordered[i, j]) > 0.5
            panel.text(j + 0.5, i + 0.5, _short(ordered[i, j], characters), color="w" if light else "k",
                       fontsize=NUMBER, ha="center", va="center")  # fmt: skip
    return image


def _short(value: float, characters: int) -> str:
    """A number with the decimals that so many characters, the point among them, have room for."""
    decimals = max(0, characters - 1 - len(f"{value:.0f}"))
    return f"{value:.{decimals}f}"


def _inside(grouping: Grouping) -> np.ndarray:
    """Which pairs of fine classes lie in one super-class, each class with itself included; (C, C) bool."""
    group = grouping.fine_to_coarse.numpy()
    return group[:, None] == group[None, :]
