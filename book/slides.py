"""Slides of a chapter: a selection from its notebook, shown by reveal.js from the folder beside them.

A slide each for the title and the question, the prediction, every figure with its caption, what it means (the
statements, as far as the data decide them), and the first exercise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import escape

from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode

FIGURE = re.compile(r'<figure class="nclib">.*?</figure>', re.DOTALL)
CONCLUSIONS = re.compile(r'<ul class="conclusions">.*</ul>', re.DOTALL)
PREDICTION = re.compile(
    r"^(:{3,})\{(?:admonition\} Make a prediction|prediction\}[^\n]*)$.*?^\1$", re.DOTALL | re.M
)
EXERCISE = re.compile(r"^:::\{exercise-start\}.*", re.DOTALL | re.MULTILINE)
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
    """Figures and statements, each below the heading under which it stands on the page."""
    heading = ""
    for cell in cells:
        if cell.cell_type == "markdown":
            heading = [heading, *re.findall(r"^#{2,3} (.+)$", cell.source, re.MULTILINE)][-1]
            continue
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/html", "")
            for figure in FIGURE.findall(text):
                yield f"{markdown(f'## {heading}')}{figure}"
            for listed in CONCLUSIONS.findall(text):
                sentences = re.findall(r"<strong>(.*?)</strong>", listed)
                items = "".join(f"<li>{sentence}</li>" for sentence in sentences)
                yield f"{markdown(f'## {heading}')}<ul>{items}</ul>"


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
