"""Sphinx extension: pages are read several at once.

Sphinx has the option ``--jobs`` for this; Jupyter Book does not pass it on. ``make book`` has executed the
notebooks before; a plain ``jupyter-book build`` executes them here, and so side by side.
"""

from __future__ import annotations

import sys

from jupyter_cache import get_cache

PAGES_AT_ONCE = 4


def read_side_by_side(app, env, docnames: list[str]) -> None:
    if sys.platform != "linux":  # Sphinx forks, which elsewhere libraries may not survive
        return
    app.parallel = PAGES_AT_ONCE
    if numbering := app.extensions.get("sphinx_multitoc_numbering"):
        # Its author does not say so, but it is safe: it numbers pages after all have been read.
        numbering.parallel_read_safe = True
    # Each process gets a slice of the names: chapters, which take longest, are spread over all.
    docnames[:] = [name for first in range(PAGES_AT_ONCE) for name in docnames[first::PAGES_AT_ONCE]]
    cache = get_cache(app.config.nb_execution_cache_path)
    cache.list_cache_records()  # makes the database, before all open it


def setup(app) -> dict[str, bool]:
    app.connect("env-before-read-docs", read_side_by_side)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
