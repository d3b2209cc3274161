"""Sphinx extension: mends what the theme and MyST-NB write into every page.

Each entry of ``MENDED`` names a defect that a browser or axe-core reports; ``make browser`` shows whether it
is still one.
"""

from __future__ import annotations

import re
from pathlib import Path

MENDED = (
    # Browsers refuse a preloaded font on pages opened from a file, and say so on the console; styles load it.
    (r'<link rel="preload" as="font"[^>]*>\s*', ""),
    # The icons are in the styles' font; the same as a script of 1.5 MB keeps a slow phone blank for seconds.
    (r'<script src="[^"]*/fontawesome/[^"]*"></script>\s*', ""),
    # An element's name has to contain the text that it shows.
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
    (r'(<button class="btn search-button-field[^>]*?)\s+aria-label="Search"', r"\1"),
    # A list may hold entries only; docutils puts links back to the text beside them.
    (r'<div role="list" class="citation-list">', '<div class="citation-list">'),
    # A wide table scrolls in a box of its own and stays a table.
    (r"(?<!<div class=\"scrolls\">)(<table\b.*?</table>)", r'<div class="scrolls">\1</div>'),
)


def mended(page: str) -> str:
    for pattern, replacement in MENDED:
        page = re.sub(pattern, replacement, page, flags=re.DOTALL)
    return page


def mend_pages(app, exception) -> None:
    if exception is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*.html"):
            before = path.read_text("utf-8")
            after = mended(before)
            if after != before:
                path.write_text(after, "utf-8")


def setup(app) -> dict[str, bool]:
    app.connect("build-finished", mend_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
