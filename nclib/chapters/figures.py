"""What figures share: how they are shown, described and laid out.

Each figure function returns its Axes, leaves its alt text on them, and draws inside ``theme()``: matplotlib's
settings are the reader's own before and after.

    show(embeddings_figure(points, fine, grouping), caption="...")

A figure is an SVG drawing in the page. Its writing, axes and empty markers take the page's colours, so that
it reads well on a light and on a dark page; what shows data keeps its own.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nclib.data.grouping import Grouping

PALETTE = "colorblind"
WIDTH = 9  # inches, at most: 864 pixels, which a page has room for on a wide screen
FONT_SCALE = 0.9  # of seaborn's sizes; the smallest writing, an exponent, has 9.2 pixels
DPI = 192  # of what is drawn as pixels: two for each of the page
MOST_POINTS = 2000  # in the scatters of a figure; more become pixels, as heatmaps do
MOST_COLUMNS = 5  # of small multiples
MARKERS = "sDoX^"
APART = 0.17  # of a panel's width between epochs that are written on its axis: three digits of a small panel
OFF_SCALE = "0.88"  # of distances between super-classes, where colours are for those inside one
INK, LINE, SHADE = "#262627", "#cccccd", "#e0e0e1"  # writing, axes and grid, parts of a panel set off
PAGE_COLOURS = {  # of a page; the ones above where it names none
    INK: "currentColor",
    LINE: f"var(--figure-line, {LINE})",
    SHADE: f"var(--figure-shade, {SHADE})",
}
PAPER = "var(--figure-paper, #ffffff)"
THEME = {
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.edgecolor": LINE, "grid.color": LINE, "figure.facecolor": "none", "axes.facecolor": "none",
    "legend.facecolor": "white", "legend.edgecolor": LINE, "svg.fonttype": "none",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],  # equally wide, as writing is measured here
    "svg.hashsalt": "nclib",
}  # fmt: skip


@contextmanager
def theme() -> Iterator[None]:
    """The look of the book's figures, as a context or as a decorator of what draws them."""
    with plt.rc_context():
        sns.set_theme(style="whitegrid", palette=PALETTE, font_scale=FONT_SCALE, color_codes=False, rc=THEME)
        yield


def epochs_axis(panel: Axes, last: int) -> None:
    """An axis of epochs, linear from initialisation, 0, to 1 and logarithmic from there on.

    Initialisation and the last epoch are written on it, and those powers of ten between that have room.
    """
    panel.set_xscale("symlog", linthresh=1)
    panel.set_xlim(0, 1.06 * last)
    panel.minorticks_off()
    places = panel.xaxis.get_transform().transform
    room = APART * np.ptp(places(panel.get_xlim()))
    between = [10**power for power in range(4) if 10**power < last]
    ticks = [0, *(epoch for epoch in between if np.ptp(places([epoch, last])) >= room), last]
    panel.set_xticks(ticks, ticks)


def show(axes: Axes, caption: str) -> None:
    """Display a figure with its alt text and a caption, then close it."""
    from IPython.display import HTML, display

    drawing = svg(axes.figure, alt_text(axes))
    plt.close(axes.figure)
    display(HTML(f'<figure class="nclib">{drawing}<figcaption>{html.escape(caption)}</figcaption></figure>'))


def svg(figure: Figure, text: str) -> str:
    """A figure as an SVG element that ``text`` describes, at most ``WIDTH`` wide, in the page's colours."""
    width, height = figure.get_size_inches()
    if width > WIDTH:
        figure.set_size_inches(WIDTH, height * WIDTH / width)
    for drawn in _better_as_pixels(figure):
        drawn.set_rasterized(True)
    buffer = io.StringIO()
    with theme():  # ticks are made when they are needed
        figure.savefig(buffer, format="svg", dpi=DPI, bbox_inches="tight", metadata={"Date": None})
    drawing = buffer.getvalue().partition("<svg ")[2]
    for part in ("metadata", "style"):  # in a page a style would be of all its elements
        drawing = re.sub(rf"\s*<{part}\b.*?</{part}>", "", drawing, flags=re.DOTALL)
    about = f'role="img" aria-label="{html.escape(text)}" style="stroke-linejoin: round"'
    return f"<svg {about} {_own_names(_rounded(_in_page_colours(drawing)))}"


def _better_as_pixels(figure: Figure) -> list[Artist]:
    """Heatmaps, and scatters if the figure has many points."""
    heatmaps = figure.findobj(QuadMesh)
    scatters = [
        drawn for panel in figure.axes for drawn in panel.collections if type(drawn) is PathCollection
    ]
    many = sum(len(scatter.get_offsets()) for scatter in scatters) > MOST_POINTS
    return heatmaps + (scatters if many else [])


def _in_page_colours(drawing: str) -> str:
    """The drawing with the colours of ``THEME`` left to the page; white stays white in writing only."""
    for colour, of_page in PAGE_COLOURS.items():
        drawing = drawing.replace(colour, of_page)
    shape = r'(<(?:path|use|rect)\b[^>]*?style="[^"]*?(?:fill|stroke): )#ffffff'
    return re.sub(shape, rf"\g<1>{PAPER}", drawing)


def _rounded(drawing: str) -> str:
    """The drawing with lengths to a hundredth of a point."""
    lengths = r'(?<= )[dxy]="[^"]*"'
    return re.sub(lengths, lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), drawing)


def _own_names(drawing: str) -> str:
    """The drawing with those ids only that it refers to, and none that another figure of the page has."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', drawing))
    own = hashlib.sha256(drawing.encode()).hexdigest()[:8]
    drawing = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", drawing)
    return re.sub(r'( id="|url\(#|href="#)', rf"\g<1>f{own}-", drawing)


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
