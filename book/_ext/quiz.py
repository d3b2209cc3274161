"""Sphinx extension: ``quiz``, a question with options, each of which is explained.

    :::{quiz}
    NC1 of a super-class is small. What follows for its fine classes?

    - Their means coincide.
      - Wrong. NC1 compares ...
    - Nothing, unless one measures inside the super-class.
      - Right. ...
    :::

One option is right; with ``:several:`` any number of them, one at least. An explanation begins with "Right."
or "Wrong.", so that a plain notebook shows the same text. The page has native form controls and the
explanations in a ``<details>``; ``quiz.js`` moves each explanation to its option and shows it when the
answer is checked.
"""

from __future__ import annotations

from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive, directives

VERDICTS = {"Right.": True, "Wrong.": False}


class Quiz(Directive):
    has_content = True
    option_spec: ClassVar = {"several": directives.flag}

    def run(self) -> list[nodes.Node]:
        parsed = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        if not (len(parsed) == 2 and isinstance(parsed[0], nodes.paragraph) and is_list(parsed[1])):
            raise self.error("quiz: expected a question in one paragraph, then a list of options")
        several = "several" in self.options
        options = [self.option(item) for item in parsed[1]]
        self.check([right for _, _, right in options], several)
        env = self.state.document.settings.env
        name = f"quiz-{env.new_serialno('quiz')}"
        return list(shown(name, parsed[0], options, several))

    def option(self, item: nodes.list_item) -> tuple[nodes.paragraph, nodes.paragraph, bool]:
        """Text of an option, its explanation, and whether it is right."""
        if not (len(item) == 2 and is_list(item[1]) and len(item[1]) == 1 and len(item[1][0]) == 1):
            raise self.error(f"quiz: expected one explanation below {item[0].astext()!r}")
        text, why = item[0], item[1][0][0]
        verdict = why.astext().partition(" ")[0]
        if verdict not in VERDICTS:
            raise self.error(f"quiz: an explanation begins with Right. or Wrong., not {why.astext()!r}")
        return text, why, VERDICTS[verdict]

    def check(self, right: list[bool], several: bool) -> None:
        """Refuse questions that cannot be answered."""
        if len(right) < 2:
            raise self.error("quiz: expected two options or more")
        if not any(right):
            raise self.error("quiz: no option is right")
        if not several and sum(right) > 1:
            raise self.error(f"quiz: {sum(right)} options are right; say :several: if that is meant")


def is_list(node: nodes.Node) -> bool:
    return isinstance(node, nodes.bullet_list)


def shown(name: str, question: nodes.paragraph, options: list[tuple], several: bool):
    """The question as a fieldset, and the explanations below it, folded."""
    kind, hint = ("checkbox", " <em>Several can be right.</em>") if several else ("radio", "")
    yield html(f'<div class="quiz" id="{name}"><fieldset><legend>')
    yield inline(question)
    yield html(f"{hint}</legend>")
    for i, (text, _, right) in enumerate(options):
        key = f"{name}-{i}"
        yield html(
            f'<div class="quiz-option" data-right="{str(right).lower()}">'
            f'<input type="{kind}" name="{name}" id="{key}" value="{i}"><label for="{key}">'
        )
        yield inline(text)
        yield html("</label></div>")
    yield html(
        '<button type="button" class="quiz-check" hidden>Check the answer</button>'
        '<p class="quiz-verdict" role="status" aria-live="polite"></p></fieldset>'
        '<details class="quiz-answers"><summary>Answer</summary><dl>'
    )
    for text, why, _ in options:
        yield html("<dt>")
        yield inline(text.deepcopy())
        yield html("</dt><dd>")
        yield inline(why)
        yield html("</dd>")
    yield html("</dl></details></div>")


def html(text: str) -> nodes.raw:
    return nodes.raw("", text, format="html")


def inline(paragraph: nodes.paragraph) -> nodes.inline:
    return nodes.inline("", "", *paragraph.children)


def setup(app) -> dict[str, bool]:
    app.add_directive("quiz", Quiz)
    app.add_css_file("quiz.css")
    app.add_js_file("quiz.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
