"""What the theme writes is mended, once, and the rest of a page stays as it is."""

from __future__ import annotations

import importlib.util

import pytest

from nclib.paths import REPOSITORY

PATH = REPOSITORY / "book" / "_ext" / "accessible_pages.py"
spec = importlib.util.spec_from_file_location("accessible_pages", PATH)
accessible_pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(accessible_pages)

TABLE = '<table class="dataframe"><tr><td>1</td></tr></table>'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('<p>a</p><link rel="preload" as="font" crossorigin href="x.woff2" />\n<p>b</p>', "<p>a</p><p>b</p>"),
        ('<summary aria-label="Toggle hidden content">Show</summary>', "<summary>Show</summary>"),
        ('<summary aria-label="Another">Show</summary>', '<summary aria-label="Another">Show</summary>'),
        (TABLE + TABLE, 2 * f'<div class="scrolls">{TABLE}</div>'),
    ],
)
def test_a_page_is_mended_once(before, after):
    assert accessible_pages.mended(before) == after
    assert accessible_pages.mended(after) == after


def test_a_button_is_named_by_what_it_shows():
    button = '<button class="btn search-button-field x"\n title="Search"\n aria-label="Search"\n data-a="b">'
    assert "aria-label" not in accessible_pages.mended(button) and 'data-a="b"' in accessible_pages.mended(
        button
    )
