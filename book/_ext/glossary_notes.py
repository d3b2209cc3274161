"""Sphinx extension: a term's definition appears where a reader points at the term.

A page opened from a file cannot fetch the glossary, so each page carries the definitions of the terms that it
links, hidden. ``glossary_notes.js`` shows them on hover, focus and touch; without it a term is a link to the
glossary.
"""

from __future__ import annotations

from html import escape
from typing import Any

from docutils import nodes
from sphinx import addnodes

TERM = "std-term"  # class that Sphinx gives what {term} makes


def terms_of(document: nodes.document) -> list[str]:
    """Anchors in the glossary of all terms that a page links, each once."""
    links = [x.parent for x in document.findall(nodes.inline) if TERM in x["classes"]]
    anchors = [link.get("refid") or link.get("refuri", "").rpartition("#")[2] for link in links]
    return [anchor for anchor in dict.fromkeys(anchors) if anchor]


def definitions(app) -> dict[str, str]:
    """HTML of every definition by its anchor, without links, which would lead elsewhere from each page."""
    if not hasattr(app, "glossary_definitions"):
        app.glossary_definitions = {}  # resolving a page below asks again
        terms = app.env.get_domain("std").objects
        for docname in {place[0] for (kind, _), place in terms.items() if kind == "term"}:
            document = app.env.get_and_resolve_doctree(docname, app.builder)
            app.glossary_definitions |= notes_of(document, app.builder)
    return app.glossary_definitions


def notes_of(document: nodes.document, builder) -> dict[str, str]:
    found = {}
    for item in document.findall(nodes.definition_list_item):
        anchors = [name for term in item if isinstance(term, nodes.term) for name in term["ids"]]
        if not anchors:
            continue
        definition = item[-1].deepcopy()
        for link in list(definition.findall(nodes.reference)):
            link.replace_self(link.children)
        fragment = builder.render_partial(nodes.container("", *definition.children))["fragment"]
        found |= dict.fromkeys(anchors, fragment)
    return found


def add_notes(app, pagename: str, templatename: str, context: dict[str, Any], document) -> None:
    anchors = terms_of(document) if document is not None else []
    known = definitions(app) if anchors else {}
    notes = [f'<div data-term="{escape(a)}">{known[a]}</div>' for a in anchors if a in known]
    if notes:
        context["body"] += f'<div id="glossary-notes" hidden>{"".join(notes)}</div>'


def load_mathjax(app, document: nodes.document) -> None:
    """Have formulas set on pages that have none themselves but link terms, whose definitions may."""
    links = document.findall(addnodes.pending_xref)
    if any(link["reftype"] == "term" for link in links):
        app.env.get_domain("math").data["has_equations"][app.env.docname] = True


def setup(app) -> dict[str, bool]:
    app.connect("doctree-read", load_mathjax)
    app.connect("html-page-context", add_notes)
    app.add_css_file("glossary_notes.css")
    app.add_js_file("glossary_notes.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
