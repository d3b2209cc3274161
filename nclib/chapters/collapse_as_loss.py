"""Chapter 10: collapse as a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from nclib.chapters.figures import MARKERS, described, theme
from nclib.chapters.neural_collapse import COLLAPSE_NAMES
from nclib.chapters.statistics import interval, with_interval
from nclib.runs.evaluation import METHOD_NAMES, METHODS, measures, results
from nclib.runs.run import Run


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


COMPARED_PANELS = {  # title: (measure, scale of its axis)
    "NC1: variability": ("nc1", "log"),
    "NC2: maximal angle, means": ("nc2_maxangle_means", "log"),
    "NC3: self-duality": ("nc3", "log"),
    "coarse accuracy": ("accuracy", "linear"),
    "NC4: nearest mean": ("nc4", "linear"),
    "MSDR of fine classes": ("msdr", "log"),
}


@theme()
def compared_figure(runs_of: Mapping[str, Sequence[Run]], title: str = "") -> Axes:
    """Collapse of the coarse labels and MSDR of the fine classes over training, a line for each name.

    Lines are means over runs on train data, bands their 95 % intervals.
    """
    figure, panels = plt.subplots(2, 3, figsize=(11, 5.6), sharex=True, layout="constrained")
    ends = []
    for number, (name, runs) in enumerate(runs_of.items()):
        rows_of = [[row for row in measures(run) if row["split"] == "train"] for run in runs]
        epochs = [row["epoch"] for row in rows_of[0]]
        for panel, (measure, scale) in zip(panels.flat, COMPARED_PANELS.values(), strict=True):
            values = [interval(row[measure] for row in of_epoch) for of_epoch in zip(*rows_of, strict=True)]
            mean, half = np.array(values).T
            style = {"color": f"C{number}", "marker": MARKERS[number % len(MARKERS)], "ms": 3}
            panel.plot(epochs, mean, label=name, **style)
            bottom = np.maximum(mean - half, mean / 10) if scale == "log" else mean - half
            panel.fill_between(epochs, bottom, mean + half, color=f"C{number}", alpha=0.2, lw=0)
            panel.set_yscale(scale)
        ends.append(f"{name}: " + ", ".join(f"{key} {rows_of[0][-1][key]:.3g}" for key in ("nc1", "msdr")))
    for panel, name in zip(panels.flat, COMPARED_PANELS, strict=True):
        panel.set_title(name, fontsize="medium")
    panels[0, 0].set(xscale="symlog")
    panels[0, 0].set_xlim(0, 1.05 * epochs[-1])
    shown = [*[epoch for epoch in epochs if epoch < epochs[-1] / 1.5][::2], epochs[-1]]
    panels[0, 0].set_xticks(shown, shown)
    panels[1, 2].axhline(1, color="0.4", lw=1, ls=":")
    panels[1, 2].yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5)))
    panels[1, 2].yaxis.set_major_formatter("{x:g}")
    for panel in panels[1]:
        panel.set_xlabel("epoch (0: untrained)")
    for panel in panels.flat:
        panel.minorticks_off()
    panels[0, 0].legend(fontsize="small")
    figure.suptitle(title or "What training makes of features")
    return described(panels[0, 0], f"Six panels. At the end, first run, train data: {'; '.join(ends)}.")
