"""Open every page once in Chromium and measure it: light, dark, then as wide as a phone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from browser import chromium
from playwright.async_api import Page, async_playwright

DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
AT_ONCE = 2
PATIENCE = 300_000  # milliseconds for a page on a busy machine
AXE = Path(__file__).parents[2] / "tests" / "vendor" / "axe" / "axe.min.js"
MEASURE = Path(__file__).with_name("measure.js")
COLOURS = ["color-contrast", "link-in-text-block"]  # axe's rules that a theme decides


@dataclass
class Visit:
    """What one page was found to be.

    Attributes
    ----------
    errors : messages that the console or an exception gave.
    outside : addresses requested that are no files.
    shown : of ``measure.page`` in measure.js.
    violations : of axe-core's rules, by theme.
    sideways : what the page scrolls to, on a phone.
    bytes : of the page and its pictures.
    """

    path: Path
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    shown: dict[str, Any] = field(default_factory=dict)
    violations: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    sideways: list[str] = field(default_factory=list)
    bytes: int = 0


def visit_all(paths: Iterable[Path]) -> list[Visit]:
    """Visits of all pages, those that are largest first."""
    return asyncio.run(_visit_all(sorted(paths, key=lambda path: -path.stat().st_size)))


async def _visit_all(paths: list[Path]) -> list[Visit]:
    async with async_playwright() as playwright:
        browser = await chromium.launch(playwright)
        free = asyncio.Semaphore(AT_ONCE)

        async def one(path: Path) -> Visit:
            async with free:
                context = await browser.new_context(viewport=DESKTOP, reduced_motion="reduce")
                context.set_default_timeout(PATIENCE)
                found = await visit(await context.new_page(), path)
                await context.close()
                return found

        visits = await asyncio.gather(*map(one, paths))
        await browser.close()
        return visits


async def visit(page: Page, path: Path) -> Visit:
    """Measure one page."""
    found = Visit(path, bytes=path.stat().st_size)
    page.on("console", lambda said: said.type == "error" and found.errors.append(said.text))
    page.on("pageerror", lambda error: found.errors.append(str(error)))
    page.on("request", lambda request: _note(request, found))
    await chromium.opened(page, path)
    await page.evaluate("document.querySelectorAll('details').forEach(part => (part.open = true))")
    for script in (AXE, MEASURE):
        await page.evaluate(script.read_text("utf-8"))
    found.shown = await page.evaluate("measure.page()")
    found.violations["light"] = await page.evaluate("measure.violations()")
    await in_theme(page, "dark")
    found.violations["dark"] = await page.evaluate("rules => measure.violations(rules)", COLOURS)
    await page.set_viewport_size(PHONE)
    found.sideways = await page.evaluate("measure.sideways()")
    return found


def _note(request: Any, found: Visit) -> None:
    if not request.url.startswith(("file:", "data:", "blob:")):
        found.outside.append(request.url)
    elif request.resource_type == "image" and request.url.startswith("file:"):
        found.bytes += Path(unquote(request.url.removeprefix("file://"))).stat().st_size


async def in_theme(page: Page, theme: str) -> None:
    await page.evaluate(
        "theme => Object.assign(document.documentElement.dataset, {theme, mode: theme})", theme
    )
