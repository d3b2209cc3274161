"""Write what a class gets, from the same sources as the pages: ``make teaching``.

    python book/teaching.py

For each chapter _build/teaching/ then holds

    NN_name-student.ipynb     a cell for the prediction, and stubs to fill in with their checks; no solutions
    NN_name-solution.ipynb    solutions, and the wrong answers that each check knows
    NN_name-slides.html       question, prediction, figures, statements and an exercise; needs no network

Both notebooks are plain: they need nclib, but no extension of Jupyter. ``make book`` writes the same files
and puts this folder into the book, as teaching/. Slides show what it has executed: without it, or once code
or data have changed, they have no figures.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import jupytext
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "notebooks"), str(ROOT / "book")]

import pair  # noqa: E402
import slides  # noqa: E402

from nclib.myst import EXPLAINED, exercise_titles, plain  # noqa: E402

SOLUTIONS = re.compile(r" The \{rerun-file\}`student notebook` [^.]*\bsolutions are at the end of the page\.")
GUESS = "*Our prediction, and why (double-click here to write):*"
STUB = re.compile(r"^def (\w+)\(", re.MULTILINE)


def write(folder: Path, executed: Callable[[Path], NotebookNode]) -> None:
    """Write the files of all chapters into a folder, anew.

    Parameters
    ----------
    executed : the notebook of a source with the outputs that are there.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "book" / "reveal", folder / "reveal")
    shutil.copytree(ROOT / "book" / "_static" / "mathjax", folder / "mathjax")
    for source in pair.sources():
        (folder / f"{source.stem}-student.ipynb").write_text(student(source), "utf-8")
        (folder / f"{source.stem}-solution.ipynb").write_text(solution(source), "utf-8")
        page = slides.page(executed(source), plain)
        (folder / f"{source.stem}-slides.html").write_text(page, "utf-8")


def student(source: Path) -> str:
    """Text of the notebook with stubs: each stub stands below its check, with a cell that runs it."""
    cells, stub = [], None
    for cell in jupytext.read(source, fmt="md:myst").cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "markdown" and "## Solutions" in cell.source:
            cell.source = cell.source.partition("## Solutions")[0]
            cells.append(cell)
            break
        if cell.cell_type == "markdown":
            cell.source = SOLUTIONS.sub("", EXPLAINED.sub("", cell.source))
        if "stub" in tags:
            stub = cell
        elif "wrong-answers" not in tags:
            cells += with_room_for_a_guess(cell)
            if stub is not None and "@exercises.check" in cell.source:
                name = STUB.search(stub.source)[1]
                cells += [stub, new_code_cell(f"check_{name}({name})")]
                stub = None
    return plain_notebook(cells)


def with_room_for_a_guess(cell: NotebookNode) -> list[NotebookNode]:
    """A cell; where it asks for a prediction, its text around a cell to write the prediction into."""
    asked = slides.PREDICTION.search(cell.source) if cell.cell_type == "markdown" else None
    if not asked:
        return [cell]
    before, after = cell.source[: asked.end()], cell.source[asked.end() :]
    return [new_markdown_cell(text) for text in (before, GUESS, after)]


def solution(source: Path) -> str:
    """Text of the notebook with everything that the page has."""
    return plain_notebook(jupytext.read(source, fmt="md:myst").cells)


def plain_notebook(cells: list[NotebookNode]) -> str:
    """Text of a notebook whose prose needs no MyST, with cells folded that are folded on the page.

    Parameters are open: they are what a reader changes first.
    """
    titles = exercise_titles("\n".join(cell.source for cell in cells))
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source, titles)
        elif "hide-input" in (tags := cell.metadata.get("tags", [])) and "parameters" not in tags:
            cell.metadata["jupyter"] = {"source_hidden": True}
    return pair.written([cell for cell in cells if cell.source.strip()])


def with_outputs(cache_folder: Path) -> Callable[[Path], NotebookNode]:
    """A function that finds the notebook of a source, with outputs where the cache has them.

    Says which chapters it has none of.
    """
    import chapters
    from jupyter_cache import get_cache

    cache = get_cache(str(cache_folder))
    found = {chapter.path: chapter.notebook for chapter in chapters.chapters(ROOT)}
    without = []
    for source in pair.sources():
        try:
            found[source] = cache.merge_match_into_notebook(found[source])[1]
        except KeyError:
            without.append(source.stem)
    if without:
        of = "" if len(without) == len(pair.sources()) else f" of {', '.join(without)}"
        print(f"No outputs{of} found: slides without figures, run `make book` first.", file=sys.stderr)
    return found.__getitem__


def main() -> int:
    from _ext.execution_cache import state

    folder = ROOT / "_build" / "teaching"
    write(folder, with_outputs(ROOT / "_build" / ".jupyter_cache" / state(ROOT)))
    print(f"Student notebooks, solutions and slides are in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
