"""Sphinx extension: every page says how to cite it and from which state it was made.

The footer takes the citation from CITATION.cff, and the version and the date from the last commit that
decides pages, not from the clock: two builds of one state are equal. Outside of a git repository it names the
version alone. Cards that social networks show get title and description, and an image where
``html_baseurl`` says how to address it.
"""

from __future__ import annotations

import subprocess
from html import escape
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes

DECIDES = ("_config.yml", "_toc.yml", "book", "notebooks", "nclib", "benchmarks/results", "requirements.lock")
CARD_IMAGE = "_static/fine-structure.png"
LONGEST = 200  # characters of a description


def revision(root: Path) -> str:
    """The last commit that touched what decides pages, with its date, and whether that has changed since.

    Empty where ``root`` is not the top of a git repository, or git is missing.
    """
    there = [path for path in DECIDES if (root / path).exists()]
    if Path(_git(root, "rev-parse", "--show-toplevel") or "/nowhere").resolve() != root.resolve():
        return ""
    commit = _git(root, "log", "-1", "--format=%h, %cs", "--", *there)
    changed = _git(root, "status", "--porcelain", "--", *there)
    return f"{commit}, with changes since" if commit and changed else commit


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def footer(citation: dict[str, Any], state: str) -> str:
    """How to cite the book, and what it was made from."""
    authors = "; ".join(author_of(author) for author in citation["authors"])
    year = f" ({state.split(', ')[1][:4]})" if state else ""
    made = f"Version {citation['version']}" + (f", commit {state}" if state else "")
    cite = f"{authors}{year}. <cite>{escape(citation['title'])}</cite>, version {citation['version']}."
    return f'<p class="colophon">To cite: {cite} See CITATION.cff.<br>{escape(made)}.</p>'


def author_of(author: dict[str, str]) -> str:
    return escape(author.get("name") or f"{author['given-names']} {author['family-names']}")


def extend_footer(app, config) -> None:
    path = Path(app.srcdir) / "CITATION.cff"
    if path.is_file():
        citation = yaml.safe_load(path.read_text("utf-8"))
        options = config.html_theme_options
        options["extra_footer"] = options.get("extra_footer", "") + footer(
            citation, revision(Path(app.srcdir))
        )


def description(document: nodes.document) -> str:
    """The first paragraph of a page, cut at a word."""
    paragraphs = (p for p in document.findall(nodes.paragraph) if isinstance(p.parent, nodes.section))
    text = " ".join(next((p.astext() for p in paragraphs), "").split())
    return text if len(text) <= LONGEST else text[:LONGEST].rpartition(" ")[0] + " ..."


def add_card(app, pagename: str, templatename: str, context: dict[str, Any], document) -> None:
    if document is None:
        return
    base = app.config.html_baseurl.rstrip("/")
    title = next(document.findall(nodes.title), nodes.title()).astext()
    about = description(document)
    card = {
        "og:type": "article",
        "og:site_name": app.config.html_title,
        "og:title": title,
        "og:description": about,
        "twitter:card": "summary_large_image" if base else "summary",
    }
    if base:
        card |= {"og:url": f"{base}/{pagename}.html", "og:image": f"{base}/{CARD_IMAGE}"}
    metas = [f'<meta name="description" content="{escape(about)}">'] if about else []
    metas += [f'<meta property="{key}" content="{escape(value)}">' for key, value in card.items() if value]
    context["metatags"] = context.get("metatags", "") + "\n".join(metas)


def setup(app) -> dict[str, bool]:
    app.connect("config-inited", extend_footer)
    app.connect("html-page-context", add_card)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
