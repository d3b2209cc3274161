"""The book's MyST as plain Markdown, for readers outside the book: copies of notebooks, and their pages.

Directives become a bold line, citations and links the words that they show.
"""

from __future__ import annotations

import re
from pathlib import Path

from nclib.paths import NOTEBOOKS, REPOSITORY

BIBLIOGRAPHY = REPOSITORY / "book" / "references.bib"
TITLES = {  # of directives whose argument is none
    "exercise-start": "Exercise: {}",
    "solution-start": "Solution: {}",
    "exercise-end": "",
    "solution-end": "",
    "prediction": "Make a prediction",
    "quiz": "Check yourself",
}
EXPLORER = "*The explorer is on this chapter's page of the book.*"
EXPLAINED = re.compile(  # an option of a quiz
    r"^ +- (?P<text>(?:Right|Wrong)\..*\n?(?: {3,}.*\n?)*)", re.MULTILINE
)


def plain(text: str, titles: dict[str, str] | None = None) -> str:
    """Markdown without MyST.

    Parameters
    ----------
    titles : of exercises by their label, see ``exercise_titles``.
    """
    text = re.sub(r"^```\{explorer\}.*?^```$", EXPLORER, text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\{cite:([tp])\}`(\w+)`", lambda m: citation(m[2], m[1] == "p"), text)
    text = re.sub(r"(^|[.?!]\**\s+|\n\n|\n\* )?\{doc\}`([^`<]+)`", _page, text)
    directive = re.compile(r"^:{3,}\{([\w-]+)\} *(.*)$\n?", re.MULTILINE)
    text = directive.sub(lambda m: _heading(m[1], m[2], titles or {}), text)
    text = re.sub(r"^(:{3,}|:[\w-]+:.*)$\n?", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\([\w-]+\)=$\n?", "", text, flags=re.MULTILINE)
    return re.sub(r"\{[\w:-]+\}`([^`<]+?)(?: *<[^`>]*>)?`", r"\1", text).strip()


def exercise_titles(text: str) -> dict[str, str]:
    """Title of each exercise by its label."""
    return {label: title for title, label in re.findall(r"\{exercise-start\} (.+)\n:label: (\S+)", text)}


def folded_answers(text: str) -> str:
    """The text with the explanation of each option of a quiz folded, as HTML has it."""
    folded = "  - <details><summary>Right or wrong?</summary>\n\n    {}\n\n    </details>\n"
    return EXPLAINED.sub(lambda found: folded.format(found["text"].strip()), text)


def citation(key: str, in_brackets: bool) -> str:
    """Authors and year, such as Papyan et al. (2020); a key that the bibliography lacks stays."""
    entries = BIBLIOGRAPHY.read_text("utf-8")
    entry = re.search(rf"^@\w+\{{{key},\n(.*?)^\}}", entries, re.DOTALL | re.MULTILINE)
    if not entry:
        return key
    authors, year = (re.search(rf"\b{field}\s*= *\{{(.*)\}},", entry[1])[1] for field in ("author", "year"))
    names = [_plain_tex(author.partition(",")[0]) for author in authors.split(" and ")]
    shown = {1: names[0], 2: " and ".join(names)}.get(len(names), f"{names[0]} et al.")
    return f"({shown}, {year})" if in_brackets else f"{shown} ({year})"


def _heading(directive: str, argument: str, titles: dict[str, str]) -> str:
    title = TITLES.get(directive, "{}").format(titles.get(argument, argument))
    return f"**{title}**\n\n" if title else ""


def _plain_tex(name: str) -> str:
    """A name without TeX's accents and braces; letters stay as they are without them."""
    return re.sub(r"\\.|[{}]", "", name).strip()


def _page(link: re.Match[str]) -> str:
    """A link as words that fit into a sentence, or begin it; a page that is not there stays a path."""
    before, path = link.groups()
    page = NOTEBOOKS / f"{path}.md"
    if not page.is_file():
        return f"{before or ''}{path}"
    kind = "chapter" if page.resolve().parent == NOTEBOOKS.resolve() else "the page"
    kind = kind if before is None else kind[:1].upper() + kind[1:]
    return f"{before or ''}{kind} *{_title(page)}*"


def _title(page: Path) -> str:
    """The first heading."""
    return re.search(r"^# (.+)$", page.read_text("utf-8"), re.MULTILINE)[1]
