"""Sphinx extension: the directive ``statements-table``, all statements that the book's pages decide.

Pages print their statements with ``nclib.chapters.conclusions``, whose outputs carry the rows as data.
``make book`` has executed all pages before Sphinx reads the first; here the rows are taken from its cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from jupyter_cache import get_cache
from nbformat import NotebookNode

from nclib.chapters.conclusions import collected

COLUMNS = ("page", "statement", "data", "effect", "95 % interval", "has to exceed", "n", "seeds", "p (Holm)")
COLUMNS += ("verdict",)


class StatementsTable(Directive):
    def run(self) -> list[nodes.Node]:
        app = self.state.document.settings.env.app
        rows = collected(executed(Path(app.config.nb_execution_cache_path), Path(app.srcdir)))
        if not rows:
            return [nodes.paragraph(text="No page has been executed yet; make book executes them.")]
        table = html_table(rows)
        return [nodes.raw("", table, format="html")]


def executed(cache_path: Path, root: Path) -> Iterator[tuple[str, NotebookNode]]:
    """Names and executed notebooks of all pages, in the order of their names."""
    cache = get_cache(str(cache_path))
    records = sorted(cache.list_cache_records(), key=lambda record: Path(record.uri).name)
    for record in records:
        yield Path(record.uri).stem, cache.get_cache_bundle(record.pk).nb


def html_table(rows: list[dict[str, Any]]) -> str:
    import pandas as pd

    cells = [dict(zip(COLUMNS, cells_of(row), strict=True)) for row in rows]
    with pd.option_context("display.max_colwidth", None):
        return pd.DataFrame(cells).to_html(index=False, classes="claims", border=0)


def cells_of(row: dict[str, Any]) -> tuple:
    interval = "-" if row["low"] is None else f"{row['low']:.3g} to {row['high']:.3g}"
    p = "-" if row["p"] is None else f"{row['p']:.2g}"
    effect = f"{row['effect']}: {row['value']:.3g}"
    start = (row["page"].replace("_", " "), row["statement"], row["data"], effect, interval)
    return (*start, f"{row['above']:.3g}", f"{row['n']:,}", row["seeds"], p, row["verdict"])


def setup(app) -> dict[str, bool]:
    app.add_directive("statements-table", StatementsTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
