"""Sphinx extension: the directive ``teaching-table``, what each chapter takes in class, and its files.

Nothing in it is typed: words, formulas and exercises are counted in the notebooks' sources, figures in the
outputs of the last execution, which also says how many seconds a chapter ran. The files are those that
``book/teaching.py`` writes; ``make book`` puts them into the built book's folder ``teaching``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

import jupytext
from docutils import nodes
from docutils.parsers.rst import Directive
from jupyter_cache import get_cache

FIGURE = '<figure class="nclib">'
WORDS_A_MINUTE = 200
FORMULA = re.compile(r"^\$\$$.*?^\$\$$", re.DOTALL | re.MULTILINE)
EXERCISE = re.compile(
    r"\{exercise-start\} (?P<title>.+)\n:label: \S+\n:::\n\n"
    r"\*Difficulty (?P<level>[123]) of 3, (?P<minutes>\d+) minutes\.\*"
)
FILES = {"student": "student.ipynb", "solutions": "solution.ipynb", "slides": "slides.html"}
HEADER = ("chapter", "reading, minutes", "words", "figures", "exercises (level, minutes)", "runs", "files")


@dataclass(frozen=True)
class Exercise:
    title: str
    level: int
    minutes: int


@dataclass(frozen=True)
class Chapter:
    """What a chapter holds above its exercises, and the exercises.

    Attributes
    ----------
    name : NN_name.
    code : cells that a reader sees unfolded.
    figures : in the outputs; None if it has not been executed.
    seconds : of the last execution, or None.
    """

    name: str
    title: str
    words: int
    formulas: int
    code: int
    exercises: tuple[Exercise, ...]
    figures: int | None = None
    seconds: float | None = None

    def reading(self) -> int:
        """Minutes, up to the next five: one for 200 words or a figure, half for a formula or a cell."""
        minutes = self.words / WORDS_A_MINUTE + (self.figures or 0) + (self.formulas + self.code) / 2
        return 5 * math.ceil(minutes / 5)


class TeachingTable(Directive):
    def run(self) -> list[nodes.Node]:
        app = self.state.document.settings.env.app
        outputs = executed(Path(app.config.nb_execution_cache_path))
        sources = sorted((Path(app.srcdir) / "notebooks").glob("[0-9][0-9]_*.md"))
        found = [chapter(source, *outputs.get(source.stem, (None, None))) for source in sources]
        return [nodes.raw("", html_of(found), format="html")]


def executed(cache_path: Path) -> dict[str, tuple[int, float | None]]:
    """Figures and seconds of every chapter in the cache."""
    cache = get_cache(str(cache_path))
    found = {}
    for record in cache.list_cache_records():
        cells = cache.get_cache_bundle(record.pk).nb.cells
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        figures = sum(output.get("data", {}).get("text/html", "").count(FIGURE) for output in outputs)
        found[Path(record.uri).stem] = figures, record.data.get("execution_seconds")
    return found


def chapter(source: Path, figures: int | None = None, seconds: float | None = None) -> Chapter:
    """Count what a source holds."""
    text = source.read_text("utf-8")
    cells = jupytext.reads(text.partition("\n## Exercises")[0], fmt="md:myst").cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    shown = [c for c in cells if c.cell_type == "code" and not folded(c.metadata.get("tags", []))]
    return Chapter(
        name=source.stem,
        title=re.search(r"^# (.+)$", prose, re.MULTILINE)[1],
        words=len(re.findall(r"[^\W\d_]{2,}|\b[aAI]\b", FORMULA.sub("", prose))),
        formulas=len(FORMULA.findall(prose)),
        code=len(shown),
        exercises=exercises(text),
        figures=figures,
        seconds=seconds,
    )


def folded(tags: list[str]) -> bool:
    return any(tag.startswith(("hide-", "remove-")) for tag in tags)


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
        str(one.reading()),
        f"{one.words:,}",
        "-" if one.figures is None else str(one.figures),
        items(listed),
        "-" if one.seconds is None else f"{one.seconds:.0f} s",
        items(files),
    )


def items(lines: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"


def setup(app) -> dict[str, bool]:
    app.add_directive("teaching-table", TeachingTable)
    app.add_css_file("teaching.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
