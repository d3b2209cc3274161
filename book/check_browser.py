"""What the built pages are in a real browser: ``make browser`` runs this after ``make book``.

python -m pytest book/check_browser.py
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import yaml
from browser import chromium
from browser.visit import AXE, COLOURS, MEASURE, Visit, visit_all
from playwright.sync_api import expect, sync_playwright

import nclib
from nclib.chapters.tables import OPENING
from nclib.report.page import write_report

ROOT = Path(__file__).parent.parent
HTML = ROOT / "_build" / "html"
BASELINE = Path(__file__).parent / "browser" / "baseline.yml"
MOST_BYTES = 3_000_000  # of a page with its pictures
LEAST_TEXT = 9  # pixels, of writing in figures


def pages() -> list[Path]:
    own = ("search.html", "genindex.html", "book/*.html", "notebooks/*.html")
    return [path for pattern in own for path in HTML.glob(pattern)]


@pytest.fixture(scope="session")
def report(tmp_path_factory) -> Path:
    """What ``nclib report`` writes of the features of a released run, with images that are noise."""
    folder = tmp_path_factory.mktemp("report")
    f = nclib.released_runs(OPENING)[0].features("test")
    rows = np.flatnonzero(f.coarse.numpy() < 2)[:800]
    names = ["<b>first</b>", "second"]
    nclib.save_features(folder / "f.npz", f.h[rows], f.coarse[rows], f.logits()[rows], class_names=names)
    pixels = np.random.default_rng(0).integers(256, size=(len(rows), 32, 32, 3), dtype=np.uint8)
    np.save(folder / "images.npy", pixels)
    write_report(folder / "f.npz", folder / "report.html", images=folder / "images.npy")
    return folder / "report.html"


@pytest.fixture(scope="session")
def visits(request, report) -> list[Visit]:
    start = time.perf_counter()
    found = visit_all([*pages(), report])
    seconds = time.perf_counter() - start
    heaviest = max(found, key=lambda visit: visit.bytes)
    summary = f"{len(found)} pages in {seconds:.0f} s; the heaviest, {name(heaviest)}, has"
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"{summary} {heaviest.bytes / 1e6:.1f} MB", flush=True)
    return found


def name(visit: Visit) -> str:
    return visit.path.relative_to(HTML).as_posix() if visit.path.is_relative_to(HTML) else visit.path.name


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


def test_nothing_moves_for_readers_who_ask_for_less_motion(visits):
    none_of(listed(visits, lambda visit: visit.shown["moving"]))


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


# Controls, by keyboard and by mouse. A page without them is no fault; the summary says that there was none.


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium.find(), args=list(chromium.ARGUMENTS))
        yield started
        started.close()


TOO_LARGE = """async () => {
  await MathJax.startup.promise;
  const { width, height } = Reveal.getConfig();
  const found = [];
  for (let i = 0; i < Reveal.getTotalSlides(); i++) {
    Reveal.slide(i);
    await new Promise(requestAnimationFrame);
    const slide = Reveal.getCurrentSlide();
    if (slide.scrollWidth > width || slide.scrollHeight > height) found.push(slide.innerText.slice(0, 60));
  }
  Reveal.slide(0);
  return found;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_slides_fit_the_screen_and_can_be_read(browser, theme):
    found = []
    page = browser.new_page(
        viewport={"width": 1280, "height": 720}, color_scheme=theme, reduced_motion="reduce"
    )
    page.on("pageerror", lambda error: found.append(f"{page.url}: {error}"))
    decks = sorted(HTML.glob("teaching/*-slides.html"))
    assert decks
    for deck in decks:
        page.goto(deck.as_uri())
        found += [f"{deck.name}: too large: {text}" for text in page.evaluate(TOO_LARGE)]
        for script in (AXE, MEASURE):
            page.evaluate(script.read_text("utf-8"))
        unread = page.evaluate("rules => measure.violations(rules)", COLOURS)
        found += [f"{deck.name}: {v['target']}: {v['why']}" for v in unread]
    page.close()
    none_of(found)


@pytest.fixture
def opened(browser, request):
    """The first page that has an element of the class that the test is for."""
    selector = request.param
    for path in pages():
        if f'class="{selector}' in path.read_text("utf-8"):
            page = browser.new_page(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
            page.goto(path.as_uri())
            yield page
            page.close()
            return
    pytest.skip(f"no page has a .{selector}")


@pytest.mark.parametrize("opened", ["quiz"], indirect=True)
@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_a_quiz_says_whether_the_answer_is_right(opened, by):
    quiz = opened.locator(".quiz").first
    for right in ("false", "true"):
        option = quiz.locator(f".quiz-option[data-right={right}] input").first
        check = quiz.locator(".quiz-check")
        for control, key in ((option, "Space"), (check, "Enter")):
            if by == "mouse":
                control.click()
            else:
                control.focus()
                opened.keyboard.press(key)
        said = quiz.locator(".quiz-verdict").inner_text()
        shown = quiz.locator(".quiz-option.quiz-right, .quiz-option.quiz-wrong")
        assert said and shown.count() > 0
        assert ("Not yet" in said) == (right == "false")


@pytest.mark.parametrize("opened", ["explorer"], indirect=True)
@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_the_explorer_names_the_point_that_is_chosen(opened, by):
    explorer = opened.locator(".explorer").first
    canvas, named = explorer.locator(".explorer-canvas"), explorer.locator(".explorer-details")
    expect(named).to_be_hidden()
    canvas.scroll_into_view_if_needed()
    if by == "mouse":
        box = canvas.bounding_box()
        for x in range(10, int(box["width"]), 20):  # across the middle, until it meets a point
            opened.mouse.move(box["x"] + x, box["y"] + box["height"] / 2)
            if named.is_visible():
                break
    else:
        canvas.focus()
        opened.keyboard.press("ArrowRight")
        expect(explorer.locator("[aria-live]")).not_to_be_empty()
    expect(named).to_be_visible()
    expect(named).not_to_be_empty()


@pytest.mark.parametrize("opened", ["explorer"], indirect=True)
def test_the_explorer_shows_the_image_of_the_point_and_forgets_it(opened):
    opened.locator(".explorer-canvas").first.focus()
    opened.keyboard.press("Home")
    opened.wait_for_function(
        """() => document.querySelector(".explorer-thumb").getContext("2d")
                 .getImageData(0, 0, 32, 32).data.some((value) => value > 0 && value < 255)"""
    )
    opened.keyboard.press("Escape")
    expect(opened.locator(".explorer-details").first).to_be_hidden()
    expect(opened.locator(".explorer-help").first).to_be_visible()


@pytest.mark.parametrize("opened", ["explorer"], indirect=True)
def test_the_explorer_plays_and_colours(opened):
    explorer = opened.locator(".explorer").first
    canvas, epoch = explorer.locator(".explorer-canvas"), explorer.locator(".explorer-epoch")
    play, legend = explorer.locator(".explorer-play"), explorer.locator(".explorer-legend")
    explorer.locator(".explorer-slider").fill("0")
    expect(epoch).to_have_text(re.compile("^epoch 0 of "))
    start = canvas.screenshot()
    play.click()
    expect(epoch).not_to_have_text(re.compile("^epoch 0 of "))
    play.click()
    expect(play).to_have_text("Play")
    assert canvas.screenshot() != start
    classes = legend.inner_text()
    explorer.get_by_label("Colour").select_option("Prediction")
    expect(legend).not_to_have_text(classes)


@pytest.mark.parametrize("opened", ["explorer"], indirect=True)
def test_the_explorers_epochs_change_with_the_keyboard(opened):
    slider = opened.locator(".explorer input[type=range]").first
    before = int(slider.input_value())
    slider.focus()
    opened.keyboard.press("ArrowRight" if before == 0 else "ArrowLeft")
    assert int(slider.input_value()) == (1 if before == 0 else before - 1)


def test_a_figure_is_enlarged_and_put_back_with_the_keyboard(browser):
    page = browser.new_page()
    page.goto(next(iter(HTML.glob("notebooks/03_*.html"))).as_uri())
    button = page.locator("figure.nclib .figure-enlarge").first
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator("dialog.figure-zoom[open] svg").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog.figure-zoom[open]")).to_have_count(0)
    expect(button).to_be_focused()
    page.close()
