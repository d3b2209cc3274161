"""One function for each kind of figure. Each returns the Axes, and leaves its alt text on them.

show(reconstruction_accuracy({"digits": results}), caption="...")
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import LogLocator
from numpy.typing import ArrayLike

from nclib import synthetic
from nclib.data import ImageSet
from nclib.features import FeatureSet
from nclib.grouping import Grouping
from nclib.ood import SCORES
from nclib.perclass import ACCURACIES, correlation, over_seeds, regression_band
from nclib.precision import FORMATS
from nclib.report import METHOD_NAMES, SPACES, coarse_nc1, interval, mean_msdr, measures, terminal_epoch
from nclib.run import Run
from nclib.structure import neighbour_purity, relative_distances, sibling_pairs

PALETTE = "colorblind"
DPI = 120
MOST_COLUMNS = 5  # of small multiples
SCATTERS = 3  # side by side
MOST_NAMES = 20  # beside points; of more points only the outermost are named
OUTERMOST = 2  # on each side
COLLAPSE_PANELS = {  # title: measure, whose name ends in _means and _weights where there are both
    "accuracy": "accuracy",
    "NC1: variability": "nc1",
    "NC3: self-duality": "nc3",
    "NC4: nearest mean": "nc4",
    "NC2: equinorm": "nc2_equinorm",
    "NC2: equiangular": "nc2_equiangular",
    "NC2: maximal angle": "nc2_maxangle",
}
COMPARED_PANELS = {  # title: (measure, scale of its axis)
    "NC1: variability": ("nc1", "log"),
    "NC2: maximal angle, means": ("nc2_maxangle_means", "log"),
    "NC3: self-duality": ("nc3", "log"),
    "coarse accuracy": ("accuracy", "linear"),
    "NC4: nearest mean": ("nc4", "linear"),
    "MSDR of fine classes": ("msdr", "log"),
}
ENDS_PANELS = {  # columns of ``nclib.conditions.ends``: title
    "accuracy": "coarse accuracy",
    "found": "labels found again",
    "msdr": "MSDR of fine classes",
    "nc1": "NC1 of coarse labels",
}
COLLAPSE_STYLES = {  # name: colour, line style
    "train data": ("C0", "-"),
    "test data": ("C1", "--"),
    "classifier alone": ("C2", ":"),
}
MARKERS = "sDoX^"
OFF_SCALE = "0.88"  # of distances between labels, where colours are for those inside one
MOST_NAMED = 20  # classes whose names fit beside a heatmap
sns.set_theme(style="whitegrid", palette=PALETTE)


def show(axes: Axes, caption: str) -> None:
    """Display a figure with its alt text and a caption, then close it."""
    from IPython.display import HTML, display

    buffer = io.BytesIO()
    axes.figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", facecolor="white")
    plt.close(axes.figure)
    image = base64.b64encode(buffer.getvalue()).decode()
    display(
        HTML(
            f'<figure class="nclib"><img src="data:image/png;base64,{image}" '
            f'alt="{html.escape(alt_text(axes))}"><figcaption>{html.escape(caption)}</figcaption></figure>'
        )
    )


def alt_text(axes: Axes) -> str:
    """What the figure shows, in words."""
    return axes.alt_text


def example_images(images: ImageSet, grouping: Grouping, per_class: int = 4) -> Axes:
    """The first images of every fine class, one row for each coarse label."""
    widest = max(len(grouping.members(c)) for c in range(grouping.num_coarse))
    rows = []
    for coarse in range(grouping.num_coarse):
        chosen = [
            index
            for fine in grouping.members(coarse)
            for index in torch.nonzero(images.labels == fine).flatten()[:per_class].tolist()
        ]
        tiles = images.images[chosen].permute(0, 2, 3, 1).numpy()  # (n, H, W, C)
        tiles = np.pad(
            tiles, ((0, widest * per_class - len(tiles)), (1, 1), (1, 1), (0, 0)), constant_values=255
        )
        rows.append(np.concatenate(tiles, axis=1))
    height = rows[0].shape[0]
    _, axes = plt.subplots(figsize=(8, 0.95 * len(rows) + 0.6), layout="constrained")
    axes.imshow(np.concatenate(rows).squeeze(), cmap="gray", aspect="equal")
    axes.set_yticks([height * (row + 0.5) for row in range(len(rows))], _wrapped(grouping.coarse_names))
    axes.set_xticks([])
    axes.grid(False)
    axes.set_title("Each row is one label for the network, several classes for the eye")
    return _described(axes, f"Sample images; rows are the coarse labels {', '.join(grouping.coarse_names)}.")


def collapse_and_structure(runs: Sequence[Run], title: str = "") -> Axes:
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
    return _described(axes, text)


def neural_collapse(runs: Sequence[Run], title: str = "") -> Axes:
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
    return _described(panels[0, 0], text)


def compared(runs_of: Mapping[str, Sequence[Run]], title: str = "") -> Axes:
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
    return _described(panels[0, 0], f"Six panels. At the end, first run, train data: {'; '.join(ends)}.")


def detection(rows: pd.DataFrame, title: str = "") -> Axes:
    """AUROC of every score and labelling, a panel for each kind of outliers, a colour for each training.

    Points are means over seeds, bars their 95 % intervals.

    Parameters
    ----------
    rows : of ``nclib.outliers.detections``.
    """
    kinds, trainings = (list(rows[column].unique()) for column in ("outliers", "trained on"))
    plain = rows["labels"] == "none"
    rows = rows.assign(case=rows["score"].where(plain, rows["score"] + ", " + rows["labels"]))
    rows = rows.sort_values("case", key=lambda cases: cases.map(_place_of_score), kind="stable")
    cases = list(rows["case"].unique())
    figure, panels = plt.subplots(
        1,
        len(kinds),
        figsize=(2.5 + 2.8 * len(kinds), 1.4 + 0.3 * len(cases)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    means = rows.groupby(["outliers", "case", "trained on"])["auroc"].agg(interval)
    for kind, panel in zip(kinds, panels[0], strict=True):
        for number, training in enumerate(trainings):
            shown = [(at, case) for at, case in enumerate(cases) if (kind, case, training) in means]
            mean, half = np.array([means[kind, case, training] for _, case in shown]).T
            height = [at + 0.5 * ((number + 0.5) / len(trainings) - 0.5) for at, _ in shown]
            style = {"color": f"C{number}", "marker": MARKERS[number % len(MARKERS)], "ms": 4, "lw": 1.2}
            panel.errorbar(mean, height, xerr=half, ls="none", label=training, **style)
        panel.axvline(0.5, color="0.4", ls=":")
        panel.set(xlabel="AUROC (dotted: chance)", title=kind)
        panel.set_xlim(right=1.01)
    panels[0, 0].set_yticks(range(len(cases)), cases)
    panels[0, 0].invert_yaxis()
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), title="trained on")
    figure.suptitle(title or "Which score finds which outliers")
    best = {kind: max(((m[0], c) for (k, c, _), m in means.items() if k == kind)) for kind in kinds}
    words = "; ".join(f"{kind}: {case} ({auroc:.3f})" for kind, (auroc, case) in best.items())
    return _described(panels[0, 0], f"AUROC by score. Best for each kind of outliers: {words}.")


def _place_of_score(case: str) -> int:
    return list(SCORES).index(case.partition(",")[0])


def conditions(table: pd.DataFrame, title: str, xlabel: str = "", hue: str = "") -> Axes:
    """What is left of fine structure by case: found labels, MSDR and NC1, and the accuracy if it is known.

    Large points are means over seeds, bars their 95 % intervals, small points the seeds.

    Parameters
    ----------
    table : of ``nclib.conditions.ends`` or ``by_layer``.
    xlabel : of cases that have an order: their means are joined by lines.
    hue : a column of the table that gives points their colours.
    """
    titles = {measure: name for measure, name in ENDS_PANELS.items() if measure in table}
    cases = list(table["case"].unique())
    figure, panels = plt.subplots(1, len(titles), figsize=(3 * len(titles), 3.4), layout="constrained")
    table = table.assign(at=table["case"].map(cases.index))
    kinds = list(table.groupby(hue, sort=False)) if hue else [(None, table)]
    for panel, (measure, name) in zip(panels, titles.items(), strict=True):
        for number, (kind, rows) in enumerate(kinds):
            offset = 0.3 * ((number + 0.5) / len(kinds) - 0.5)
            style = {"color": f"C{number}", "marker": MARKERS[number], "ms": 5, "lw": 0.8, "elinewidth": 1.5}
            means = rows.groupby("at")[measure].agg(interval)
            mean, half = np.array(means.tolist()).T
            panel.plot(rows["at"] + offset, rows[measure], ".", color=f"C{number}", alpha=0.4, ms=4)
            line = "-" if xlabel else "none"
            panel.errorbar(means.index + offset, mean, yerr=half, ls=line, label=kind, **style)
        panel.set_xticks(range(len(cases)), cases, rotation=30 if max(map(len, cases)) > 4 else 0)
        panel.set(xlim=(-0.5, len(cases) - 0.5), xlabel=xlabel)
        panel.set_title(name, fontsize="medium")
        if measure in ("nc1", "msdr"):
            _plain_log(panel)
        else:
            panel.set_ylim(top=min(1.005, panel.get_ylim()[1]))
    if len(kinds) > 1:
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    figure.suptitle(title)
    of_case = table.groupby(([hue] if hue else []) + ["case"], sort=False)[list(titles)].mean()
    words = "; ".join(
        f"{case if isinstance(case, str) else ', '.join(case)}: "
        + ", ".join(f"{titles[m]} {value:.3g}" for m, value in row.items())
        for case, row in of_case.iterrows()
    )
    return _described(panels[0], f"{title}. Means by case: {words}.")


def grid(tables: Mapping[str, pd.DataFrame], rates: Sequence[float], decays: Sequence[float]) -> Axes:
    """Structure over learning rate and weight decay, a row of heatmaps for each name.

    Numbers are means over seeds with their 95 % intervals; a setting without a run says so. A column of
    heatmaps shares its colours.

    Parameters
    ----------
    tables : of ``nclib.conditions.ends``.
    rates, decays : learning rates and weight decays of the grid, in the order of rows and columns.
    """
    figure, panels = plt.subplots(
        len(tables), len(ENDS_PANELS), figsize=(11, 0.9 + 2.3 * len(tables)), squeeze=False, sharex=True,
        sharey=True, layout="constrained",
    )  # fmt: skip
    settings = {name: table.groupby(["lr", "weight_decay"]) for name, table in tables.items()}
    for column, (measure, title) in zip(panels.T, ENDS_PANELS.items(), strict=True):
        cells = {name: of_name[measure].agg(interval) for name, of_name in settings.items()}
        shown = [mean for of_name in cells.values() for mean, _ in of_name]
        norm = (LogNorm if measure in ("nc1", "msdr") else Normalize)(min(shown), max(shown))
        for panel, of_name in zip(column, cells.values(), strict=True):
            _grid_panel(panel, of_name.reindex(pd.MultiIndex.from_product([rates, decays])), norm, measure)
        column[0].set_title(title, fontsize="medium")
        column[-1].set_xlabel("weight decay")
    words = []
    for panel, (name, of_name) in zip(panels[:, 0], settings.items(), strict=True):
        panel.set_ylabel(f"{name}\n\nlearning rate")
        found = of_name["found"].mean()
        ends = (
            f"{found[at]:.3f} at lr {at[0]:g}, decay {at[1]:g}" for at in (found.idxmin(), found.idxmax())
        )
        words.append(f"{name}, {len(found)} settings: labels found again from {' to '.join(ends)}")
    figure.suptitle("Learning rate x weight decay: what is left at the end of training")
    return _described(panels[0, 0], f"Heatmaps. {'; '.join(words)}.")


def _grid_panel(panel: Axes, cells: pd.Series, norm: Normalize, measure: str) -> None:
    """One heatmap of (mean, half interval) by learning rate and weight decay, not a number without runs."""
    rates, decays = cells.index.unique(0), cells.index.unique(1)
    means = cells.str[0].astype(float).to_numpy().reshape(len(rates), len(decays))
    cmap = sns.color_palette("mako_r", as_cmap=True).with_extremes(bad=OFF_SCALE)
    panel.pcolormesh(np.ma.masked_invalid(means), norm=norm, cmap=cmap)
    form = {"msdr": "{:.2f}", "nc1": "{:.2g}"}.get(measure, "{:.3f}")
    for at, cell in enumerate(cells):
        row, column = divmod(at, len(decays))
        text, color = "not run\nyet", "0.3"
        if isinstance(cell, tuple):
            text = form.format(cell[0]) + ("" if np.isnan(cell[1]) else f"\n± {cell[1]:.1g}")
            color = "w" if norm(cell[0]) > 0.5 else "k"
        panel.text(column + 0.5, row + 0.5, text, color=color, ha="center", va="center", fontsize=7)
    panel.set_xticks(np.arange(len(decays)) + 0.5, [f"{decay:g}" for decay in decays])
    panel.set_yticks(np.arange(len(rates)) + 0.5, [f"{lr:g}" for lr in rates])
    panel.set(xlim=(0, len(decays)), ylim=(len(rates), 0))
    panel.grid(False)


def _plain_log(panel: Axes) -> None:
    """A logarithmic axis with plain numbers."""
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.minorticks_off()


def number_of_clusters(quality: pd.DataFrame, chosen: pd.DataFrame, title: str) -> Axes:
    """What a number of clusters finds, and which number each method chooses.

    Parameters
    ----------
    quality : of ``nclib.conditions.wrong_k``. Lines are means over seeds, bands their 95 % intervals.
    chosen : of ``nclib.conditions.chosen_k``. Colours count labels and seeds.
    """
    methods, trues = list(chosen["method"].unique()), sorted(chosen["true"].unique())
    most = max(quality["k"].max(), chosen["chosen"].max())
    figure, panels = plt.subplots(
        1, 1 + len(methods), figsize=(4 + 2.5 * len(methods), 3.6), layout="constrained",
        width_ratios=[1.5] + [1] * len(methods),
    )  # fmt: skip
    for number, measure in enumerate(("accuracy", "purity", "ari")):
        means = quality.groupby("k")[measure].agg(interval)
        mean, half = np.array(means.tolist()).T
        name = "adjusted Rand index" if measure == "ari" else measure
        panels[0].plot(means.index, mean, color=f"C{number}", marker=MARKERS[number], ms=4, label=name)
        panels[0].fill_between(means.index, mean - half, mean + half, color=f"C{number}", alpha=0.2, lw=0)
    panels[0].set(xlabel="clusters inside each label", ylim=(-0.03, 1.03), xticks=range(1, most + 1))
    panels[0].legend(fontsize="small")
    words = []
    for panel, method in zip(panels[1:], methods, strict=True):
        of_method = chosen[chosen["method"] == method]
        counts = of_method.groupby(["true", "chosen"]).size().unstack(fill_value=0)
        counts = counts.reindex(index=trues, columns=range(1, most + 1), fill_value=0)
        shares = counts.div(counts.sum(axis=1), axis=0)
        sns.heatmap(
            shares, vmin=0, vmax=1, cmap="mako_r", annot=counts, fmt="d", cbar=False, square=True, ax=panel,
            annot_kws={"fontsize": 7},
        )  # fmt: skip
        right = (of_method["true"] == of_method["chosen"]).mean()
        panel.set_title(f"{method}\n{100 * right:.0f} % right", fontsize="medium")
        panel.set(xlabel="clusters chosen", ylabel="classes in the label" if panel is panels[1] else "")
        panel.tick_params(axis="y", rotation=0)
        words.append(f"{method}: right in {100 * right:.0f} %")
    figure.suptitle(title)
    return _described(panels[0], f"{title}. {'; '.join(words)} of {len(of_method)} labels.")


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


def nc1_errors(table: pd.DataFrame, limit: float) -> Axes:
    """Relative error of NC1 against the distance of twins, method by method.

    Parameters
    ----------
    table : of ``nclib.precision.nc1_errors``.
    limit : distance below which the pseudo-inverse drops the twins, see ``nclib.precision.pinv_limit``.
    """
    _, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for method, rows in table.groupby("method", sort=False):
        axes.plot(rows["distance"], rows["error"], label=method, **_format_style(method))
    axes.axvline(limit, color="0.4", lw=1, ls=":", label="fp32 pinv drops twins")
    axes.axhline(1, color="0.4", lw=1, ls="--", label="as wrong as zero would be")
    axes.set(xscale="log", yscale="log", xlabel=r"distance of twins (pairs are $\sqrt{2}$ apart)")
    axes.set_ylabel("relative error of NC1")
    axes.invert_xaxis()
    axes.set_title("The closer the classes, the more digits NC1 needs")
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1))
    closest = table[table["distance"] == table["distance"].min()]
    ends = "; ".join(f"{row.method}: {row.error:.1g}" for row in closest.itertuples())
    return _described(axes, f"Relative error of NC1 at twin distance {table['distance'].min():g}: {ends}.")


def rounding(tables: Mapping[str, Sequence[pd.DataFrame]]) -> Axes:
    """MSDR and found labels while collapse goes on, number format by format, a row for each name.

    Lines are means over seeds, bands reach from the lowest to the highest.

    Parameters
    ----------
    tables : of ``nclib.precision.rounding``; several of one name are seeds.
    """
    figure, panels = plt.subplots(
        len(tables), 2, figsize=(9, 0.8 + 2.6 * len(tables)), squeeze=False, layout="constrained"
    )
    labels = {"msdr": "MSDR of fine classes", "found": "labels found again"}
    for row, (name, of_seeds) in zip(panels, tables.items(), strict=True):
        for panel, (measure, label) in zip(row, labels.items(), strict=True):
            for kept, rows in pd.concat(of_seeds).groupby("format", sort=False):
                at = rows.groupby("factor").agg({"nc1": "mean", measure: ["mean", "min", "max"]})
                nc1, values, style = at["nc1", "mean"], at[measure], _format_style(kept)
                panel.plot(nc1, values["mean"], label=kept, **style)
                panel.fill_between(nc1, values["min"], values["max"], color=style["color"], alpha=0.15, lw=0)
            panel.set(xscale="log", xlabel="NC1 of coarse labels before rounding", ylabel=label)
            panel.set_title(name, fontsize="medium")
            panel.invert_xaxis()
    panels[0, 0].legend(fontsize="small", loc="lower left")
    figure.suptitle("The deeper the collapse, the more digits the fine structure needs")
    last = pd.concat(of_seeds).groupby(["factor", "format"], sort=False)[["msdr", "found"]].mean()
    kept = last.loc[last.index[-1][0]]
    words = "; ".join(f"{r.Index}: MSDR {r.msdr:.2f}, found {r.found:.2f}" for r in kept.itertuples())
    return _described(panels[0, 0], f"At the deepest collapse of {name}: {words}.")


def _format_style(name: str) -> dict[str, Any]:
    """One look a number format; fp16 is drawn broad, because tf32 mostly lies on it."""
    number = next(i for i, start in enumerate(("fp32 features, fp32", *FORMATS)) if name.startswith(start))
    fp16 = name.startswith("fp16")
    return {
        "color": f"C{number}",
        "marker": MARKERS[number],
        "ms": 9 if fp16 else 5,
        "lw": 5 if fp16 else 1.5,
        "alpha": 0.5 if fp16 else 1,
    }


def embeddings(points: ArrayLike, fine: ArrayLike, grouping: Grouping, title: str = "") -> Axes:
    """An embedding in the plane, one panel for each coarse label, coloured by fine class.

    Parameters
    ----------
    points : (N, 2), for example of ``nclib.report.tsne_inside``.
    fine : (N,) fine labels.
    title : by default that of features.
    """
    points, fine = np.asarray(points), np.asarray(fine)
    figure, stacks = _stacks(grouping.num_coarse, MOST_COLUMNS, (2, 2.9))
    for coarse, (panel,) in enumerate(stacks):
        for member in grouping.members(coarse):
            at = fine == member
            panel.scatter(*points[at].T, s=3, lw=0, label=grouping.fine_names[member])
        panel.set(xticks=[], yticks=[])
        name = grouping.coarse_names[coarse]
        joined = " + " in name  # of its classes, which stand in the legend
        heading = f"label {coarse}" if joined else fill(name.replace("_", " "), 18)
        panel.set_title(heading, fontsize="medium")
        panel.legend(fontsize="x-small", markerscale=3, loc="upper center", bbox_to_anchor=(0.5, -0.02))
    title = title or "One label each for the network; the colours are classes it was never told"
    figure.suptitle(title)
    named = "; ".join(grouping.coarse_names)
    text = f"{title}. t-SNE, a panel for each coarse label, coloured by fine class: {named}."
    return _described(stacks[0, 0], text)


def _stacks(
    count: int, most: int, size: tuple[float, float], height: int = 1
) -> tuple[plt.Figure, np.ndarray]:
    """Panels of one size in inches: ``count`` stacks of ``height``, ``most`` side by side, others below."""
    columns = min(count, most)
    bands = -(-count // columns)
    rows = bands * height
    figure, panels = plt.subplots(
        rows, columns, figsize=(size[0] * columns, size[1] * rows), squeeze=False, layout="constrained"
    )
    stacks = panels.reshape(bands, height, columns).swapaxes(1, 2).reshape(-1, height)
    for panel in stacks[count:].flat:
        panel.axis("off")
    return figure, stacks[:count]


def tsne_grid(grid: Mapping[tuple[str, float], ArrayLike], f: FeatureSet, names: Sequence[str]) -> Axes:
    """One coarse label embedded from several starts (rows) at several perplexities (columns).

    Each panel states the neighbour purity of its picture, in the plane.

    Parameters
    ----------
    grid : of ``nclib.report.tsne_grid``.
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
    return _described(panels[0, 0], text)


