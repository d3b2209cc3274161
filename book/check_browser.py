"""What the built pages are in a real browser: ``make browser`` runs this after ``make book``.

python -m pytest book/check_browser.py
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from browser.visit import Visit, visit_all

ROOT = Path(__file__).parent.parent
HTML = ROOT / "_build" / "html"
BASELINE = Path(__file__).parent / "browser" / "baseline.yml"
MOST_BYTES = 3_000_000  # of a page with its pictures
LEAST_TEXT = 9  # pixels, of writing in figures


def pages() -> list[Path]:
    own = ("search.html", "genindex.html", "book/*.html", "notebooks/*.html")
    return [path for pattern in own for path in HTML.glob(pattern)]


@pytest.fixture(scope="session")
def visits(request) -> list[Visit]:
    start = time.perf_counter()
    found = visit_all(pages())
    seconds = time.perf_counter() - start
    heaviest = max(found, key=lambda visit: visit.bytes)
    summary = f"{len(found)} pages in {seconds:.0f} s; the heaviest, {name(heaviest)}, has"
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"{summary} {heaviest.bytes / 1e6:.1f} MB", flush=True)
    return found


def name(visit: Visit) -> str:
    return visit.path.relative_to(HTML).as_posix()


def listed(visits: Iterable[Visit], found: Callable[[Visit], Iterable[object]]) -> list[str]:
    """A line for each thing found, with its page."""
    return [f"{name(visit)}: {thing}" for visit in visits for thing in found(visit)]


def none_of(lines: list[str]) -> None:
    assert not lines, f"{len(lines)} found\n" + "\n".join(lines)


def test_no_errors_on_the_console(visits):
    none_of(listed(visits, lambda visit: visit.errors))


def test_nothing_is_requested_from_outside(visits):
    none_of(listed(visits, lambda visit: visit.outside))


def test_no_page_scrolls_sideways_on_a_phone(visits):
    none_of(listed(visits, lambda visit: visit.sideways))


def test_no_figure_is_empty(visits):
    assert sum(visit.shown["figures"] for visit in visits) > 0
    none_of(listed(visits, lambda visit: visit.shown["emptyFigures"]))


def test_every_figure_says_in_words_what_it_shows(visits):
    none_of(listed(visits, lambda visit: visit.shown["figuresWithoutText"]))


def test_no_markup_is_left(visits):
    none_of(listed(visits, lambda visit: visit.shown["rawMarkup"]))


def test_links_lead_somewhere(visits):
    anchors = {visit.path: set(visit.shown["ids"]) for visit in visits}

    def dead(visit: Visit) -> list[str]:
        found = (broken(visit, link, anchors) for link in visit.shown["links"])
        return sorted(set(filter(None, found)))

    none_of(listed(visits, dead))


def broken(visit: Visit, link: str, anchors: dict[Path, set[str]]) -> str | None:
    """The link, if it is one inside the book that leads nowhere."""
    if re.match(r"[a-z]+:|//", link):
        return None
    address, _, anchor = link.partition("#")
    target = (visit.path.parent / unquote(address.partition("?")[0])).resolve() if address else visit.path
    if not target.is_file():
        return f"{link} (no such file)"
    if anchor and target in anchors and unquote(anchor) not in anchors[target]:
        return f"{link} (no such anchor)"
    return None


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(visits, theme):
    """Rules and elements that the baseline names, each with its cause, are let through."""
    known = yaml.safe_load(BASELINE.read_text("utf-8")) or []

    def unknown(visit: Visit) -> list[str]:
        return [
            f"{v['rule']}: {v['target']}\n    {v['html']}\n    {v['why']}"
            for v in visit.violations[theme]
            if not any(k["rule"] == v["rule"] and k["element"] in v["target"] for k in known)
        ]

    none_of(listed(visits, unknown))


def test_writing_in_figures_can_be_read(visits):
    none_of(
        listed(
            visits,
            lambda visit: [
                f"{text['size']:.1f} pixels: {text['text']!r} in {text['figure']}"
                for text in visit.shown["figureText"]
                if text["size"] < LEAST_TEXT
            ],
        )
    )


def test_pages_are_light(visits):
    none_of(listed(visits, lambda visit: [f"{visit.bytes / 1e6:.1f} MB"] if visit.bytes > MOST_BYTES else []))
