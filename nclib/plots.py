"""One function for each kind of figure. Each returns the Axes, and leaves its alt text on them.

show(reconstruction_accuracy({"digits": results}), caption="...")
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator
from numpy.typing import ArrayLike

from nclib.data import ImageSet
from nclib.grouping import Grouping
from nclib.report import METHOD_NAMES, coarse_nc1, mean_msdr
from nclib.run import Run

PALETTE = "colorblind"
DPI = 120
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


def embeddings(points: ArrayLike, fine: ArrayLike, grouping: Grouping) -> Axes:
    """An embedding in the plane, one panel for each coarse label, coloured by fine class.

    Parameters
    ----------
    points : (N, 2), for example of ``nclib.report.tsne_inside``.
    fine : (N,) fine labels.
    """
    points, fine = np.asarray(points), np.asarray(fine)
    figure, panels = plt.subplots(
        1, grouping.num_coarse, figsize=(2 * grouping.num_coarse, 2.9), squeeze=False, layout="constrained"
    )
    for coarse, panel in enumerate(panels[0]):
        for member in grouping.members(coarse):
            at = fine == member
            panel.scatter(*points[at].T, s=3, lw=0, label=grouping.fine_names[member])
        panel.set(xticks=[], yticks=[])
        panel.set_title(f"label {coarse}", fontsize="medium")
        panel.legend(fontsize="x-small", markerscale=3, loc="upper center", bbox_to_anchor=(0.5, -0.02))
    figure.suptitle("One label each for the network; the colours are classes it was never told")
    named = "; ".join(grouping.coarse_names)
    text = f"t-SNE of features, a panel for each coarse label, coloured by fine class: {named}."
    return _described(panels[0, 0], text)


def reconstruction_accuracy(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> Axes:
    """Accuracy of reconstructed labels on train, method by method, beside chance.

    Parameters
    ----------
    results : a list of ``nclib.report.results`` for each name, one entry a seed.
    """
    rows = [
        {"data": name, "accuracy": r["reconstruction"][method]["train"], "method": METHOD_NAMES[method]}
        for name, of_seeds in results.items()
        for r in of_seeds
        for method in r["reconstruction"]
    ]
    _, axes = plt.subplots(figsize=(6.5, 0.9 + 0.9 * len(results)), layout="constrained")
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    sns.pointplot(
        columns, x="accuracy", y="data", hue="method", errorbar=("pi", 100), capsize=0.1, dodge=0.3,
        linestyle="none", ax=axes,
    )  # fmt: skip
    for position, of_seeds in enumerate(results.values()):
        chance = np.mean([r["chance"] for r in of_seeds])
        axes.plot([chance] * 2, [position - 0.4, position + 0.4], color="0.4", ls=":")
    axes.set(xlim=(0, 1.02), xlabel="share of train samples whose fine label is found again", ylabel="")
    axes.set_title("Labels that were never given, found by clustering (dotted: chance)")
    axes.legend(title=None, loc="lower left", fontsize="small")
    best = "; ".join(
        f"{name}: "
        + ", ".join(f"{METHOD_NAMES[m]} {a['train']:.3f}" for m, a in of[0]["reconstruction"].items())
        for name, of in results.items()
    )
    return _described(axes, f"Accuracy of reconstructed labels on train. {best} (first seed).")


def confusion(matrix: ArrayLike, grouping: Grouping, title: str = "") -> Axes:
    """True against reconstructed labels as shares of each true class, ordered by super-class."""
    order = [fine for coarse in range(grouping.num_coarse) for fine in grouping.members(coarse)]
    counts = np.asarray(matrix)[np.ix_(order, order)]
    names = [grouping.fine_names[fine] for fine in order]
    _, axes = plt.subplots(figsize=(6.2, 5.4), layout="constrained")
    sns.heatmap(
        counts / counts.sum(1, keepdims=True), vmin=0, vmax=1, cmap="mako_r", square=True, annot=True,
        fmt=".2f", annot_kws={"fontsize": 7}, xticklabels=names, yticklabels=names,
        cbar_kws={"label": "share of the true class"}, ax=axes,
    )  # fmt: skip
    edges = np.cumsum([len(grouping.members(c)) for c in range(grouping.num_coarse)])[:-1]
    axes.hlines(edges, *axes.get_xlim(), color="0.5", lw=1)
    axes.vlines(edges, *axes.get_ylim(), color="0.5", lw=1)
    axes.set(xlabel="reconstructed class", ylabel="true class")
    axes.set_title(title or "Which classes are found again")
    diagonal = np.diag(counts) / counts.sum(1)
    worst = int(np.argmin(diagonal))
    text = f"Confusion matrix; the class found worst is {names[worst]}, {diagonal[worst]:.2f} of it."
    return _described(axes, text)


def _described(axes: Axes, text: str) -> Axes:
    axes.alt_text = text
    return axes


def _wrapped(names: Sequence[str]) -> list[str]:
    return [name.replace(" + ", " +\n") for name in names]