def neighbours(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> Axes:
    """Neighbour purity of features, of the untrained network and of pixels, beside chance.

    Points are means over seeds, bars their 95 % intervals.

    Parameters
    ----------
    results : a list of ``nclib.baselines.neighbours`` for each name, one entry a seed.
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
    return _described(axes, f"Neighbour purity. {'; '.join(words)}.")


def reconstruction_accuracy(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> Axes:
    """Accuracy of reconstructed labels on train, method by method, beside pixels and chance.

    Parameters
    ----------
    results : a list of ``nclib.report.results`` for each name, one entry a seed.
    """
    _, axes = plt.subplots(figsize=(7.5, 0.9 + 1.1 * len(results)), layout="constrained")
    words = []
    for at, (name, of_seeds) in enumerate(results.items()):
        for number, (method, title) in enumerate(METHOD_NAMES.items()):
            found = [r["reconstruction"][method] for r in of_seeds if method in r["reconstruction"]]
            if not found:
                continue
            mean, half = interval(r["train"] for r in found)
            height, color = at + 0.2 * (number - 1.5), f"C{number}"
            axes.errorbar(mean, height, xerr=half, fmt=MARKERS[number], color=color, capsize=3, ms=6)
            of_pixels = next(r["pixels"][method] for r in of_seeds if method in r["reconstruction"])
            axes.plot(of_pixels, height, MARKERS[number], color=color, mfc="none", ms=6)
            words.append(f"{name}: {title} {mean:.3f}")
        axes.plot([of_seeds[0]["chance"]] * 2, [at - 0.4, at + 0.4], color="0.4", ls=":")
    axes.set_yticks(range(len(results)), results)
    axes.set_ylim(len(results) - 0.5, -0.5)
    axes.set(xlim=(None, 1.01), xlabel="share of train samples whose fine label is found again")
    axes.set_title("Labels that were never given, found by clustering (dotted: chance)")
    keys = [plt.Line2D([], [], marker=MARKERS[n], color=f"C{n}", ls="") for n in range(len(METHOD_NAMES))]
    keys.append(plt.Line2D([], [], marker="o", color="0.3", mfc="none", ls=""))
    names = [*METHOD_NAMES.values(), "hollow: of pixels"]
    axes.legend(keys, names, fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1))
    return _described(axes, f"Accuracy of reconstructed labels on train. {'; '.join(words)}.")


def confusion(matrix: ArrayLike, grouping: Grouping, title: str = "") -> Axes:
    """True against reconstructed labels as shares of each true class, ordered by super-class."""
    order, edges = _by_super_class(grouping)
    counts = np.asarray(matrix)[np.ix_(order, order)]
    names = [grouping.fine_names[fine] for fine in order]
    _, axes = plt.subplots(figsize=(6.2, 5.4), layout="constrained")
    sns.heatmap(
        counts / counts.sum(1, keepdims=True), vmin=0, vmax=1, cmap="mako_r", square=True, annot=True,
        fmt=".2f", annot_kws={"fontsize": 7}, xticklabels=names, yticklabels=names,
        cbar_kws={"label": "share of the true class"}, ax=axes,
    )  # fmt: skip
    _draw_edges(axes, edges)
    axes.set(xlabel="reconstructed class", ylabel="true class")
    axes.set_title(title or "Which classes are found again")
    diagonal = np.diag(counts) / counts.sum(1)
    worst = int(np.argmin(diagonal))
    text = f"Confusion matrix; the class found worst is {names[worst]}, {diagonal[worst]:.2f} of it."
    return _described(axes, text)


def class_scatter(
    tables_of: Mapping[str, Sequence[pd.DataFrame]],
    accuracies: Sequence[str] = ("probe",),
    split: str = "train",
    title: str = "",
) -> Axes:
    """Accuracy of every fine class against its MSDR, with the regression line and its 95 % interval.

    A column for each name, a row for each accuracy; more names go on below. Points are means over seeds,
    coloured by coarse label; small dots are the seeds.

    Parameters
    ----------
    tables_of : for each name tables of ``nclib.perclass.per_class``, one a seed.
    accuracies : columns of these tables.
    split : whose MSDR.
    """
    figure, stacks = _stacks(len(tables_of), SCATTERS, (4.4, 3.7), height=len(accuracies))
    width, height = figure.get_size_inches()
    figure.set_size_inches(max(6.5, width), height + 0.4)  # room for the title
    x, words = f"msdr_{split}", []
    for stack, (name, tables) in zip(stacks, tables_of.items(), strict=True):
        classes = over_seeds(tables)
        for panel, accuracy in zip(stack, accuracies, strict=True):
            found = correlation(classes[x], classes[accuracy], classes["label"])
            _regression(panel, classes[x], classes[accuracy])
            for at, table in enumerate(tables if len(tables) > 1 else []):
                colors = [f"C{label}" for label in table["label"]]
                panel.scatter(table[x], table[accuracy], s=5, c=colors, alpha=0.35, lw=0, zorder=2 + at / 100)
            _named_points(panel, classes.sort_values(x), x, accuracy)
            panel.set_title(
                f"{name}\nr = {found.r:.2f}, p = {found.p:.2g}, labels kept: {found.p_kept:.2g}",
                fontsize="medium",
            )
            panel.set_ylabel(f"test accuracy, {ACCURACIES[accuracy]}", fontsize="small")
            words.append(f"{name}, {ACCURACIES[accuracy]}, {found.n} classes: {found.r:.2f}")
        stack[-1].set_xlabel(f"MSDR, {split}")
    figure.suptitle(title or "Is a class read off better where more structure is left?")
    text = f"Accuracy of fine classes against MSDR. Correlations: {'; '.join(words)}."
    return _described(stacks[0, 0], text)


def _named_points(panel: Axes, rows: pd.DataFrame, x: str, y: str) -> None:
    """Points with the look of their coarse label and the name of their class, right and left by turns."""
    outermost = [of(OUTERMOST, by).index for by in (x, y) for of in (rows.nsmallest, rows.nlargest)]
    few = len(rows) <= MOST_NAMES
    named = rows.index if few else np.unique(outermost)
    for number, (index, row) in enumerate(rows.to_dict("index").items()):
        at, side = (row[x], row[y]), (1, -1)[number % 2]
        panel.plot(*at, MARKERS[row["label"] % len(MARKERS)], color=f"C{row['label']}", ms=6 if few else 4)
        if index not in named:
            continue
        panel.annotate(
            row["class"], at, xytext=(5 * side, 2 * side), textcoords="offset points", fontsize=7,
            ha="left" if side > 0 else "right", va="bottom" if side > 0 else "top",
        )  # fmt: skip
    low = rows[y].min()
    panel.margins(x=0.2)
    panel.set_ylim(low - 0.25 * (1 - low) - 0.005, 1 + 0.1 * (1 - low) + 0.005)  # no accuracy is above 1


def _regression(panel: Axes, x: pd.Series, y: pd.Series) -> None:
    """Least-squares line of some points, its 95 % interval as a band."""
    at = np.linspace(x.min(), x.max(), 101)
    height, half = regression_band(x, y, at)
    panel.plot(at, height, color="0.3", lw=1)
    panel.fill_between(at, height - half, height + half, color="0.5", alpha=0.15, lw=0)


def raw_distances(distances: Mapping[str, ArrayLike], grouping: Grouping) -> Axes:
    """Class distances in two colour scales: that of all of them, and that of those inside one label.

    Parameters
    ----------
    distances : (C, C) of ``nclib.class_distances`` by split; a row of panels for each.
    """
    figure, panels = plt.subplots(
        len(distances), 2, figsize=(9, 0.6 + 3.7 * len(distances)), squeeze=False, layout="constrained"
    )
    inside, words = _inside(grouping), []
    siblings = inside & ~np.eye(len(inside), dtype=bool)
    for row, (name, matrix) in zip(panels, distances.items(), strict=True):
        matrix = np.asarray(matrix)
        norms = Normalize(0, matrix.max()), Normalize(0, matrix[inside].max())
        for panel, norm, scale in zip(row, norms, ("all distances", "only inside labels"), strict=True):
            image = _heatmap(panel, matrix, grouping, norm)
            extend = "max" if norm is norms[1] else "neither"
            figure.colorbar(image, ax=panel, extend=extend, label="squared feature units")
            panel.set_title(f"{name}: {scale}", fontsize="medium")
        words.append(
            f"{name}: inside one class {np.diag(matrix).mean():.3g}, between classes of one label "
            f"{matrix[siblings].mean():.3g}, of two {matrix[~inside].mean():.3g}"
        )
    figure.suptitle("The same distances in two colour scales: of all pairs, and of pairs inside a label")
    return _described(panels[0, 0], f"Mean squared class distances. {'; '.join(words)}.")


def relative_heatmaps(
    rows: Mapping[str, Mapping[str, ArrayLike]], grouping: Grouping, title: str = ""
) -> Axes:
    """Class distances in units of the width of both classes, on one colour scale for all panels.

    Colours are for distances inside a label, which are also written down; those between labels that are
    larger than all of these are grey.

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
    figure, panels = plt.subplots(
        len(rows), columns, figsize=(1 + 2.6 * columns, 1 + 2.6 * len(rows)), squeeze=False, sharex=True,
        sharey=True, layout="constrained",
    )  # fmt: skip
    for line, (name, of_row) in zip(panels, relative.items(), strict=True):
        for panel, (when, matrix) in zip(line, of_row.items(), strict=True):
            image = _heatmap(panel, matrix, grouping, norm, written=True)
            panel.set_title(when, fontsize="medium")
        line[0].set_ylabel(name)
    bar = figure.colorbar(image, ax=panels, extend="max", label="distance / width (1: no difference)")
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    bar.ax.yaxis.set_major_formatter("{x:g}")
    bar.ax.minorticks_off()
    figure.suptitle(title or "Inside a label, classes stay further apart than they are wide")
    siblings = inside & ~np.eye(len(inside), dtype=bool)
    words = "; ".join(
        f"{name}, {when}: inside labels {m[siblings].mean():.2f}, between {m[~inside].mean():.2f}"
        for name, of_row in relative.items()
        for when, m in of_row.items()
    ).replace("\n", ", ")
    return _described(panels[0, 0], f"Class distances in units of the width of both classes. Means: {words}.")


def _heatmap(
    panel: Axes,
    matrix: np.ndarray,
    grouping: Grouping,
    norm: Normalize,
    written: bool = False,
) -> QuadMesh:
    """A (C, C) matrix ordered by super-class; what lies above the colour scale is grey."""
    order, edges = _by_super_class(grouping)
    cmap = sns.color_palette("mako_r", as_cmap=True).with_extremes(over=OFF_SCALE)
    few = len(order) <= MOST_NAMED
    names = [grouping.fine_names[fine] for fine in order] if few else []
    ordered = matrix[np.ix_(order, order)]
    image = panel.pcolormesh(ordered, norm=norm, cmap=cmap)  # seaborn's heatmap draws the figure every time
    panel.set(xlim=(0, len(order)), ylim=(len(order), 0), aspect="equal")
    panel.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90)
    panel.set_yticks(np.arange(len(names)) + 0.5, names)
    panel.tick_params(labelsize="x-small")
    panel.grid(False)
    panel.spines[:].set_visible(False)
    _draw_edges(panel, edges)
    if written and few:
        siblings = sibling_pairs(grouping.fine_to_coarse[order])
        for i, j in siblings.nonzero().tolist():
            light = norm(ordered[i, j]) > 0.5
            panel.text(j + 0.5, i + 0.5, f"{ordered[i, j]:.2f}", color="w" if light else "k", fontsize=5.5,
                       ha="center", va="center")  # fmt: skip
    return image


