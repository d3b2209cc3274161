"""What notebooks need besides the story: checked parameters, results of predictions, executed copies.

Every chapter has one cell tagged ``parameters``; the first code cell after it is

    choice = nclib.notebook.parameters(globals())

An unknown name or value stops there, before torch is imported, with a list of what is allowed.
"""

from __future__ import annotations

import ast
import math
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from nclib import config, myst
from nclib.errors import ConfigError, MissingPackage, NclibError
from nclib.paths import NOTEBOOKS, REPOSITORY

OWN_RANGES = {  # whole-number parameters of chapters that are no configuration fields
    "k": (1, 1000),
    "seeds": (0, 1000),
    "samples": (1000, 1_000_000),
}
OWN_TEXTS = ("features",)  # parameters of chapters that are text also where they look like a number
QUICK_RECIPE = "digits"
QUICK_SEEDS = 5  # seeds that a chapter trains by itself on the quick tier; elsewhere one
LONGEST_VALUE = 1000  # characters of a parameter on the command line
INSTALL = "running a chapter needs papermill: pip install papermill ipykernel nbconvert"
NO_CHAPTERS = "chapters are in the repository and not in an installed package; run this from a copy of it"
INJECTED = "# Parameters\n"  # how the cell begins that papermill inserts
LONGEST_TEMPORARY = 60  # characters of a folder's path; the path of a socket may have about a hundred
FOLDED = """{% extends 'lab/index.html.j2' %}
{% block input %}
{% if 'hide-input' in cell.metadata.tags %}<details><summary>Code</summary>{{ super() }}</details>
{% else %}{{ super() }}{% endif %}
{% endblock %}"""  # of nbconvert
MATHJAX = REPOSITORY / "book" / "_static" / "mathjax" / "tex-svg-full.js"


def parameters(namespace: dict[str, Any]) -> dict[str, Any]:
    """Check a notebook's parameters and return those that choose its run.

    Parameters
    ----------
    namespace : the notebook's ``globals()``.

    Returns
    -------
    dict : keyword arguments of ``nclib.get_run``; fields that are None are as in the recipe.

    Raises
    ------
    ConfigError : an unknown parameter, or a value that it does not allow.

    Notes
    -----
    On the quick tier a second thread costs more than it saves: the chapters of digits take several times
    as long with two. OpenMP is told so here, before torch loads it; a setting of yours is left alone.
    """
    cells = [cell for cell in namespace.get("In", []) if cell]
    injected = [name for cell in cells if cell.startswith(INJECTED) for name in _assigned(cell)]
    declared = _assigned(cells[0]) if cells else []
    check_names(injected, declared)
    known = ("recipe", *config.field_names())
    choice = {name: namespace[name] for name in known if name in namespace}
    own = {name: namespace[name] for name in OWN_RANGES if name in namespace}
    check_values(choice | own)
    if choice["recipe"] == QUICK_RECIPE:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    return choice


def seeds_of(choice: dict[str, Any], seeds: int = 0, quick: int = QUICK_SEEDS) -> range:
    """The seeds that a chapter runs: ``seeds`` of them from ``choice["seed"]``; 0 lets the tier decide.

    The tier "quick" runs ``quick`` of them, any other one.
    """
    first = choice.get("seed") or 0
    return range(first, first + (seeds or (quick if choice["recipe"] == QUICK_RECIPE else 1)))


def answer(name: str, value: float | str, sentence: str) -> Answer:
    """The result that a chapter's prediction asks for, shown as a sentence.

    Parameters
    ----------
    name : of the prediction.
    value : a number, or one of the prediction's choices.
    sentence : that states it, with {} where the value belongs.

    Notes
    -----
    The book shows the reader's guess beside it, see ``book/_ext/prediction.py``. A value that is not finite,
    as a correlation of constants, is stated as undefined.
    """
    if isinstance(value, str):
        return Answer(name, value, sentence.format(value))
    if not math.isfinite(value):
        return Answer(name, "", sentence.format("undefined"))
    return Answer(name, repr(float(value)), sentence.format(f"{value:.3g}"))


@dataclass(frozen=True)
class Answer:
    """A result with the name of its prediction, as notebooks and the book show it."""

    name: str
    value: str
    text: str

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        name, value = escape(self.name), escape(self.value)
        page = f'<div class="answer" id="answer-{name}" data-answer="{name}" data-value="{value}">'
        return {"text/html": f"{page}<p>{escape(self.text)}</p></div>", "text/plain": self.text}


def check_names(given: Iterable[str], declared: Iterable[str]) -> None:
    """Refuse parameters that are neither declared by the notebook nor fields of a configuration."""
    allowed = list(dict.fromkeys(["recipe", *declared, *config.field_names()]))
    for name in given:
        if name not in allowed:
            raise ConfigError(config.unknown("parameter", name, allowed))


def check_values(values: dict[str, Any]) -> None:
    """Refuse values that a parameter does not allow."""
    fields = {name: value for name, value in values.items() if name in config.field_names()}
    config.recipe_config(values.get("recipe", "digits"), **fields)
    for name, (low, high) in OWN_RANGES.items():
        value = values.get(name, low)
        if type(value) is not int or not low <= value <= high:
            raise ConfigError(f"{name}={value!r}: expected a whole number from {low} to {high}")


