"""Sphinx extension: ``prediction`` takes a guess, which the page shows beside the result further down.

    :::{prediction} explained-variance
    :from: 0
    :to: 1
    :step: 0.05

    What share of the variance inside a super-class will its fine classes explain?
    :::

or, in the place of the range, a list of choices below the question. The result is not typed: a cell below
shows ``nclib.notebook.answer("explained-variance", value, "...")``, whose output carries the value. The build
fails if there is no such cell, or if the value cannot be guessed. ``prediction.js`` keeps the guess in the
page's session storage; without it a reader sees the question, and the result as a sentence.
"""

from __future__ import annotations

import re
from html import escape, unescape
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.util import logging

ANSWER = re.compile(r'data-answer="([^"]*)" data-value="([^"]*)"')  # of nclib.notebook.answer
RANGE = ("from", "to", "step")

logger = logging.getLogger(__name__)


class Prediction(Directive):
    required_arguments = 1
    has_content = True
    option_spec: ClassVar = dict.fromkeys(RANGE, float)

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        parsed = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        choices = parsed[-1] if parsed and isinstance(parsed[-1], nodes.bullet_list) else None
        given = [option for option in RANGE if option in self.options]
        if (choices is not None) == bool(given) or (given and len(given) < len(RANGE)):
            raise self.error("prediction: expected either :from:, :to: and :step:, or a list of choices")
        box = nodes.container(classes=["prediction"], prediction=name)
        box["guesses"] = [item.astext() for item in choices] if choices else dict(self.options)
        box += nodes.raw("", '<p class="prediction-title">Make a prediction</p>', format="html")
        box += parsed[:-1] if choices else parsed.children
        body = choice_of(name, choices) if choices else slider_of(name, self.options)
        box += [html(f'<fieldset class="prediction-guess" data-prediction="{escape(name)}">'), *body]
        box += html(
            '<button type="button" class="prediction-keep" hidden>Keep my guess</button>'
            '<p class="prediction-status" role="status" aria-live="polite"></p></fieldset>'
        )
        return [box]


def choice_of(name: str, choices: nodes.bullet_list) -> list[nodes.Node]:
    parts = [html("<legend>Your guess</legend>")]
    for i, item in enumerate(choices):
        key, value = f"{escape(name)}-{i}", escape(item.astext())
        parts.append(
            html(
                f'<div class="prediction-choice"><input type="radio" name="{escape(name)}" id="{key}"'
                f' value="{value}"><label for="{key}">'
            )
        )
        parts += [nodes.inline("", "", *item[0].children), html("</label></div>")]
    return parts


def slider_of(name: str, options: dict[str, float]) -> list[nodes.Node]:
    low, high, step = (f"{options[part]:g}" for part in RANGE)
    key = f"{escape(name)}-guess"
    return [
        html(
            f'<legend>Your guess</legend><label for="{key}">from {low} to {high}</label>'
            f' <input type="range" id="{key}" min="{low}" max="{high}" step="{step}">'
            f' <output for="{key}"></output>'
        )
    ]


def html(text: str) -> nodes.raw:
    return nodes.raw("", text, format="html")


def check(app, document: nodes.document) -> None:
    """Warn where a guess would never meet its result."""
    places = [node for node in document.findall(nodes.container) if node.get("prediction")]
    if not places:
        return
    later: dict[str, list[str]] = {}
    for raw in document.findall(nodes.raw):
        for name, value in ANSWER.findall(raw.astext()):
            later.setdefault(unescape(name), []).append(unescape(value))
    for place in places:
        reason = complaint(place["prediction"], place["guesses"], later)
        if reason:
            logger.warning("prediction: %s", reason, location=place)


def complaint(name: str, guesses: list[str] | dict[str, float], answers: dict[str, list[str]]) -> str:
    """What is wrong with the answers of a page for a prediction; empty if nothing is."""
    if len(answers.get(name, ())) != 1:
        return f"expected one cell that shows nclib.notebook.answer({name!r}, ...)"
    (value,) = answers[name]
    if isinstance(guesses, list):
        return "" if value in guesses else f"the answer {value!r} of {name} is none of its choices"
    inside = value and guesses["from"] <= float(value) <= guesses["to"]
    return "" if inside else f"the answer {value!r} of {name} is outside of its range"


def setup(app) -> dict[str, bool]:
    app.add_directive("prediction", Prediction)
    app.connect("doctree-read", check)
    app.add_css_file("prediction.css")
    app.add_js_file("prediction.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
