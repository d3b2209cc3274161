"""Execute the chapters that changed, each once, and say how far it is: the first step of ``make book``.

Outputs go into the cache from which Sphinx then reads them. As many chapters as there are processors, up to
four, run at once, those that take longest first. If one fails the others go on, and the last lines say what
to do.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml
from forked import forked_kernels
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from myst_nb.core.read import is_myst_markdown_notebook, read_myst_markdown_notebook
from myst_parser.config.main import MdParserConfig
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from nclib.notebook import kernel_config, kernel_folder
from nclib.runs.priority import processors

LONGEST_FIRST = ("08", "10", "05", "09", "14", "paper-against-ours", "13", "11")  # the others take less
MOST_AT_ONCE = 4  # chapters; each takes about half a gigabyte
ERROR_LINES = 3  # of an error that are shown


@dataclass
class Chapter:
    """A page of the table of contents that has code.

    Attributes
    ----------
    path : of its .md.
    notebook : as Sphinx reads it; executed in place.
    position : among the chapters, from 1.
    begun : index of the last cell that was begun.
    seconds : that the execution took.
    error : with which it ended, or None.
    """

    path: Path
    notebook: nbformat.NotebookNode
    position: int
    begun: int = 0
    seconds: float = 0.0
    error: Exception | None = None

    @property
    def name(self) -> str:
        return self.path.stem


def chapters(root: Path) -> list[Chapter]:
    """All chapters in the order of the table of contents."""
    config = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    texts = {root / f"{page}.md": (root / f"{page}.md").read_text("utf-8") for page in contents(root)}
    # as Sphinx reads them, so that the cache knows them under the same names
    reader = MdParserConfig(enable_extensions=set(config["parse"]["myst_enable_extensions"]))
    notebooks = {
        path: read_myst_markdown_notebook(text, config=reader, add_source_map=True, path=path)
        for path, text in texts.items()
        if is_myst_markdown_notebook(text)
    }
    return [Chapter(*both, i) for i, both in enumerate(notebooks.items(), start=1)]


def contents(root: Path) -> list[str]:
    """All pages in the order of the table of contents, without ending."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
    return [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]


def execute_all(found: Sequence[Chapter], cache_folder: Path, timeout: int) -> list[Chapter]:
    """Execute the chapters that the cache lacks, printing a line as each one ends.

    Parameters
    ----------
    found : all chapters.
    cache_folder : of jupyter-cache.
    timeout : seconds that a cell may take.

    Returns
    -------
    list : the chapters that failed; they are not in the cache.
    """
    cache = get_cache(str(cache_folder))
    todo = sorted((chapter for chapter in found if not is_cached(cache, chapter)), key=turn)
    if len(todo) < len(found):
        print(f"{len(found) - len(todo)} of {len(found)} chapters are unchanged", flush=True)
    if not todo:
        return []
    with (
        kernel_folder() as folder,
        forked_kernels(),
        ThreadPoolExecutor(min(processors(), MOST_AT_ONCE)) as pool,
    ):
        clients = [client_of(chapter, timeout, folder) for chapter in todo]
        running = {pool.submit(execute, *pair): pair[0] for pair in zip(todo, clients, strict=True)}
        try:
            for done, future in enumerate(as_completed(running), start=1):
                chapter = running[future]
                if chapter.error is None:
                    keep(cache, chapter)
                print(progress(chapter, len(found), len(todo) - done), flush=True)
        except BaseException:  # interrupted; the threads wait for their kernels
            pool.shutdown(wait=False, cancel_futures=True)
            for client in clients:
                kill(client)
            raise
    return [chapter for chapter in found if chapter.error is not None]


def turn(chapter: Chapter) -> int:
    """When a chapter begins, compared with others."""
    number = chapter.name.partition("_")[0]
    return LONGEST_FIRST.index(number) if number in LONGEST_FIRST else len(LONGEST_FIRST)


def progress(chapter: Chapter, total: int, remaining: int) -> str:
    """The line that a chapter gets when it ends."""
    ending = f"{chapter.seconds:.0f} s" if chapter.error is None else f"FAILED after {chapter.seconds:.0f} s"
    return f"chapter {chapter.position} of {total}, {chapter.name}: {ending}; {remaining} remain"