def _by_super_class(grouping: Grouping) -> tuple[list[int], np.ndarray]:
    """Fine classes in the order of their coarse labels, and where one label ends and the next begins."""
    members = [grouping.members(coarse) for coarse in range(grouping.num_coarse)]
    return [fine for of_label in members for fine in of_label], np.cumsum([len(m) for m in members])[:-1]


def _inside(grouping: Grouping) -> np.ndarray:
    """Which pairs of fine classes lie in one label, each class with itself included; (C, C) bool."""
    group = grouping.fine_to_coarse.numpy()
    return group[:, None] == group[None, :]


def _draw_edges(axes: Axes, edges: np.ndarray) -> None:
    axes.hlines(edges, *axes.get_xlim(), color="0.5", lw=1)
    axes.vlines(edges, *axes.get_ylim(), color="0.5", lw=1)


def transition(table: pd.DataFrame) -> Axes:
    """Fine over coarse distance against the inner product of clusters, a colour for each start size.

    Parameters
    ----------
    table : of ``nclib.synthetic.sweep``, first layer trained. Points are means over seeds, bars their
        95 % intervals.
    """
    _, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    below, above = np.linspace(-0.9, 0, 91), np.linspace(0.01, 0.9, 90)
    axes.plot(
        below, [synthetic.limit_ratio(rho) for rho in below], color="0.2", label=r"limit, $\rho \leq 0$"
    )
    for number, (eps, rows) in enumerate(table.groupby("eps", sort=False)):
        law = np.array([synthetic.collapsed_ratio(rho, eps) for rho in above])
        axes.plot(
            above, law, color=f"C{number}", lw=1, ls="--", label="leading order" if number == 0 else None
        )
        at = rows.groupby("rho")["ratio"].agg(interval)
        mean, half = np.array(at.tolist()).T
        style = {"color": f"C{number}", "marker": MARKERS[number], "ms": 4, "ls": "none"}
        axes.errorbar(at.index, mean, yerr=half, label=rf"trained, $\epsilon$ = {eps:g}", **style)
    axes.set(yscale="log", ylim=(table["ratio"].min() / 3, 4), ylabel="fine over coarse squared distance")
    axes.set_xlabel(r"inner product $\rho$ of two clusters of one label")
    axes.set_title(r"Structure survives at full size up to $\rho = 0$, and is of order $\epsilon^2$ beyond")
    axes.legend(fontsize="small")
    ends = table.groupby(["eps", "rho"], sort=False)["ratio"].mean().unstack()
    low, high = ends.columns.min(), ends.columns.max()
    words = "; ".join(f"eps {eps:g}: {ends[low][eps]:.2g} and {ends[high][eps]:.2g}" for eps in ends.index)
    return _described(axes, f"Fine over coarse squared distance at rho {low:g} and {high:g}: {words}.")


