"""Slides of a chapter: a selection from its notebook, shown by reveal.js from the folder beside them.

A slide each for the title and the question, the prediction, the first small table (without one, the first
that fits at all), every figure with its caption, the result that the prediction asks for, what it means (the
statements, as far as the data decide them), and the first exercise. The first t-SNE is grey, without names of
classes, until the next key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import escape

from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode

FIGURE = re.compile(r'<figure class="nclib">.*?</figure>', re.DOTALL)
TABLE = re.compile(r"<table.*?</table>", re.DOTALL)
SMALL, LARGE = (10, 8), (13, 13)  # rows and columns of a table that is easily read from a screen, or just
ANSWER = re.compile(r'<div class="answer"[^>]*>(.*?)</div>', re.DOTALL)  # of nclib.notebook.answer
CONCLUSIONS = re.compile(r'<ul class="conclusions">.*</ul>', re.DOTALL)
PREDICTION = re.compile(
    r"^(:{3,})\{(?:admonition\} Make a prediction|prediction\}[^\n]*)$.*?^\1$", re.DOTALL | re.M
)
EXERCISE = re.compile(r"^:::\{exercise-start\}.*", re.DOTALL | re.MULTILINE)
BELOW, BESIDE = (
    (1230, 500),
    (880, 690),
)  # pixels for a figure below its heading and beside it, as in slides.css
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
    prediction = PREDICTION.search(prose)
    if prediction:
        parts.append(markdown(plain(prediction[0])))
    parts += from_outputs(notebook.cells)
    parts += [markdown(plain(text)) for text in first_exercise(notebook.cells)]
    shown = "\n".join(f"<section>{part}</section>" for part in parts)
    return PAGE.format(title=escape(title), slides=shown)


def from_outputs(cells: list[NotebookNode]) -> Iterator[str]:
    """Figures, a table, the answer and statements, each with the heading above it on the page."""
    embedding_shown, table = False, shown_table(cells)
    for heading, text, _ in outputs(cells):
        for figure in FIGURE.findall(text):
            first = is_embedding(figure) and not embedding_shown
            embedding_shown |= first
            yield figure_slide(heading, hidden_colours(figure) if first else figure)
        if table and table in text:
            yield f"{heading}{table}"
            table = None
        for answer in ANSWER.findall(text):
            yield f'<h2>Your prediction, and the result</h2><div class="answer">{answer}</div>'
        for listed in CONCLUSIONS.findall(text):
            sentences = re.findall(r"<strong>(.*?)</strong>", listed)
            items = "".join(f"<li>{sentence}</li>" for sentence in sentences)
            yield f"{heading}<ul>{items}</ul>"


def outputs(cells: list[NotebookNode]) -> Iterator[tuple[str, str, list[str]]]:
    """The HTML of every output, with that of the heading above it, and its cell's tags."""
    heading = ""
    for cell in cells:
        if cell.cell_type == "markdown":
            heading = [heading, *re.findall(r"^#{2,3} (.+)$", cell.source, re.MULTILINE)][-1]
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/html", "")
            yield markdown(f"## {heading}"), text, cell.metadata.get("tags", [])


def figure_slide(heading: str, figure: str) -> str:
    """A figure below its heading, or beside it where that makes the figure larger."""
    box = re.search(r'viewBox="\S+ \S+ (\S+) (\S+)"', figure)
    width, height = map(float, box.groups()) if box else (2, 1)
    below, beside = (min(w / width, h / height) for w, h in (BELOW, BESIDE))
    return f'<div class="beside">{heading}{figure}</div>' if beside > below else f"{heading}{figure}"


def is_embedding(figure: str) -> bool:
    return "t-SNE (perplexity" in figure.partition("<figcaption>")[2]


def hidden_colours(figure: str) -> str:
    """The figure in grey, as slides.css has it, until reveal.js makes its fragment visible."""
    return figure.replace('class="nclib"', 'class="nclib fragment custom colours"', 1)


def shown_table(cells: list[NotebookNode]) -> str | None:
    """The first small table of results, or else the first that fits on a slide; None without one."""
    tables = [
        table for _, text, tags in outputs(cells) if "provenance" not in tags for table in TABLE.findall(text)
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
