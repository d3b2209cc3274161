"""Sphinx extension: the directive ``statements-table``, all statements that pages decide, and links to it.

Pages print their statements with ``nclib.chapters.conclusions``, whose outputs carry the rows as data.
``make book`` has executed all pages before Sphinx reads the first; here the rows are taken from its cache.
"""

from __future__ import annotations

from html import escape
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd
from docutils import nodes
from docutils.parsers.rst import Directive
from jupyter_cache import get_cache
from nbformat import NotebookNode

from nclib.chapters.conclusions import PAGE, collected, repeats

DOCUMENT = "book/statements"
COLUMNS = ("data", "verdict", "effect", "95 % interval", "repeats", "n", "p (Holm)")


class StatementsTable(Directive):
    def run(self) -> list[nodes.Node]:
        return [nodes.container(statements_table=True)]


def fill(app, document: nodes.document, docname: str) -> None:
    """Write the table once all pages are read, whose titles and order it has."""
    places = [place for place in document.findall(nodes.container) if place.get("statements_table")]
    if places:
        notebooks = executed(Path(app.config.nb_execution_cache_path))
        pages = [page for page in app.env.collect_relations() if Path(page).name in notebooks]
        rows = collected((page, notebooks[Path(page).name]) for page in pages)
        headings = {page: heading(app, page, docname) for page in pages}
        for place in places:
            place += table_of(rows, headings)


def executed(cache_path: Path) -> dict[str, NotebookNode]:
    """Executed notebooks of all pages by their file's name."""
    cache = get_cache(str(cache_path))
    records = cache.list_cache_records()
    return {Path(record.uri).stem: cache.get_cache_bundle(record.pk).nb for record in records}


def heading(app, page: str, docname: str) -> str:
    """The title of a page as a link."""
    address = app.builder.get_relative_uri(docname, page)
    return f'<h2><a href="{address}">{escape(app.env.titles[page].astext())}</a></h2>'


def table_of(rows: list[dict[str, Any]], headings: dict[str, str]) -> nodes.Node:
    if not rows:
        return nodes.paragraph(text="No page has been executed yet; make book executes them.")
    return nodes.raw("", html_of(rows, headings), format="html")


def html_of(rows: list[dict[str, Any]], headings: dict[str, str]) -> str:
    """A table for each statement, under the headings of their pages."""
    parts = []
    for page, of_page in groupby(rows, itemgetter("page")):
        parts.append(headings[page])
        for _, of_statement in groupby(of_page, itemgetter("statement")):
            cases = list(of_statement)
            effect = f"Effect: {cases[0]['effect']}; has to exceed {cases[0]['above']:.3g}."
            parts.append(f"<p><strong>{escape(cases[0]['statement'])}.</strong> {escape(effect)}</p>")
            table = pd.DataFrame([dict(zip(COLUMNS, cells_of(case), strict=True)) for case in cases])
            parts.append(table.to_html(index=False, classes="claims", border=0))
    return "\n".join(parts)


def cells_of(row: dict[str, Any]) -> tuple:
    interval = "-" if row["low"] is None else f"{row['low']:.3g} to {row['high']:.3g}"
    p = "-" if row["p"] is None else f"{row['p']:.2g}"
    effect = f"{row['value']:.3g}"
    return (row["data"], row["verdict"], effect, interval, repeats(row), f"{row['n']:,}", p)


def link(app, pagename: str, templatename: str, context: dict[str, Any], document) -> None:
    """Make the table's name a link where a page prints statements; a notebook has no address for it."""
    if "body" in context:
        address = app.builder.get_relative_uri(pagename, DOCUMENT)
        context["body"] = context["body"].replace(PAGE, f'<a href="{address}">{PAGE[1:-1]}</a>')


def setup(app) -> dict[str, bool]:
    app.add_directive("statements-table", StatementsTable)
    app.connect("doctree-resolved", fill)
    app.connect("html-page-context", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
