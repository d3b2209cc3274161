"""Slides of a chapter: a selection from its notebook, shown by reveal.js from the folder beside them.

A slide each for the title and the question, then in the order of the page the prediction, the first small
table (without one, the first that fits at all), every figure with its caption, the result that the prediction
asks for, what it means (the statements, as far as the data decide them), and last the first exercise. If its
writing would be too small, a figure has two slides. The first t-SNE is grey, without names of classes, until
the next key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import escape
from itertools import pairwise
from math import ceil

from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode

FIGURE = re.compile(r'<figure class="nclib">.*?</figure>', re.DOTALL)
TABLE = re.compile(r"<table.*?</table>", re.DOTALL)
SMALL, LARGE = (10, 8), (13, 13)  # rows and columns of a table that is easily read from a screen, or just
ANSWER = re.compile(r'<div class="answer"[^>]*>(.*?)</div>', re.DOTALL)  # of nclib.notebook.answer
CONCLUSIONS = re.compile(  # of nclib.chapters.conclusions: what the verdicts mean, then the statements
    r'(?:<p>((?:(?!</p>).)*)</p>)?(<ul class="conclusions">.*</ul>)', re.DOTALL
)
PREDICTION = re.compile(
    r"^(:{3,})\{(?:admonition\} Make a prediction|prediction\}[^\n]*)$.*?^\1$", re.DOTALL | re.M
)
EXERCISE = re.compile(r"^:::\{exercise-start\}.*", re.DOTALL | re.MULTILINE)
BELOW, BESIDE = (
    (1230, 500),
    (880, 690),
)  # pixels for a figure below its heading and beside it, as in slides.css
MOST_STATEMENTS, MOST_CHARACTERS = 8, 700  # of the statements of one slide
LEGIBLE = 9.5  # pixels of the smallest writing; a figure with smaller writing is cut in two
LINE_GAP, TITLE_GAP = 3, 7  # points, at most, between lines of one text, and below the title of a panel
WRITING = re.compile(  # size and baseline, of one line or of several
    r'<text style="font-size: ([\d.]+)px[^>]*?(?: y="|translate\(\S+ )([\d.]+)'
)
DRAWING = re.compile(
    r'<svg([^>]*?) width="[^"]*" height="[^"]*" viewBox="0 0 (\S+) (\S+)"([^>]*)>(.*)</svg>', re.DOTALL
)
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: slides</title>
<link rel="stylesheet" href="reveal/reset.css">
<link rel="stylesheet" href="reveal/reveal.css">
<link rel="stylesheet" href="reveal/slides.css">
</head>
<body>
<div class="reveal"><div class="slides">
{slides}
</div></div>
<script src="reveal/reveal.js"></script>
<script>
Reveal.initialize({{hash: true, slideNumber: true, transition: "none", width: 1280, height: 720}});
</script>
<script src="mathjax/tex-svg-full.js"></script>
</body>
</html>
"""


def page(notebook: NotebookNode, plain: Callable[[str], str]) -> str:
    """The HTML page of a chapter's slides.

    Parameters
    ----------
    notebook : with the outputs that are there; without outputs there are no figures and statements.
    plain : turns MyST Markdown into plain Markdown.
    """
    prose = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    title = re.search(r"^# (.+)$", prose, re.MULTILINE)[1]
    question = re.search(r"^\*\*Question\.\*\*.*?(?=\n\n|\Z)", prose, re.DOTALL | re.MULTILINE)
    parts = [f"<h1>{escape(title)}</h1>{markdown(plain(question[0])) if question else ''}"]
    parts += in_page_order(notebook.cells, plain)
    parts += [markdown(plain(text)) for text in first_exercise(notebook.cells)]
    shown = "\n".join(f"<section>{part}</section>" for part in parts)
    return PAGE.format(title=escape(title), slides=shown)