def phase_diagram(tables: Mapping[str, pd.DataFrame]) -> Axes:
    """Fine over coarse distance over inner product and start size, a panel for each name.

    Parameters
    ----------
    tables : of ``nclib.synthetic.sweep``, a full grid each. Colours are means of logarithms over seeds.
    """
    figure, panels = plt.subplots(
        1, len(tables), figsize=(5.4 * len(tables), 4.2), squeeze=False, sharey=True, layout="constrained"
    )
    words = []
    for panel, (name, table) in zip(panels[0], tables.items(), strict=True):
        log = np.log10(table["ratio"]).groupby([table["eps"], table["rho"]]).mean().unstack()
        words.append(f"{name}: {10 ** log.min().min():.1g} to {10 ** log.max().max():.1g}")
        mesh = panel.pcolormesh(*_grid(log), vmin=-8, vmax=0.5, cmap="mako", rasterized=True)
        lines = panel.contour(
            *_grid(log), levels=(-6, -4, -2, -1), colors="w", linewidths=0.7, linestyles="-"
        )
        panel.set(yscale="log", title=name, xlabel=r"inner product $\rho$ of two clusters of one label")
        panel.grid(False)
    panels[0, 0].set_ylabel(r"size $\epsilon$ of the start")
    bar = figure.colorbar(mesh, ax=panels, label=r"$\log_{10}$ of fine over coarse squared distance")
    bar.add_lines(lines)
    figure.suptitle("Where fine structure survives training")
    return _described(panels[0, 0], f"Colour maps of fine over coarse squared distance. {'; '.join(words)}.")


