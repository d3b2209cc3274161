"""Chapter 1: neural collapse over training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from nclib.chapters.conclusions import Case, Statement
from nclib.chapters.figures import SHADE, described, epochs_axis, theme
from nclib.chapters.statistics import over_seeds
from nclib.runs.evaluation import TERMINAL_ACCURACY

Measures = Sequence[Mapping[str, Any]]  # of ``nclib.runs.evaluation.measures``
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

LIKE_THE_NEAREST_MEAN = 0.99  # share of decisions; the bounds are our choice


def statements(
    fine: Sequence[Measures],
    coarse: Sequence[Measures],
    released: Mapping[str, Sequence[Measures]],
    live: str,
    n_of: Mapping[str, Mapping[str, int]],
    classes: tuple[int, int],
) -> list[Statement]:
    """What this chapter's runs decide.

    Parameters
    ----------
    fine, coarse : the page's own runs, trained on fine and on coarse labels: an entry for each seed, in
        the same order.
    released : the same of released runs, by name.
    live : the name of the page's own runs.
    n_of : number of images by split, by the same names.
    classes : how many fine and how many coarse labels.
    """
    own = {f"{live}: fine labels": fine, f"{live}: coarse labels": coarse}

    def cases(effect: Callable[[Measures], float | None], split: str = "train") -> list[Case]:
        found = {name: [effect(measures) for measures in of] for name, of in (own | released).items()}
        images = {name: n_of[live if name in own else name][split] for name in found}
        kept = {name: [v for v in values if v is not None] for name, values in found.items()}
        return [Case(name, values, images[name]) for name, values in kept.items() if values]

    ends = [
        [np.log2(nc1_per_direction(m, c)) for m in of] for of, c in zip((fine, coarse), classes, strict=True)
    ]
    gaps = np.abs(np.subtract(*ends))  # (seeds,)
    return [
        Statement(
            "NC1 falls more before the terminal phase than in it",
            "log2 of the factor by which NC1 falls until the first measured epoch with 99.9 % train accuracy,"
            " minus the same from there on (runs with later epochs)",
            cases(_before_minus_within),
        ),
        Statement(
            "A network on coarse labels ends within a factor of two of the collapse of one on fine labels",
            "minus the absolute difference of log2 tr(Sigma_W pinv(Sigma_B)) / (C - 1) at the end, train",
            [Case(live, (-gaps).tolist(), n_of[live]["train"])],
            above=-1,
        ),
        Statement(
            "Test images collapse less than training images",
            "log2 of NC1 on test over NC1 on train, at the end",
            cases(lambda m: float(np.log2(_last(m, "test", "nc1") / _last(m, "train", "nc1"))), "test"),
        ),
        Statement(
            "Where nearly all training images are fitted, the classifier decides almost like the nearest"
            " class mean",
            "1 - NC4 at the end, train, of runs that end with 99.9 % of it right",
            cases(_like_the_nearest_mean),
            above=LIKE_THE_NEAREST_MEAN,
        ),
    ]


def _last(measures: Measures, split: str, key: str) -> float:
    return of_split(measures, split)[-1][key]


def _before_minus_within(measures: Measures) -> float | None:
    """How much more log2 NC1 falls before the terminal phase than in it; None without two epochs in it."""
    rows = of_split(measures, "train")
    logs = [float(np.log2(row["nc1"])) for row in rows]
    terminal = [log for log, row in zip(logs, rows, strict=True) if row["accuracy"] >= TERMINAL_ACCURACY]
    if len(terminal) < 2:
        return None
    return (logs[0] - terminal[0]) - (terminal[0] - logs[-1])


def _like_the_nearest_mean(measures: Measures) -> float | None:
    """Share of train images on which both decide alike at the end; None of a run that has not fitted them."""
    fitted = _last(measures, "train", "accuracy") >= TERMINAL_ACCURACY
    return 1 - _last(measures, "train", "nc4") if fitted else None


def nc1_per_direction(measures: Measures, classes: int) -> float:
    """NC1 of train at the end, divided by C - 1, the directions of the class means, instead of by C."""
    return _last(measures, "train", "nc1") * classes / (classes - 1)


def smaller_at_the_end(measured: Mapping[str, Sequence[Measures]], classes: Mapping[str, int]) -> str:
    """Which of two kinds of labels ends with the smaller ``nc1_per_direction``, as a reader chooses.

    Parameters
    ----------
    measured, classes : by kind of label, an entry for each seed, and the number of classes.
    """
    ends = {name: [nc1_per_direction(m, classes[name]) for m in of] for name, of in measured.items()}
    lower, higher = sorted(ends, key=lambda name: np.mean(ends[name]))
    overlap = max(ends[lower]) >= min(ends[higher])
    return "neither, since the seeds overlap" if overlap else f"the {lower} labels"


def neural_collapse_table(
    measures_of: Mapping[str, Sequence[Measures]], split: str = "train"
) -> pd.DataFrame:
    """NC1 to NC4 at initialisation and at the end of training, a column for each name.

    A cell is the mean over seeds, with the lowest and the highest in brackets.

    Parameters
    ----------
    measures_of : for each name a list of ``nclib.runs.evaluation.measures``, one entry a seed.
    """
    columns = {}
    for name, of_seeds in measures_of.items():
        rows = [of_split(measures, split) for measures in of_seeds]
        for position, when in ((0, "initialisation"), (-1, "end")):
            columns[name, when] = {
                title: over_seeds(of_run[position][key] for of_run in rows)
                for key, title in COLLAPSE_NAMES.items()
            }
    table = pd.DataFrame(columns)
    table.columns.names = ["data", split]
    return table


def of_split(measures: Measures, split: str) -> list[Mapping[str, Any]]:
    return [row for row in measures if row["split"] == split]


COLLAPSE_PANELS = {  # title: measure, whose name ends in _means and _weights where there are both
    "accuracy": "accuracy",
    "NC1: variability": "nc1",
    "NC3: self-duality": "nc3",
    "NC4: nearest class mean": "nc4",
    "NC2: equinorm": "nc2_equinorm",
    "NC2: equiangular": "nc2_equiangular",
    "NC2: maximal angle": "nc2_maxangle",
}
COLLAPSE_STYLES = {  # name: colour, line style
    "train data": ("C0", "-"),
    "test data": ("C1", "--"),
    "classifier alone": ("C2", ":"),
}


@theme()
def collapse_and_structure_figure(of_seeds: Sequence[Measures], title: str = "") -> Axes:
    """NC1 of the coarse labels and explained variance of the fine classes over training, one line a run.

    Parameters
    ----------
    of_seeds : of ``nclib.runs.evaluation.measures``; train data are shown.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.4), layout="constrained")
    for measures in of_seeds:
        rows = of_split(measures, "train")
        epochs = [row["epoch"] for row in rows]
        nc1 = [row["nc1"] for row in rows]
        explained = [row.get("explained_variance", np.nan) for row in rows]
        left.plot(epochs, nc1, "o-", ms=3, color="C0")
        right.plot(epochs, explained, "s-", ms=3, color="C1")
    left.set(yscale="log", title="NC1 of the coarse labels")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter("{x:g}")
    right.axhline(0, color="0.4", lw=1, ls=":")
    right.set(title="explained variance of the fine classes", ylim=(-0.03, 1))
    for panel in (left, right):
        panel.set_xlabel("epoch (0: initialisation)")
        epochs_axis(panel, epochs[-1])
    figure.suptitle(title or "NC1 of coarse labels and explained variance of fine classes over training")
    text = (
        f"Over {epochs[-1]} epochs NC1 of the coarse labels goes from {nc1[0]:.3g} to {nc1[-1]:.3g}, and the "
        f"explained variance of the fine classes from {explained[0]:.2f} to {explained[-1]:.2f} (last run)."
    )
    return described(left, text)


