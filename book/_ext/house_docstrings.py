"""Sphinx extension: shows this package's docstrings, which are numpy style with a line per item.

    Parameters
    ----------
    h : (N, D) features, any float dtype.

numpydoc and napoleon take what follows the colon for a type, and bars and stars in formulas such as
``||h - mu_c||^2`` for markup. Here an item becomes a bullet and a formula stays as it is written.
"""

from __future__ import annotations

import re

LISTS = {"Parameters", "Attributes", "Raises", "Scores"}  # sections of "name : description"; others are text
LITERAL = re.compile(r"(``.*?``)")


def escape(text: str) -> str:
    """The line with its bars and stars taken literally; ``literals`` stay untouched."""
    parts = LITERAL.split(text)  # every second part is a literal
    return "".join(p if i % 2 else re.sub(r"([|*])", r"\\\1", p) for i, p in enumerate(parts))


def bullet(line: str) -> list[str]:
    """A line of a "name : description" section in reStructuredText."""
    name, colon, description = line.partition(" : ")
    if not line.strip():
        return []
    if colon and not line.startswith(" "):
        return [f"* ``{name}``: {escape(description)}"]
    return [f"  {escape(line.strip())}"]


def render(lines: list[str]) -> list[str]:
    shown, section, literal = [], "", None
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if re.fullmatch(r"-{3,}", line):
            continue
        if re.fullmatch(r"-{3,}", following):
            section, literal = line.strip(), None
            shown += ["", f".. rubric:: {section}", ""]
        elif section in LISTS:
            shown += bullet(line)
        else:
            indent = len(line) - len(line.lstrip())
            if literal is not None and line.strip() and indent <= literal:
                literal = None
            shown.append(line if literal is not None else escape(line))
            if line.rstrip().endswith("::"):
                literal = indent  # what is indented deeper than this line is shown as it is
    return [*shown, ""]


def replace_docstring(app, what, name, obj, options, lines) -> None:
    lines[:] = render(lines)


def setup(app) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", replace_docstring)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