def eps_law(tables: Mapping[str, pd.DataFrame], predicted: Mapping[str, Callable[[float], float]]) -> Axes:
    """Fine over coarse distance against the size of the start, a panel for each name, a colour for each rho.

    Parameters
    ----------
    tables : of ``nclib.synthetic.sweep``. Points are means over seeds, bars their 95 % intervals.
    predicted : under the same names, the power of eps for each rho: the slope of the lines, which go
        through the leftmost points.
    """
    figure, panels = plt.subplots(1, len(tables), figsize=(4.6 * len(tables), 4), squeeze=False, sharey=True,
                                  layout="constrained")  # fmt: skip
    words = []
    for panel, (name, table) in zip(panels[0], tables.items(), strict=True):
        for number, (rho, rows) in enumerate(table.groupby("rho")):
            power, at = predicted[name](rho), rows.groupby("eps")["ratio"].agg(interval)
            mean, half = np.array(at.tolist()).T
            style = {"color": f"C{number}", "marker": MARKERS[number], "ms": 4, "ls": "none"}
            label = rf"$\rho$ = {rho:g}, slope {power:.3g}"
            panel.errorbar(at.index, mean, yerr=half, label=label, **style)
            panel.plot(at.index, mean[0] * (at.index / at.index[0]) ** power, color=f"C{number}", lw=1)
            words.append(f"{name}, rho {rho:g}: from {mean[-1]:.2g} to {mean[0]:.2g}")
        panel.set(xscale="log", yscale="log", title=name, xlabel=r"size $\epsilon$ of the start")
        panel.legend(fontsize="small")
    panels[0, 0].set_ylabel("fine over coarse squared distance")
    figure.suptitle("Powers of the start (lines: predicted slopes)")
    return _described(panels[0, 0], f"Ratio as eps falls. {'; '.join(words)}.")


