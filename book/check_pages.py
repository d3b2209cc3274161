"""What every build of the book is checked for: ``make book`` runs this on the pages that it made.

python -m pytest book/check_pages.py
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from chapters import contents

ROOT = Path(__file__).parent.parent
HTML = ROOT / "_build" / "html"
LOADED_TAGS = r"<(?:script|img|iframe|source|embed|object|link)\b[^>]*?\b(?:src|href|data)=[\"']([^\"']*)"


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Text of every page by its path."""
    return {p.relative_to(HTML).as_posix(): p.read_text("utf-8") for p in HTML.rglob("*.html")}


def test_every_page_of_the_contents_is_built(pages):
    assert {f"{page}.html" for page in contents(ROOT)} <= set(pages)


def test_every_chapter_draws_a_figure(pages):
    chapters = [text for page, text in pages.items() if page.startswith("notebooks/")]
    assert len(chapters) == len(list((ROOT / "notebooks").glob("[0-9][0-9]_*.md")))
    assert all('<figure class="nclib">' in text for text in chapters)


def test_nothing_is_loaded_from_elsewhere(pages):
    loaded = {
        (page, address)
        for page, text in pages.items()
        for address in re.findall(LOADED_TAGS, text)
        if re.match(r"(https?:)?//", address)
    }
    assert loaded == set()


def test_no_script_in_a_page_names_a_cdn(pages):
    for page, text in pages.items():
        for script in re.findall(r"<script\b.*?</script>", text, re.DOTALL):
            assert not re.search(r"https?://", script), f"{page}: {script[:200]}"


def test_styles_load_nothing_from_elsewhere(pages):
    for path in HTML.rglob("*.css"):
        assert not re.search(r"(url\(['\"]?|@import\s+['\"])(https?:)?//", path.read_text("utf-8"))


def test_everything_loaded_is_there(pages):
    for page, text in pages.items():
        for address in re.findall(LOADED_TAGS, text):
            local = address.split("?")[0].split("#")[0]
            if local.endswith((".js", ".css", ".svg", ".png", ".woff2")):
                assert ((HTML / page).parent / local).resolve().is_file(), f"{page}: {address}"


def test_explorers_carry_their_data_and_keep_pages_light(pages):
    explorers = {page: text for page, text in pages.items() if '<div class="explorer"' in text}
    assert "book/intro.html" in explorers
    for page, text in explorers.items():
        assert text.count('class="explorer-data"') == text.count('<div class="explorer"'), page
        assert "_static/explorer.js" in text
        assert "_static/explorer.css" in text
        assert len(text.encode()) < 3_000_000, page


def test_statements_lead_to_all_statements(pages):
    with_statements = {page: text for page, text in pages.items() if '<ul class="conclusions">' in text}
    assert len(with_statements) > 1
    for page, text in with_statements.items():
        address = re.search(r'<a href="([^"]*)">All statements</a> has the whole rule', text)[1]
        assert ((HTML / page).parent / address).resolve() == HTML / "book" / "statements.html"


def test_mathjax_is_local(pages):
    page = (HTML / "book" / "intro.html").read_text("utf-8")
    assert 'src="../_static/mathjax/tex-svg-full.js' in page
    assert (HTML / "_static" / "mathjax" / "LICENSE").is_file()


def test_tables_are_whole(pages):
    for page, text in pages.items():
        assert not re.search(r"<p>\d+ rows . \d+ columns</p>", text), page
        assert not re.search(r"<t[dh][^>]*>[^<]*\.\.\.</t[dh]>", text), page


def test_no_raw_directives(pages):
    for page, text in pages.items():
        body = re.sub(r"<(pre|script|style|code)\b.*?</\1>", "", text, flags=re.DOTALL)
        assert not re.search(r"(```|:::)\{|\{(cite|math|ref|term|doc)[:}]", body), page
