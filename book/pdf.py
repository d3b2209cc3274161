"""Print the built book as one PDF: ``make pdf``, after ``make book``.

Chromium opens every page in the order of the contents, with its formulas set; the articles become one
document, with a title page, contents and numbered pages.
"""

from __future__ import annotations

import asyncio
import re
import sys
from html import escape
from pathlib import Path

import yaml
from browser import chromium
from chapters import contents

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
PDF = ROOT / "_build" / "book.pdf"
BROWSER = Path(__file__).with_name("browser")
STYLES = """Array.from(document.querySelectorAll("link[rel=stylesheet]"),
    link => `<link rel="stylesheet" href="${link.href}">`).join("")"""
FOOTER = '<div style="font-size: 8pt; text-align: center; width: 100%"><span class="pageNumber"></span></div>'


async def printed() -> int:
    """Write the PDF; returns the number of its pages."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await chromium.launch(playwright)
        page = await browser.new_page(viewport={"width": 900, "height": 1200})
        collect = (BROWSER / "collect.js").read_text("utf-8").strip()
        articles = []
        for name in contents(ROOT):
            await chromium.opened(page, HTML / f"{name}.html")
            articles.append(await page.evaluate(collect, f"{HTML.as_posix()}/"))
        formulas = max((article["formulas"] for article in articles), key=len)
        styles = await page.evaluate(STYLES) + formulas
        whole = HTML / "whole.html"
        whole.write_text(document(articles, styles), "utf-8")
        await page.goto(whole.as_uri())
        await page.pdf(path=PDF, format="A4", print_background=True, outline=True, tagged=True,
                       display_header_footer=True, header_template="<span></span>", footer_template=FOOTER,
                       margin={"top": "18mm", "bottom": "20mm", "left": "16mm", "right": "16mm"})  # fmt: skip
        await browser.close()
        whole.unlink()
    return len(re.findall(rb"/Type\s*/Page\b", PDF.read_bytes()))


def document(articles: list[dict[str, str]], styles: str) -> str:
    """All articles in one page."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    title, author = escape(config["title"]), escape(config["author"])
    entries = (f'<li><a href="#{a["key"]}">{escape(a["title"])}</a></li>' for a in articles)
    sections = (f'<section class="page" id="{a["key"]}">{a["html"]}</section>' for a in articles)
    own = (BROWSER / "book.css").read_text("utf-8")
    return (
        f'<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        f"<title>{title}</title>{styles}<style>{own}</style></head><body>"
        f'<main class="bd-main"><div class="bd-content">'
        f'<div class="bd-article-container"><article class="bd-article">'
        f'<div class="title-page"><h1>{title}</h1><p>{author}</p></div>'
        f'<nav class="book-contents"><h2>Contents</h2><ol>{"".join(entries)}</ol></nav>'
        f"{''.join(sections)}</article></div></div></main></body></html>"
    )


def main() -> int:
    if not (HTML / "book").is_dir():
        print("make pdf: there is no book yet; make book builds it", file=sys.stderr)
        return 1
    if chromium.find_or_install() is None:
        print("make pdf: no Chromium found; install one (apt install chromium)", file=sys.stderr)
        return 1
    count = asyncio.run(printed())
    print(f"{PDF.relative_to(ROOT)}: {count} pages, {PDF.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