def in_page_order(cells: list[NotebookNode], plain: Callable[[str], str]) -> Iterator[str]:
    """The prediction, and figures, a table, the answer and statements, each with the heading above it."""
    embedding_shown, table = False, shown_table(cells)
    for heading, text, _ in parts_of_page(cells):
        if prediction := PREDICTION.search(text):
            yield markdown(plain(prediction[0]))
        for figure in FIGURE.findall(text):
            first = is_embedding(figure) and not embedding_shown
            embedding_shown |= first
            yield from figure_slides(heading, hidden_colours(figure) if first else figure)
        if table and table in text:
            yield f"{heading}{table}"
            table = None
        for answer in ANSWER.findall(text):
            yield f'<h2>Your prediction, and the result</h2><div class="answer">{answer}</div>'
        for words, listed in CONCLUSIONS.findall(text):
            sentences = re.findall(r"<strong>(.*?)</strong>", listed)
            for part in of_one_size(sentences):
                items = "".join(f"<li>{sentence}</li>" for sentence in part)
                yield f'{heading}<ul>{items}</ul><p class="rule">{words}</p>'


def of_one_size(sentences: list[str]) -> list[list[str]]:
    """Sentences in parts of about the same number, each for a slide."""
    characters = sum(map(len, sentences))
    slides = max(1, ceil(len(sentences) / MOST_STATEMENTS), ceil(characters / MOST_CHARACTERS))
    return [
        sentences[len(sentences) * i // slides : len(sentences) * (i + 1) // slides] for i in range(slides)
    ]


def parts_of_page(cells: list[NotebookNode]) -> Iterator[tuple[str, str, list[str]]]:
    """Prose, and the HTML of every output, with that of the heading above it, and its cell's tags."""
    heading = ""
    for cell in cells:
        if cell.cell_type == "markdown":
            heading = [heading, *re.findall(r"^#{2,3} (.+)$", cell.source, re.MULTILINE)][-1]
            yield "", cell.source, []
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/html", "")
            yield markdown(f"## {heading}"), text, cell.metadata.get("tags", [])


def figure_slides(heading: str, figure: str) -> list[str]:
    """The slide of a figure, or two where its writing would be too small on one."""
    scale = max(scales(figure))
    small = any(float(size) * scale < LEGIBLE for size, _ in WRITING.findall(figure))
    return [figure_slide(heading, part) for part in (in_two(figure) if small else [figure])]


def figure_slide(heading: str, figure: str) -> str:
    """A figure below its heading, or beside it where that makes the figure larger."""
    below, beside = scales(figure)
    return f'<div class="beside">{heading}{figure}</div>' if beside > below else f"{heading}{figure}"


def scales(figure: str) -> list[float]:
    """Pixels of a point of the figure, below its heading and beside it."""
    box = re.search(r'viewBox="\S+ \S+ (\S+) (\S+)"', figure)
    width, height = map(float, box.groups()) if box else (2, 1)
    return [min(w / width, h / height) for w, h in (BELOW, BESIDE)]


def in_two(figure: str) -> list[str]:
    """The figure's upper and lower half, cut between rows of panels.

    Where there is one panel only it is cut between two labels of its axis. Then the upper half has the axis
    below the panel as well, and the lower half the title above it and the legend beside it. A figure that
    cannot be cut near its middle stays whole.
    """
    drawing = DRAWING.search(figure)
    if not drawing:
        return [figure]
    height = float(drawing[3])
    lines = [numbers(path) for path in re.findall(r'<path d="([^"]+)"', drawing[5])]
    lines = [(line[::2], line[1::2]) for line in lines]
    smaller = [(x, y) for x, y in lines if max(y) - min(y) < 0.99 * height]  # than the background
    panels = [(min(y) - TITLE_GAP, max(y), True) for _, y in smaller]
    names = [(float(y) - 0.8 * float(size), float(y) + 0.25 * float(size), False)
             for size, y in WRITING.findall(drawing[5])]  # fmt: skip
    cut, axis, key = nearest_gap(panels + names, height), [], []
    if cut is None:
        cut = nearest_gap([(start, end, True) for start, end, _ in names], height)
        axis = [(0, max(end for _, end, _ in panels), height)]
    if cut is None:
        return [figure]
    if axis:
        panel = [(x, y) for x, y in smaller if min(y) < cut < max(y)]
        top, right = min(min(y) for _, y in panel) - 1, max(max(x) for x, _ in panel) + 1  # its lines' width
        key += [(0, 0, top)] if any(end < top for _, end, _ in names) else []
        key += [(right, top, top + height - cut)] if any(min(x) > right for x, _ in smaller) else []
    return [with_views(figure, drawing, views) for views in ([(0, 0, cut), *axis], [*key, (0, cut, height)])]


def numbers(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?[\d.]+", path)]


def nearest_gap(spans: list[tuple[float, float, bool]], height: float) -> float | None:
    """Middle of the gap that is nearest to half of the height; None if none is near.

    Parameters
    ----------
    spans : start, end, and whether it is a panel: what stands together without one, such as the labels
        below a panel, belongs to what is above it.
    """
    together: list[list[float]] = []
    for start, end, panel in sorted(spans):
        if together and start <= together[-1][1] + LINE_GAP:
            together[-1] = [together[-1][0], max(end, together[-1][1]), panel or together[-1][2]]
        else:
            together.append([start, end, panel])
    gaps = [(above[1] + below[0]) / 2 for above, below in pairwise(together) if below[2]]
    nearest = min(gaps, key=lambda gap: abs(gap - height / 2), default=0)
    return nearest if 0.3 * height < nearest < 0.7 * height else None


def with_views(figure: str, drawing: re.Match[str], views: list[tuple[float, float, float]]) -> str:
    """The figure with these parts of its drawing below each other.

    Parameters
    ----------
    views : left, upper and lower edge of each part. It reaches to the right edge of the drawing; one that
        begins further right than at 0 stands beside the next.
    """
    before, width, _, after, content = drawing.groups()
    shown, at = [], 0.0
    for left, top, bottom in views:
        wide, tall = float(width) - left, bottom - top
        place = f'x="{left:g}" y="{at:g}" width="{wide:g}" height="{tall:g}"'
        shown.append(f'<svg {place} viewBox="{left:g} {top:g} {wide:g} {tall:g}">{content}</svg>')
        at += 0 if left else tall
    cut = f'<svg{before} viewBox="0 0 {width} {at:g}"{after}>{"".join(shown)}</svg>'
    return figure.replace(drawing[0], cut)


def is_embedding(figure: str) -> bool:
    return "t-SNE (perplexity" in figure.partition("<figcaption>")[2]


def hidden_colours(figure: str) -> str:
    """The figure in grey, as slides.css has it, until reveal.js makes its fragment visible."""
    return figure.replace('class="nclib"', 'class="nclib fragment custom colours"', 1)


def shown_table(cells: list[NotebookNode]) -> str | None:
    """The first small table of results, or else the first that fits on a slide; None without one."""
    tables = [
        table
        for _, text, tags in parts_of_page(cells)
        if "provenance" not in tags
        for table in TABLE.findall(text)
    ]
    return next((table for most in (SMALL, LARGE) for table in tables if fits(table, *most)), None)


def fits(table: str, most_rows: int, most_columns: int) -> bool:
    rows = [len(re.findall(r"<t[hd]\b", row)) for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)]
    return len(rows) <= most_rows and max(rows) <= most_columns


def first_exercise(cells: list[NotebookNode]) -> Iterator[str]:
    """Text of the first exercise, at most one."""
    for cell in cells:
        found = EXERCISE.search(cell.source) if cell.cell_type == "markdown" else None
        if found:
            yield found[0].partition("{exercise-end}")[0]
            return


def markdown(text: str) -> str:
    """HTML of plain Markdown, with formulas as MathJax reads them."""
    reader = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, renderer=formula)
    return reader.render(text)


def formula(text: str, options: dict[str, bool]) -> str:
    left, right = (r"\[", r"\]") if options["display_mode"] else (r"\(", r"\)")
    return f"{left}{escape(text, quote=False)}{right}"
