"""What figures share: how they are shown, described and laid out.

Each figure function returns its Axes, leaves its alt text on them, and draws inside ``theme()``: matplotlib's
settings are the reader's own before and after.

    show(embeddings_figure(points, fine, grouping), caption="...")
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from nclib.data.grouping import Grouping

PALETTE = "colorblind"
DPI = 120
MOST_COLUMNS = 5  # of small multiples
MARKERS = "sDoX^"
OFF_SCALE = "0.88"  # of distances between super-classes, where colours are for those inside one


@contextmanager
def theme() -> Iterator[None]:
    """The look of the book's figures, as a context or as a decorator of what draws them."""
    with plt.rc_context():
        sns.set_theme(style="whitegrid", palette=PALETTE, color_codes=False)
        yield


def show(axes: Axes, caption: str) -> None:
    """Display a figure with its alt text and a caption, then close it."""
    from IPython.display import HTML, display

    buffer = io.BytesIO()
    with theme():  # ticks are made when they are needed
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


@theme()
def embeddings_figure(points: ArrayLike, fine: ArrayLike, grouping: Grouping, title: str = "") -> Axes:
    """An embedding in the plane, one panel for each super-class, coloured by fine class.

    Parameters
    ----------
    points : (N, 2), for example of ``nclib.runs.evaluation.tsne_inside``.
    fine : (N,) fine labels.
    title : by default that of features.
    """
    points, fine = np.asarray(points), np.asarray(fine)
    figure, stacks = stacked_panels(grouping.num_coarse, MOST_COLUMNS, (2, 2.9))
    for coarse, (panel,) in enumerate(stacks):
        for member in grouping.members(coarse):
            at = fine == member
            panel.scatter(*points[at].T, s=3, lw=0, label=grouping.fine_names[member])
        panel.set(xticks=[], yticks=[])
        name = grouping.coarse_names[coarse]
        joined = " + " in name  # of its classes, which stand in the legend
        heading = f"super-class {coarse}" if joined else fill(name.replace("_", " "), 18)
        panel.set_title(heading, fontsize="medium")
        panel.legend(fontsize="x-small", markerscale=3, loc="upper center", bbox_to_anchor=(0.5, -0.02))
    title = title or "Each super-class by itself; colours are fine classes, which training did not use"
    figure.suptitle(title)
    named = "; ".join(grouping.coarse_names)
    text = f"{title}. t-SNE, a panel for each super-class, coloured by fine class: {named}."
    return described(stacks[0, 0], text)


def stacked_panels(
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


def by_super_class(grouping: Grouping) -> tuple[list[int], np.ndarray]:
    """Fine classes in the order of their super-classes, and where the next super-class begins."""
    members = [grouping.members(coarse) for coarse in range(grouping.num_coarse)]
    order = [fine for classes in members for fine in classes]
    return order, np.cumsum([len(m) for m in members])[:-1]


def draw_edges(axes: Axes, edges: np.ndarray) -> None:
    axes.hlines(edges, *axes.get_xlim(), color="0.5", lw=1)
    axes.vlines(edges, *axes.get_ylim(), color="0.5", lw=1)


def described(axes: Axes, text: str) -> Axes:
    axes.alt_text = text
    return axes


def wrapped(names: Sequence[str]) -> list[str]:
    return [name.replace(" + ", " +\n") for name in names]
