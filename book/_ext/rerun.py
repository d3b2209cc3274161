"""Sphinx extension: the cell of parameters becomes a folded box, "Rerun this page".

The box stands where a page has its cell tagged ``parameters``. It holds the commands that run the page again,
a table of the parameters, made from the cell's own assignments and comments, the files to download, and the
cell itself with the one that checks them. Links to Binder and Colab are there when _config.yml names
the repository. Cells tagged ``provenance`` are folded, too.

``rerun_files`` in the configuration lists more files to offer, as pairs of a label and a path with ``{name}``
for the page's name, for example ["with solutions", "notebooks/solutions/{name}.ipynb"]; those that do not
exist when the book is built are left out. Elsewhere on the page the role ``rerun-file`` with such a label,
{rerun-file}`student notebook`, links to the same file.
"""

from __future__ import annotations

import ast
import io
import shlex
import tokenize
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxRole

PROVENANCE = "Where these runs come from"
EXAMPLE = {"seed": "1"}  # shown in the commands; a page without it gets its first parameter as it is
FILES = [["notebook", "notebooks/{name}.ipynb"], ["source, MyST Markdown", "notebooks/{name}.md"]]


@dataclass(frozen=True)
class Parameter:
    """A line of the cell of parameters.

    Attributes
    ----------
    default : as it is written.
    comment : beside it, or else the one above it that covers several lines.
    """

    name: str
    default: str
    comment: str


def parameters_of(source: str) -> list[Parameter]:
    """The parameters of a cell, in their order."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    alone = {n for n in comments if source.splitlines()[n - 1].lstrip().startswith("#")}
    found = []
    for node in ast.parse(source).body:
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        above = max((n for n in alone if n < node.lineno), default=None)
        comment = comments.get(node.end_lineno, comments.get(above, ""))
        found.append(Parameter(target.id, ast.get_source_segment(source, node.value), comment))
    return found


def commands(name: str, parameters: list[Parameter]) -> list[str]:
    """What to type to run a page with another value of one parameter."""
    known = {p.name: ast.literal_eval(p.default) for p in parameters}
    change = next(((k, v) for k, v in EXAMPLE.items() if k in known), None)
    change = change or next((k, str(v)) for k, v in known.items())
    given = f"-p {change[0]} {shlex.quote(change[1])}"
    return [
        f"nclib run {name} {given} --html {name}.html",
        f"papermill notebooks/{name}.ipynb out.ipynb {given}",
    ]


class RerunBox(SphinxTransform):
    """Put the box in the place of the cell of parameters."""

    default_priority = 400  # before Sphinx collects the files to download

    def apply(self, **_: Any) -> None:
        cells = [c for c in self.document.findall(nodes.container) if c.get("nb_element") == "cell_code"]
        for cell in cells:
            if "provenance" in tags(cell):
                cell["hide_mode"] = "all"
                cell["prompt_show"] = cell["prompt_hide"] = PROVENANCE
        tagged = [cell for cell in cells if "parameters" in tags(cell)]
        if tagged:
            self.fold(tagged[0], cells[cells.index(tagged[0]) + 1 :][:1])

    def fold(self, cell: nodes.container, following: list[nodes.container]) -> None:
        docname = self.env.docname
        name = docname.rpartition("/")[2]
        parameters = parameters_of(next(cell.findall(nodes.literal_block)).astext())
        box = nodes.container(classes=["rerun"])
        box += html('<details class="rerun-box"><summary>Rerun this page with other settings</summary>')
        box += nodes.literal_block("", "\n".join(commands(name, parameters)), language="bash")
        box += table(parameters)
        box += self.downloads(name)
        box += online(name, self.config.html_theme_options)
        box += paragraph(nodes.Text("The cells that these settings enter:"))
        cell.replace_self(box)
        for part in following:
            part.parent.remove(part)
        for part in [cell, *following]:
            part.attributes.pop("hide_mode", None)
            box += part
        box += html("</details>")

    def downloads(self, name: str) -> nodes.paragraph:
        """Links to the files of a page that exist."""
        line = paragraph(nodes.Text("Download: "))
        there = files(Path(self.app.srcdir), name, self.config.rerun_files)
        for i, (label, path) in enumerate(there.items()):
            line += nodes.Text(", " if i else "")
            line += download(label, path, self.env.docname)
        return line if there else paragraph()


class RerunFile(SphinxRole):
    """A link to one of the files of its page; the label alone where there is no such file."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        page = self.env.docname.rpartition("/")[2]
        path = files(Path(self.env.srcdir), page, self.config.rerun_files).get(self.text)
        return [download(self.text, path, self.env.docname) if path else nodes.Text(self.text)], []