def find_notebook(name: str) -> Path:
    """The .ipynb of a chapter, by its name or its number, or any notebook by its path.

    A file that is there under the very name, ending in .ipynb, comes before a chapter of that name.

    Raises
    ------
    NclibError : no such notebook; the message lists the chapters.
    """
    if name.endswith(".ipynb") and os.path.isfile(name):  # which no name makes raise, however long
        return Path(name)
    chapters = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    stem = name.removesuffix(".ipynb").removesuffix(".md")
    for path in chapters:
        if path.stem == stem or path.stem.partition("_")[0] == stem.zfill(2):
            return path
    if not chapters:
        raise NclibError(f"no notebook {name!r}: {NO_CHAPTERS}")
    raise NclibError(f"no notebook {name!r}; chapters: {', '.join(path.stem for path in chapters)}")


def read_value(name: str, text: str) -> Any:
    """The value of a parameter as the command line gives it."""
    if name in config.field_names():
        return config.parse_override(f"{name}={text}")[1]
    if len(text) > LONGEST_VALUE:
        raise ConfigError(f"{name}={text[:20]}...: expected {LONGEST_VALUE} characters at most")
    return int(text) if re.fullmatch(r"[+-]?\d+", text) and name not in OWN_TEXTS else text


def execute(source: Path, output: Path, values: dict[str, Any]) -> None:
    """Run a notebook with other parameters, showing its progress, and write the executed copy.

    Parameters
    ----------
    source : .ipynb with a cell tagged ``parameters``.
    output : .ipynb to write.
    values : parameters by name.

    Raises
    ------
    ConfigError : an unknown parameter or value; nothing is executed or written.
    NclibError : the source is no notebook, or its parameters are no assignments; likewise.
    MissingPackage : papermill is not installed.
    papermill.PapermillExecutionError : a cell failed; the copy shows where.
    """
    try:
        import papermill
    except ModuleNotFoundError:
        raise MissingPackage(INSTALL) from None

    check_names(values, _declared(source))
    check_values(values)
    with kernel_folder() as folder:
        papermill.execute_notebook(
            _as_written(source),
            _as_written(output),
            parameters=values,
            kernel_name="python3",
            stderr_file=sys.stderr,
            config=kernel_config(folder),
        )


def _declared(source: Path) -> list[str]:
    """Names of the parameters that a notebook declares."""
    import nbformat

    try:
        notebook = nbformat.read(source, as_version=4)
        nbformat.validate(notebook)
        tagged = [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        return [name for cell in tagged for name in _assigned(cell)]
    except Exception as error:  # nbformat fails in as many ways as there are files that hold no notebook
        reason = str(error).partition("\n")[0]
        raise NclibError(f"{source} cannot be read as a notebook with parameters: {reason}") from error


def _as_written(path: Path) -> str:
    """A path in papermill's spelling: it fills in {names}, and "-" and addresses mean something to it."""
    return str(path.resolve()).replace("{", "{{").replace("}", "}}")


@contextmanager
def kernel_folder() -> Iterator[Path]:
    """A new folder for the sockets of kernels, which only this user can enter. It goes in the end.

    Also when the process is told to terminate: SIGTERM then raises SystemExit in the main thread.
    """
    place = tempfile.gettempdir()
    place = place if len(place) <= LONGEST_TEMPORARY else "/tmp"
    with (
        leaving_on_sigterm(),
        tempfile.TemporaryDirectory(prefix="nclib-", dir=place, ignore_cleanup_errors=True) as folder,
    ):
        yield Path(folder)


def kernel_config(folder: Path, name: str = "kernel") -> Any:
    """Settings of a kernel whose sockets are ``folder``/``name``-ipc-N.

    Ports of TCP can be taken between their choice and their use, and what goes over them is not encrypted.
    Jupyter's own choice of sockets is kernel-ipc-N in the current folder, where two programs mix theirs up.
    """
    from traitlets.config import Config

    sockets = {"transport": "ipc", "connection_file": str(folder / f"{name}.json")}
    return Config({"KernelManager": sockets, "NotebookClient": {"shutdown_kernel": "immediate"}})


@contextmanager
def leaving_on_sigterm() -> Iterator[None]:
    """SIGTERM raises SystemExit meanwhile, so that what is open is closed. Elsewhere than in the main
    thread, where handlers cannot be set, it does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def write_html(executed: Path, output: Path) -> None:
    """Turn an executed notebook into one HTML file that needs no network.

    As in the book, code of cells tagged ``hide-input`` is folded, and cells tagged ``remove-cell`` are left
    out.
    """
    import nbformat
    from nbconvert import HTMLExporter

    from nclib.storage.files import write_bytes  # imports torch, for which parameters do not wait

    notebook = nbformat.read(executed, as_version=4)
    notebook.cells = [c for c in notebook.cells if "remove-cell" not in c.metadata.get("tags", [])]
    titles = myst.exercise_titles("\n".join(cell.source for cell in notebook.cells))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = myst.plain(myst.folded_answers(cell.source), titles)
        else:  # progress bars
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    exporter = HTMLExporter(
        raw_template=FOLDED, mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url=""
    )
    page, _ = exporter.from_notebook_node(notebook)
    setting = "MathJax = {tex: {inlineMath: [['$', '$'], ['\\\\(', '\\\\)']]}};"
    scripts = f"<script>{setting}</script>\n<script>{MATHJAX.read_text(encoding='utf-8')}</script>\n</head>"
    page = re.sub(r'<script[^>]*src=""[^>]*></script>', "", page)
    write_bytes(output, page.replace("</head>", scripts, 1).encode())


def _assigned(cell: str) -> list[str]:
    """Names that a cell of plain assignments gives a value."""
    targets: list[ast.expr] = []
    for node in ast.parse(cell).body:
        if isinstance(node, ast.Assign):
            targets += node.targets
        elif isinstance(node, ast.AnnAssign):
            targets.append(node.target)
    return [target.id for target in targets if isinstance(target, ast.Name)]
