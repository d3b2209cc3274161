"""Sphinx extension: the directive ``teaching-table``, what each chapter takes in class, and its files.

Nothing in it is typed: minutes, words and figures are those of ``chapter_opening``, exercises are read from
the notebooks' sources, and the last execution says how many seconds a chapter ran. The files are those that
``book/teaching.py`` writes; ``make book`` puts them into the built book's folder ``teaching``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

from chapter_opening import Reading, readings
from docutils import nodes
from docutils.parsers.rst import Directive
from jupyter_cache import get_cache

EXERCISE = re.compile(
    r"\{exercise-start\} (?P<title>.+)\n:label: \S+\n:::\n\n"
    r"\*Difficulty (?P<level>[123]) of 3, (?P<minutes>\d+) minutes\.\*"
)
FILES = {"student": "student.ipynb", "solutions": "solution.ipynb", "slides": "slides.html"}
HEADER = ("chapter", "files", "reading, minutes", "words", "figures", "exercises (level, minutes)", "runs")


@dataclass(frozen=True)
class Exercise:
    title: str
    level: int
    minutes: int


@dataclass(frozen=True)
class Chapter:
    """A row of the table.

    Attributes
    ----------
    name : NN_name.
    seconds : of the last execution, or None.
    """

    name: str
    title: str
    reading: Reading
    exercises: tuple[Exercise, ...]
    seconds: float | None = None


class TeachingTable(Directive):
    def run(self) -> list[nodes.Node]:
        return [nodes.container(teaching_table=True)]


def fill(app, document: nodes.document, docname: str) -> None:
    """Write the table once all pages are read."""
    places = [place for place in document.findall(nodes.container) if place.get("teaching_table")]
    if places:
        seconds = executed(Path(app.config.nb_execution_cache_path))
        pages = [page for page in app.env.collect_relations() if page in readings(app.env)]
        found = [chapter(app, page, seconds) for page in pages]
        for place in places:
            place += nodes.raw("", html_of(found), format="html")


def executed(cache_path: Path) -> dict[str, float | None]:
    """Seconds of every chapter in the cache."""
    records = get_cache(str(cache_path)).list_cache_records()
    return {Path(record.uri).stem: record.data.get("execution_seconds") for record in records}


def chapter(app, page: str, seconds: dict[str, float | None]) -> Chapter:
    """What the page ``notebooks/NN_name`` holds."""
    source, name = Path(app.srcdir) / f"{page}.md", Path(page).name
    title = app.env.titles[page].astext()
    listed = exercises(source.read_text("utf-8"))
    return Chapter(name, title, readings(app.env)[page], listed, seconds.get(name))


def exercises(text: str) -> tuple[Exercise, ...]:
    """The exercises of a source, with what they say about themselves."""
    return tuple(Exercise(m["title"], int(m["level"]), int(m["minutes"])) for m in EXERCISE.finditer(text))


def html_of(chapters: list[Chapter]) -> str:
    rows = [cells_of(one) for one in chapters]
    head = "".join(f'<th scope="col">{name}</th>' for name in HEADER)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="teaching"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def cells_of(one: Chapter) -> tuple[str, ...]:
    listed = [f"{escape(e.title)} ({e.level}, {e.minutes})" for e in one.exercises]
    files = [f'<a href="../teaching/{one.name}-{end}">{label}</a>' for label, end in FILES.items()]
    return (
        f'<a href="../notebooks/{one.name}.html">{escape(one.title)}</a>',
        items(files),
        str(one.reading.minutes()),
        f"{one.reading.words:,}",
        str(one.reading.figure),
        items(listed),
        "-" if one.seconds is None else f"{one.seconds:.0f} s",
    )


def items(lines: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"


def setup(app) -> dict[str, bool]:
    app.setup_extension("chapter_opening")
    app.add_directive("teaching-table", TeachingTable)
    app.connect("doctree-resolved", fill)
    app.add_css_file("teaching.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