def files(root: Path, name: str, more: list[list[str]]) -> dict[str, str]:
    """Paths of the files of a page that exist, by label."""
    paths = {label: path.format(name=name) for label, path in [*FILES, *more]}
    return {label: path for label, path in paths.items() if (root / path).is_file()}


def download(label: str, path: str, docname: str) -> nodes.Node:
    link = addnodes.download_reference(reftarget=f"/{path}", refdoc=docname)
    link += nodes.inline(text=label)
    return link


def online(name: str, options: dict[str, Any]) -> list[nodes.Node]:
    """Links that open the page's notebook elsewhere, where the repository has an address."""
    links = services(options.get("repository_url", ""), options.get("repository_branch") or "main", name)
    line = paragraph(nodes.Text("Open in: "))
    for i, (label, address) in enumerate(links.items()):
        line += nodes.Text(", " if i else "")
        line += nodes.reference("", label, refuri=address)
    return [line] if links else []


def services(repository: str, branch: str, name: str) -> dict[str, str]:
    """Addresses by service: Binder opens any git repository, Colab those of GitHub."""
    if not repository:
        return {}
    repository, path = repository.rstrip("/").removesuffix(".git"), f"notebooks/{name}.ipynb"
    host, _, owner = repository.partition("://")[2].partition("/")
    where = {"github.com": f"gh/{owner}", "gitlab.com": f"gl/{quote(owner, safe='')}"}
    place = where.get(host, f"git/{quote(repository, safe='')}")
    branch = quote(branch, safe="")
    opened = quote(f"lab/tree/{path}", safe="")
    links = {"Binder": f"https://mybinder.org/v2/{place}/{branch}?urlpath={opened}"}
    if host == "github.com":
        links["Colab"] = f"https://colab.research.google.com/github/{owner}/blob/{branch}/{path}"
    return links


def table(parameters: list[Parameter]) -> nodes.table:
    """A row for each parameter; those that share default and comment share a row."""
    group = nodes.tgroup(cols=3)
    group += [nodes.colspec(colwidth=1) for _ in range(3)]
    head = nodes.thead("", row([nodes.Text("parameter")], [nodes.Text("default")], [nodes.Text("meaning")]))
    body = nodes.tbody()
    for (default, comment), alike in groupby(parameters, lambda p: (p.default, p.comment)):
        names = [part for p in alike for part in (nodes.Text(", "), nodes.literal(text=p.name))][1:]
        body += row(names, [nodes.literal(text=default)], marked(comment))
    group += [head, body]
    return nodes.table("", group, classes=["rerun-parameters"])


def marked(comment: str) -> list[nodes.Node]:
    """A comment with what stands in `backticks` as code."""
    parts = comment.split("`")
    return [nodes.literal(text=p) if i % 2 else nodes.Text(p) for i, p in enumerate(parts)]


def row(*cells: list[nodes.Node]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", paragraph(*cell)) for cell in cells))


def paragraph(*parts: nodes.Node) -> nodes.paragraph:
    return nodes.paragraph("", "", *parts)


def tags(cell: nodes.container) -> list[str]:
    return cell.get("cell_metadata", {}).get("tags", [])


def html(text: str) -> nodes.raw:
    return nodes.raw("", text, format="html")


def setup(app) -> dict[str, bool]:
    app.add_config_value("rerun_files", [], "env", [list])
    app.add_transform(RerunBox)
    app.add_role("rerun-file", RerunFile())
    app.add_css_file("frame.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
