"""Sphinx extension: the directive ``statements-table``, all statements that pages decide, and links to it.

Pages print their statements with ``nclib.chapters.conclusions``, whose outputs carry the rows as data.
``make book`` has executed all pages before Sphinx reads the first; here the rows are taken from its cache.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        app = self.state.document.settings.env.app
        rows = collected(executed(Path(app.config.nb_execution_cache_path)))
        if not rows:
            return [nodes.paragraph(text="No page has been executed yet; make book executes them.")]
        return [nodes.raw("", html_of(rows), format="html")]


def executed(cache_path: Path) -> Iterator[tuple[str, NotebookNode]]:
    """Names and executed notebooks of all pages, in the order of their names."""
    cache = get_cache(str(cache_path))
    records = sorted(cache.list_cache_records(), key=lambda record: Path(record.uri).name)
    for record in records:
        yield Path(record.uri).stem, cache.get_cache_bundle(record.pk).nb


def html_of(rows: list[dict[str, Any]]) -> str:
    """A table for each statement, in the order of pages."""
    parts = []
    for page, of_page in groupby(rows, itemgetter("page")):
        parts.append(f"<h2>{escape(page.replace('_', ' '))}</h2>")
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
    app.connect("html-page-context", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
