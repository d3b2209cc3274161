"""Chapter 1: neural collapse, measured while it happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from nclib.chapters.figures import PALETTE, described
from nclib.chapters.statistics import over_seeds
from nclib.runs.evaluation import coarse_nc1, mean_msdr, measures, terminal_epoch
from nclib.runs.run import Run

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


COLLAPSE_PANELS = {  # title: measure, whose name ends in _means and _weights where there are both
    "accuracy": "accuracy",
    "NC1: variability": "nc1",
    "NC3: self-duality": "nc3",
    "NC4: nearest mean": "nc4",
    "NC2: equinorm": "nc2_equinorm",
    "NC2: equiangular": "nc2_equiangular",
    "NC2: maximal angle": "nc2_maxangle",
}
COLLAPSE_STYLES = {  # name: colour, line style
    "train data": ("C0", "-"),
    "test data": ("C1", "--"),
    "classifier alone": ("C2", ":"),
}


def collapse_and_structure_figure(runs: Sequence[Run], title: str = "") -> Axes:
    """NC1 of the coarse labels and MSDR of the fine classes over training, one line a run.

    Both are on one logarithmic axis, because both are ratios of variations. MSDR is the mean over fine
    classes that have siblings. Shown on train data.
    """
    _, axes = plt.subplots(figsize=(6.5, 4), layout="constrained")
    nc1_color, msdr_color = sns.color_palette(PALETTE)[:2]
    for number, run in enumerate(runs):
        epochs = run.measured_epochs
        nc1 = [coarse_nc1(run, "train", epoch) for epoch in epochs]
        ratio = [mean_msdr(run, "train", epoch) for epoch in epochs]
        names = ("NC1 of coarse labels", "MSDR of fine classes") if number == 0 else (None, None)
        axes.plot(epochs, nc1, "o-", ms=3, color=nc1_color, label=names[0])
        axes.plot(epochs, ratio, "s-", ms=3, color=msdr_color, label=names[1])
    axes.axhline(1, color="0.4", lw=1, ls=":", label="MSDR without structure")
    axes.set(xscale="symlog", yscale="log", xlabel="epoch (0: untrained)", ylabel="ratio of variations")
    axes.set_xlim(left=0)
    axes.set_xticks(epochs[::2], epochs[::2])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_title(title or "Coarse labels collapse, fine classes stay apart")
    axes.legend(fontsize="small")
    text = (
        f"Over {epochs[-1]} epochs NC1 of the coarse labels goes from {nc1[0]:.3g} to {nc1[-1]:.3g}, while "
        f"the mean MSDR of the fine classes goes from {ratio[0]:.2f} to {ratio[-1]:.2f} (last run shown)."
    )
    return described(axes, text)


def collapse_figure(runs: Sequence[Run], title: str = "") -> Axes:
    """NC1 to NC4 and accuracy of the labels that were trained on, over training; one line a run.

    Measures of the classifier alone know no split. Shaded: all runs are in the terminal phase.
    """
    figure, panels = plt.subplots(2, 4, figsize=(11, 5.4), sharex=True, layout="constrained")
    rows_of = [measures(run) for run in runs]
    begin, epochs = terminal_epoch(runs), runs[0].measured_epochs
    right = 1.15 * epochs[-1]
    for panel, (name, measure) in zip(panels.flat, COLLAPSE_PANELS.items(), strict=False):
        if begin is not None:
            panel.axvspan(begin, right, color="0.88", lw=0)
        for rows in rows_of:
            _collapse_lines(panel, rows, measure)
        panel.set_title(name, fontsize="medium")
        if measure != "nc1":
            panel.set_ylim(bottom=0)
    panels[0, 0].set(xscale="symlog", xlim=(0, right))
    shown = [*[epoch for epoch in epochs if epoch < epochs[-1] / 2][::2], epochs[-1]]
    panels[0, 0].set_xticks(shown, shown)
    panels[0, 1].set_yscale("log")
    panels[0, 1].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if len(runs) > 1 else (1,)))
    panels[0, 1].yaxis.set_major_formatter("{x:g}")
    for panel in (*panels[1, :3], panels[0, 3]):
        panel.set_xlabel("epoch (0: untrained)")
        panel.tick_params(labelbottom=True)
    for panel in panels.flat:
        panel.minorticks_off()
    _collapse_legend(panels[1, 3], begin)
    figure.suptitle(title or "Neural collapse, measured while it happens")
    first, last = ([row for row in rows_of[0] if row["split"] == "train"][at] for at in (0, -1))
    ends = ", ".join(
        f"{key} from {first[key]:.3g} to {last[key]:.3g}" for key in ("nc1", "nc3", "nc4", "accuracy")
    )
    phase = "is not reached" if begin is None else f"begins at epoch {begin}"
    text = (
        f"Seven panels over {epochs[-1]} epochs. First run, train data: {ends}. The terminal phase {phase}."
    )
    return described(panels[0, 0], text)


def _collapse_lines(panel: Axes, rows: Sequence[Mapping[str, Any]], measure: str) -> None:
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
        handles.append(plt.Rectangle((0, 0), 1, 1, color="0.88", label=f"terminal phase, from epoch {begin}"))
    panel.legend(handles=handles, loc="center", frameon=False)
