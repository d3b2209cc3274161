"""Sphinx extension: the directive ``explorer``, features over epochs that readers look into.

    ```{explorer}
    :images: 50
    ```

super-class : number of the view that is shown first; the one after the last super-class shows all.
images : of each class, 50, 100 or 150; fewer make a lighter page.
height : of the plot, in CSS.
autoplay : play once when the explorer is first seen, unless the reader prefers reduced motion.

The data are in the page, so that it works from a file. Without JavaScript, and on paper, a picture of four
epochs stands in its place.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive, directives

from nclib.chapters import explorer as content

PICTURE = "/book/_static/fine-structure.png"


class ExplorerNode(nodes.General, nodes.Element):
    """Holds the picture and its caption, and the directive's options as attributes."""


class Explorer(Directive):
    option_spec: ClassVar = {
        "super-class": directives.nonnegative_int,
        "images": directives.positive_int,
        "height": directives.unchanged,
        "autoplay": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        source = content.FOLDER / "data.json"
        env.note_dependency(str(source))
        data = json.loads(source.read_text("utf-8"))
        images = self.options.get("images", content.PER_CLASS)
        figure = nodes.container(classes=["explorer-static"])
        figure += nodes.image(uri=PICTURE, alt=content.epochs_text(data))
        text = content.full_caption(data, images)
        figure += nodes.paragraph(text, "", nodes.Text(text), classes=["explorer-caption"])
        options = {
            "view": self.options.get("super-class", 0),
            "images": images,
            "height": self.options.get("height", ""),
            "autoplay": "autoplay" in self.options,
        }
        return [ExplorerNode("", figure, **options)]


def enter(translator: Any, node: ExplorerNode) -> None:
    height = f' style="--explorer-height: {escape(node["height"])}"' if node["height"] else ""
    autoplay = " data-explorer-autoplay" if node["autoplay"] else ""
    translator.body.append(f'<div class="explorer" data-explorer-view="{node["view"]}"{autoplay}{height}>\n')


def leave(translator: Any, node: ExplorerNode) -> None:
    data = content.browser_data(content.FOLDER, node["images"])
    translator.body.append(f'<script type="application/json" class="explorer-data">{data}</script>\n</div>\n')


def nothing(translator: Any, node: ExplorerNode) -> None:
    """Other formats show the picture and its caption."""


def add_files(app, pagename: str, templatename: str, context: dict[str, Any], doctree) -> None:
    """Load the script and the style on pages that have an explorer."""
    if doctree is not None and next(doctree.findall(ExplorerNode), None) is not None:
        app.add_js_file("explorer.js", loading_method="defer")
        app.add_css_file("explorer.css")


def setup(app) -> dict[str, bool]:
    others = {name: (nothing, nothing) for name in ("latex", "text", "man", "texinfo")}
    app.add_node(ExplorerNode, html=(enter, leave), **others)
    app.add_directive("explorer", Explorer)
    app.connect("html-page-context", add_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
