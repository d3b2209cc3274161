"""Drawings of a report as SVG, in the page's colours: what a reader without JavaScript, or on paper, sees."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
from markupsafe import Markup

WIDTH, HEIGHT = 320, 130  # of a histogram, in units of the drawing
SCATTER = 480
SHAPES = (  # of the explorer's first marks, about the origin
    "<circle r='3.2'/>",
    "<path d='M0-4 3.7 2.7-3.7 2.7Z'/>",
    "<path d='M-3-3H3V3H-3Z'/>",
    "<path d='M0-4.3 3.5 0 0 4.3-3.5 0Z'/>",
    "<path d='M0 4 3.7-2.7-3.7-2.7Z'/>",
    "<path d='M-1.3-3.8H1.3V-1.3H3.8V1.3H1.3V3.8H-1.3V1.3H-3.8V-1.3H-1.3Z'/>",
)


def histogram(profile: Mapping[str, Any], text: str) -> Markup:
    """Coordinates of samples along a direction, with the three windows in which they were counted.

    Parameters
    ----------
    profile : "edges", "counts" and "windows" of ``nclib.report.findings``.
    text : what it shows, in words.
    """
    edges, counts = np.array(profile["edges"]), np.array(profile["counts"])
    x = (edges - edges[0]) / (edges[-1] - edges[0]) * WIDTH
    top = (1 - counts / max(1, counts.max())) * HEIGHT
    parts = []
    if profile["windows"]:
        starts, widths = (np.array(profile["windows"][key]) for key in ("starts", "widths"))
        low = np.clip((starts - edges[0]) / (edges[-1] - edges[0]), 0, 1) * WIDTH
        high = np.clip((starts + widths - edges[0]) / (edges[-1] - edges[0]), 0, 1) * WIDTH
        kinds = ("peak", "valley", "peak")
        parts += [_rect(kind, a, 0, b - a, HEIGHT) for kind, a, b in zip(kinds, low, high, strict=True)]
    parts += [
        _rect("bar", a + 0.5, t, max(0.5, b - a - 1), HEIGHT - t)
        for a, b, t in zip(x, x[1:], top, strict=False)
    ]
    parts.append(f"<line class='axis' x1='0' x2='{WIDTH}' y1='{HEIGHT}' y2='{HEIGHT}'/>")
    return _svg(WIDTH, HEIGHT + 1, text, "".join(parts))


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f"<rect class='{kind}' x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{height:.1f}'/>"


def scatter(points: np.ndarray, marks: np.ndarray, text: str) -> Markup:
    """Points in the plane (n, 2), each with the mark of its sub-population, -1 for a small grey dot."""
    span = np.abs(points).max() or 1.0
    x, y = (SCATTER / 2 + points * np.array([1, -1]) / span * (SCATTER / 2 - 8)).T
    parts = []
    for i in np.argsort(marks, kind="stable"):
        shape = "<circle r='1.5'/>" if marks[i] < 0 else SHAPES[marks[i] % len(SHAPES)]
        kind = "m0" if marks[i] < 0 else f"m{marks[i] % len(SHAPES) + 1}"
        parts.append(f"<g class='{kind}' transform='translate({x[i]:.1f} {y[i]:.1f})'>{shape}</g>")
    return _svg(SCATTER, SCATTER, text, "".join(parts))


def mark(part: int) -> Markup:
    """The mark of a sub-population, beside its name."""
    kind = part % len(SHAPES)
    return Markup(
        f"<svg class='mark m{kind + 1}' viewBox='-5 -5 10 10' aria-hidden='true'>{SHAPES[kind]}</svg>"
    )


def _svg(width: float, height: float, text: str, inside: str) -> Markup:
    about = f"role='img' aria-label='{escape(text)}' viewBox='0 0 {width} {height}'"
    return Markup(f"<svg {about}>{inside}</svg>")