def is_cached(cache: Any, chapter: Chapter) -> bool:
    """Whether the cache has outputs of this code."""
    try:
        cache.match_cache_notebook(chapter.notebook)
    except KeyError:
        return False
    return True


def keep(cache: Any, chapter: Chapter) -> None:
    """Put an executed chapter where Sphinx looks for it, in the place of what it was before.

    Tables of all pages read the cache by the pages' addresses: one address has one record.
    """
    for record in cache.list_cache_records():
        if record.uri == str(chapter.path):
            cache.remove_cache(record.pk)
    executed = CacheBundleIn(chapter.notebook, str(chapter.path), data={"execution_seconds": chapter.seconds})
    cache.cache_notebook_bundle(executed, check_validity=False, overwrite=True)


def client_of(chapter: Chapter, timeout: int, folder: Path) -> NotebookClient:
    """A client whose kernel has sockets of its own in ``folder`` and works where the chapter lies."""

    def begin(cell: nbformat.NotebookNode, cell_index: int) -> None:
        chapter.begun = cell_index

    return NotebookClient(
        chapter.notebook,
        timeout=timeout,
        record_timing=False,  # times in a cell's metadata would give the notebook another name in the cache
        resources={"metadata": {"path": str(chapter.path.parent)}},
        on_cell_start=begin,
        config=kernel_config(folder, chapter.name),
    )


def execute(chapter: Chapter, client: NotebookClient) -> None:
    """Run a chapter from top to bottom, or to its first error."""
    start = time.perf_counter()
    try:
        asyncio.run(client.async_execute())
    except Exception as error:  # of a cell, or a kernel that died
        chapter.error = error
    chapter.seconds = time.perf_counter() - start


def kill(client: NotebookClient) -> None:
    """End a kernel and all processes that it started."""
    process = getattr(getattr(client.km, "provisioner", None), "process", None)
    if process is not None and process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has no group yet, or has just ended
            process.kill()


def report(failed: Sequence[Chapter], total: int, root: Path) -> str:
    """The last lines of a build in which chapters failed: which, where and why, and how to go on."""
    alone = [c.name.partition("_")[0] for c in failed if c.path.parent.name == "notebooks"]
    return "\n".join(
        [
            *(failure(chapter, root) for chapter in failed),
            f"{len(failed)} of {total} chapters failed: {', '.join(chapter.name for chapter in failed)}.",
            "Put it right, then `make book` again: it executes only what failed or changed.",
            *(f"To try this chapter alone: .venv/bin/python -m nclib run {number}" for number in alone),
        ]
    )


def failure(chapter: Chapter, root: Path) -> str:
    """What failed, and where; the whole traceback goes into a file."""
    log = root / "_build" / "failed" / f"{chapter.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(traceback.format_exception(chapter.error)), "utf-8")
    number, line, source = failed_cell(chapter)
    place = f"{chapter.path.relative_to(root)}, line {line}"
    return "\n".join(
        [
            f"Chapter {chapter.position}, {chapter.name}, failed in code cell {number} ({place}):",
            "",
            *(f"    {li}" for li in source.splitlines()),
            "",
            *(f"    {li}" for li in error_of(chapter).splitlines()[:ERROR_LINES]),
            "",
            f"The whole traceback is in {log.relative_to(root)}",
            "",
        ]
    )


def failed_cell(chapter: Chapter) -> tuple[int, int, str]:
    """Number among the code cells, line of the .md and source of the cell in which a chapter ended."""
    cells = chapter.notebook.cells
    code = [i for i, cell in enumerate(cells) if cell.cell_type == "code"]
    number = code.index(chapter.begun) if chapter.begun in code else 0  # else its kernel did not start
    return number + 1, chapter.notebook.metadata.source_map[code[number]], cells[code[number]].source


def error_of(chapter: Chapter) -> str:
    """Name and message of the error."""
    error = chapter.error
    if isinstance(error, CellExecutionError):
        return f"{error.ename}: {error.evalue}"
    return f"{type(error).__name__}: {error}"
