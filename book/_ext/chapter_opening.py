"""Sphinx extension: ``chapter-opening``, what a reader will learn, needs, and how long it takes.

    :::{chapter-opening}
    After this chapter you can

    - compute NC1 from features and labels,
    - ... (three of them)

    You need: means and covariances; {doc}`01_neural_collapse`.
    :::

The time is not typed. It follows from the finished page, outputs of its cells included, by the rule that
``MINUTES`` states; ``readings`` keeps it for ``teaching_table``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from docutils import nodes
from docutils.parsers.rst import Directive

OBJECTIVES = 3
WORDS_A_MINUTE = 200
MINUTES = {"figure": 1, "table": 1, "formula": 0.5, "code": 0.5}  # for each one that is not folded
EXERCISE_MINUTES = 10  # where an exercise does not say "N minutes"
FOLDED = {"dropdown", "toggle", "solution"}  # classes
FIGURE = '<figure class="nclib">'
NEEDS = "You need:"


class TimeNeeded(nodes.paragraph):
    """Where the time is written once the page is complete."""


@dataclass
class Reading:
    """What there is to read on a page; solutions are left out."""

    words: int = 0
    figure: int = 0
    table: int = 0
    formula: int = 0
    code: int = 0

    def minutes(self) -> int:
        looking = sum(MINUTES[kind] * getattr(self, kind) for kind in MINUTES)
        return rounded(self.words / WORDS_A_MINUTE + looking)


class ChapterOpening(Directive):
    """Three objectives and the prerequisites, with the time that the page takes."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        box = nodes.container(classes=["chapter-opening"])
        self.state.nested_parse(self.content, self.content_offset, box)
        lists = [child for child in box if isinstance(child, nodes.bullet_list)]
        if len(lists) != 1 or len(lists[0]) != OBJECTIVES:
            raise self.error(f"chapter-opening: expected one list of {OBJECTIVES} objectives")
        needs = [p for p in box if isinstance(p, nodes.paragraph) and p.astext().startswith(NEEDS)]
        if len(needs) != 1:
            raise self.error(f"chapter-opening: expected one paragraph that starts with {NEEDS!r}")
        box += TimeNeeded()
        return [box]


def rounded(minutes: float) -> int:
    """Up to the next five minutes."""
    return 5 * math.ceil(minutes / 5)


def is_exercise(node: nodes.Node) -> bool:
    return "exercise" in getattr(node, "attributes", {}).get("classes", ())


def is_folded(node: nodes.Node) -> bool:
    attributes = getattr(node, "attributes", {})
    return bool(FOLDED & set(attributes.get("classes", ()))) or attributes.get("hide_mode") == "all"


def reading(node: nodes.Node, found: Reading | None = None) -> Reading:
    """Count what a reader reads below a node, exercises and what is folded left out."""
    found = found or Reading()
    if is_exercise(node) or is_folded(node) or isinstance(node, nodes.comment | nodes.system_message):
        return found
    if isinstance(node, nodes.raw):
        found.figure += node.astext().count(FIGURE)
        found.table += node.astext().count("<table")
    elif isinstance(node, nodes.math_block):
        found.formula += 1
    elif isinstance(node, nodes.literal_block):
        pass  # code is counted by the cell
    elif isinstance(node, nodes.Text):
        found.words += len(node.astext().split())
    else:
        found.table += isinstance(node, nodes.table)
        shown = node.get("nb_element") == "cell_code" and not node.get("hide_mode")
        found.code += shown and any(child.get("nb_element") == "cell_code_source" for child in node)
        for child in node.children:
            reading(child, found)
    return found


def exercise_minutes(node: nodes.Node) -> int:
    """The minutes that an exercise states, or the usual ones."""
    stated = re.search(r"\b(\d+)\s+min(?:utes?)?\b", node.astext())
    return int(stated.group(1)) if stated else EXERCISE_MINUTES


def outermost(document: nodes.Node, wanted) -> list[nodes.Node]:
    found: list[nodes.Node] = []
    for node in document.children:
        found += [node] if wanted(node) else outermost(node, wanted)
    return found


def write_minutes(app, document: nodes.document) -> None:
    """Put the time into the opening of a page that is complete."""
    places = list(document.findall(TimeNeeded))
    if not places:
        return
    exercises = [exercise_minutes(node) for node in outermost(document, is_exercise)]
    readings(app.env)[app.env.docname] = found = reading(document)
    to_read = found.minutes()
    text = f" {to_read} minutes to read"
    if exercises:
        text += f", {sum(exercises)} for {counted(len(exercises), 'exercise')}"
    for place in places:
        place += [nodes.strong(text="Time:"), nodes.Text(text + ".")]


def counted(n: int, thing: str) -> str:
    return f"{n} {thing}" + ("" if n == 1 else "s")


def readings(env) -> dict[str, Reading]:
    """What there is to read on every page that has an opening."""
    if not hasattr(env, "chapter_readings"):
        env.chapter_readings = {}
    return env.chapter_readings


def forget(app, env, docname: str) -> None:
    readings(env).pop(docname, None)


def merge(app, env, docnames: list[str], other) -> None:
    readings(env).update({name: found for name, found in readings(other).items() if name in docnames})


def same_as_paragraph(translator, node) -> None:
    translator.visit_paragraph(node)


def end_of_paragraph(translator, node) -> None:
    translator.depart_paragraph(node)


def setup(app) -> dict[str, bool]:
    app.add_node(TimeNeeded, html=(same_as_paragraph, end_of_paragraph))
    app.add_directive("chapter-opening", ChapterOpening)
    app.connect("doctree-read", write_minutes)
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)
    app.add_css_file("frame.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True, "env_version": 2}