def noise_diagram(tables: Mapping[str, pd.DataFrame]) -> Axes:
    """What is read off features, over inner product and noise of the inputs, a row for each name.

    Parameters
    ----------
    tables : of ``nclib.synthetic.noise_sweep``, a full grid each. Colours are means over seeds.
    """
    readers = {"ratio": "fine over coarse (log)", "probe": "linear probe", "two_means": "2-means"}
    rows, columns = len(tables), len(readers)
    figure, panels = plt.subplots(
        rows,
        columns,
        figsize=(10.5, 0.8 + 3 * rows),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    words = []
    for row, (name, table) in zip(panels, tables.items(), strict=True):
        table = table.assign(ratio=np.log10(table["ratio"]))
        for panel, (measure, title) in zip(row, readers.items(), strict=True):
            grid = table.groupby(["sigma", "rho"])[measure].mean().unstack()
            low, high, colors = (-6, 0.5, "mako") if measure == "ratio" else (0.5, 1, "viridis")
            mesh = panel.pcolormesh(*_grid(grid), vmin=low, vmax=high, cmap=colors, rasterized=True)
            figure.colorbar(mesh, ax=panel, label="" if measure == "ratio" else "accuracy, fine label")
            panel.set(yscale="log", ylim=(grid.index[0], grid.index[-1]))
            panel.set_title(f"{title}\n{name}", fontsize="medium")
            panel.grid(False)
            words.append(f"{title}, {name}: mean {grid.mean().mean():.2f}")
        _noise_boundaries(row, table)
        row[0].set_ylabel(r"noise $\sigma$ of the inputs")
    for panel in panels[-1]:
        panel.set_xlabel(r"inner product $\rho$")
    figure.suptitle("A probe reads nearly all that the inputs hold; clustering needs structure of some size")
    return _described(panels[0, 0], f"Colour maps over rho and sigma. {'; '.join(words)}.")


def _noise_boundaries(row: Sequence[Axes], table: pd.DataFrame) -> None:
    """Where the best reader of the inputs is right for 90 %, and where 2-means is predicted to let go."""
    grid = table.groupby(["sigma", "rho"])["ratio"].mean().unstack()
    x, y, log_ratio = _grid(grid)
    best = synthetic.bayes_accuracy(x, y[:, None])
    row[1].contour(x, y, best, levels=(0.9,), colors="w", linestyles="--")
    above = x > 0
    excess = np.log(y[:, None] / synthetic.two_means_limit(x, 10**log_ratio))
    row[2].contour(x[above], y, excess[:, above], levels=(0,), colors="w", linestyles=":")


def _grid(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return table.columns.to_numpy(), table.index.to_numpy(), table.to_numpy()


def _described(axes: Axes, text: str) -> Axes:
    axes.alt_text = text
    return axes


def _wrapped(names: Sequence[str]) -> list[str]:
    return [name.replace(" + ", " +\n") for name in names]


def training_speed(record: Mapping[str, Any]) -> Axes:
    """Training images per second of the copied loop, and of nclib's loop with one thing changed.

    Bars are medians over epochs, lines reach from the slowest to the fastest.

    Parameters
    ----------
    record : what ``benchmarks/training.py`` wrote.
    """
    copied = {"variant": "the copied loop"} | record["rows"][0]
    rows = [record["variants"][0] | {"variant": "nclib"}, *record["variants"][1:], copied]
    _, axes = plt.subplots(figsize=(8, 0.6 + 0.4 * len(rows)), layout="constrained")
    middle = np.array([row["images_per_second"] for row in rows])
    ends = np.array([(row["lowest"], row["highest"]) for row in rows]).T
    names = [row["variant"] for row in rows]
    colors = ["C0", *["0.7"] * (len(rows) - 2), "C1"]
    axes.barh(names, middle, xerr=abs(ends - middle), color=colors, ecolor="0.3")
    axes.invert_yaxis()
    axes.set_xlabel("training images per second")
    axes.set_title(f"nclib trains {record['rows'][1]['ratio']:.1f} times as fast as the copied loop")
    spoken = "; ".join(f"{name}: {value:,.0f}" for name, value in zip(names, middle, strict=True))
    return _described(axes, f"Images per second. {spoken}.")


def same_learning(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> Axes:
    """What each seed has learnt with either loop, a panel for each measure.

    Parameters
    ----------
    rows : of benchmarks/results/same_learning.json.
    titles : title of each measure's panel.
    """
    table = pd.DataFrame(rows)
    figure, panels = plt.subplots(1, len(titles), figsize=(11, 3), layout="constrained")
    for panel, (measure, title) in zip(panels, titles.items(), strict=True):
        sns.stripplot(
            table, x="loop", y=measure, hue="loop", order=["nclib", "plain"], hue_order=["nclib", "plain"],
            jitter=0.15, ax=panel, legend=False,
        )  # fmt: skip
        panel.set(xlabel="", ylabel="")
        panel.set_title(title, fontsize="small")
    figure.suptitle("The fast loop and the plain one learn the same")
    means = table.groupby("loop")[list(titles)].mean()
    spoken = "; ".join(
        f"{titles[m]}: {means.loc['nclib', m]:.3g}, {means.loc['plain', m]:.3g}" for m in titles
    )
    return _described(panels[0], f"Points are seeds. Means of nclib's and of the plain loop: {spoken}.")