@theme()
def collapse_figure(of_seeds: Sequence[Measures], begin: int | None, title: str = "") -> Axes:
    """NC1 to NC4 and accuracy of the labels that were trained on, over training; one line a run.

    Measures of the classifier alone do not depend on the split.

    Parameters
    ----------
    of_seeds : of ``nclib.runs.evaluation.measures``.
    begin : epoch from which all runs are in the terminal phase, which is shaded; None: none.
    """
    figure, panels = plt.subplots(2, 4, figsize=(11, 5.4), sharex=True, layout="constrained")
    epochs = [row["epoch"] for row in of_split(of_seeds[0], "train")]
    for panel, (name, measure) in zip(panels.flat, COLLAPSE_PANELS.items(), strict=False):
        if begin is not None:
            panel.axvspan(begin, 2 * epochs[-1], color=SHADE, lw=0)
        for rows in of_seeds:
            _collapse_lines(panel, rows, measure)
        panel.set_title(name, fontsize="medium")
        if measure != "nc1":
            panel.set_ylim(bottom=0)
    panels[0, 1].set_yscale("log")
    panels[0, 1].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if len(of_seeds) > 1 else (1,)))
    panels[0, 1].yaxis.set_major_formatter("{x:g}")
    for panel in (*panels[1, :3], panels[0, 3]):
        panel.set_xlabel("epoch (0: initialisation)")
        panel.tick_params(labelbottom=True)
    for panel in panels.flat:
        epochs_axis(panel, epochs[-1])
    _collapse_legend(panels[1, 3], begin)
    figure.suptitle(title or "Neural collapse over training")
    first, last = (of_split(of_seeds[0], "train")[at] for at in (0, -1))
    ends = ", ".join(
        f"{key} from {first[key]:.3g} to {last[key]:.3g}" for key in ("nc1", "nc3", "nc4", "accuracy")
    )
    phase = "is not reached" if begin is None else f"begins at epoch {begin}"
    text = (
        f"Seven panels over {epochs[-1]} epochs. First run, train data: {ends}. The terminal phase {phase}."
    )
    return described(panels[0, 0], text)


def _collapse_lines(panel: Axes, rows: Measures, measure: str) -> None:
    """The lines of one run in one panel."""
    paired = f"{measure}_means" in rows[0]
    keys = {"train data": ("train", f"{measure}_means" if paired else measure)}
    keys["test data"] = ("test", keys["train data"][1])
    if paired:
        keys["classifier alone"] = ("train", f"{measure}_weights")
    for name, (split, key) in keys.items():
        color, style = COLLAPSE_STYLES[name]
        points = [(row["epoch"], row[key]) for row in rows if row["split"] == split]
        panel.plot(*zip(*points, strict=True), color=color, ls=style, lw=1.2, marker="o", ms=2, label=name)


def _collapse_legend(panel: Axes, begin: int | None) -> None:
    """Turn a panel into the legend of all others."""
    panel.axis("off")
    handles = [
        plt.Line2D([], [], color=color, ls=style, marker="o", ms=2, label=name)
        for name, (color, style) in COLLAPSE_STYLES.items()
    ]
    if begin is not None:
        handles.append(plt.Rectangle((0, 0), 1, 1, color=SHADE, label=f"terminal phase, from epoch {begin}"))
    panel.legend(handles=handles, loc="center", frameon=False)
