"""Build the book: execute the chapters that changed, render all pages, check what came out.

    python book/build.py      as ``make book`` does

Ends with status 1, and lines that say why, as soon as one of these steps fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
HTML = BUILD / "html"
TEACHING = BUILD / "teaching"  # what classes get; the built book holds a copy
STATE = HTML / ".state"  # of what the pages were made from
DECIDES_PAGES = (
    "_config.yml",
    "_toc.yml",
    "book/**/*",
    "nclib/chapters/explorer.py",
    "nclib/report/explorer.*",
    "notebooks/*.md",
    "notebooks/*.py",
)  # beside what decides outputs
JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"


def main() -> int:
    from _ext.colophon import revision
    from _ext.execution_cache import FILLED, cache_folder, fingerprint, state

    for name in ("OMP_NUM_THREADS", "NCLIB_PROCESSES"):  # the chapters fill the processors
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    made_from = fingerprint(ROOT, DECIDES_PAGES) + state(ROOT) + revision(ROOT)
    if not STATE.is_file() or STATE.read_text() != made_from:
        cache = cache_folder(ROOT, BUILD)
        os.environ[FILLED] = str(cache)
        if not (intact() and executed(cache) and written(cache) and rendered() and checked()):
            return 1
        STATE.write_text(made_from)
    else:
        print("Nothing has changed since the book was built.")
    print(f"\nOpen {(HTML / 'index.html').as_uri()}")
    return 0


def intact() -> bool:
    """Whether every released run can be read: a page would leave it out, and say less."""
    from nclib.paths import RELEASED
    from nclib.runs.released import released_runs

    folders = {path.name for path in RELEASED.iterdir() if path.is_dir() and not path.name.startswith(".")}
    left_out = folders - {run.folder.name for run in released_runs()}
    if left_out:
        print(f"\nmake book: without {', '.join(sorted(left_out))} pages would be wrong", file=sys.stderr)
    return not left_out


def executed(cache: Path) -> bool:
    """Execute what the cache lacks."""
    import chapters  # takes a second

    found = chapters.chapters(ROOT)
    timeout = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["execute"]["timeout"]
    failed = chapters.execute_all(found, cache, timeout)
    if failed:
        print("\n" + chapters.report(failed, len(found), ROOT), file=sys.stderr, flush=True)
    return not failed


def written(cache: Path) -> bool:
    """Write student and solution notebooks and slides, with the outputs in the cache."""
    import teaching

    teaching.write(TEACHING, teaching.with_outputs(cache))
    return True


def rendered() -> bool:
    """Turn pages and cached outputs into HTML, all of them anew: only then does every warning show."""
    for old in (HTML, BUILD / ".doctrees"):
        shutil.rmtree(old, ignore_errors=True)
    print("rendering the pages", flush=True)
    arguments = ("build", ".", "--all", "--warningiserror", "--keep-going", "--quiet")
    good = run("-c", JUPYTER_BOOK, *arguments, otherwise="the warnings and errors above stop the book")
    if good:
        shutil.copytree(TEACHING, HTML / "teaching")
    return good


def checked() -> bool:
    """Whether the pages are complete and need no network."""
    arguments = ("--quiet", "--no-header", "book/check_pages.py")
    return run(
        "-m", "pytest", *arguments, otherwise="the pages are built, but not as they should be: see above"
    )


def run(*arguments: str, otherwise: str) -> bool:
    """Run Python on these arguments; where that fails, print what is ``otherwise``."""
    good = subprocess.run([sys.executable, *arguments], cwd=ROOT).returncode == 0
    if not good:
        print(f"\nmake book: {otherwise}", file=sys.stderr, flush=True)
    return good


if __name__ == "__main__":
    BUILD.mkdir(exist_ok=True)
    try:
        with FileLock(BUILD / ".lock", timeout=0):
            sys.exit(main())
    except Timeout:
        print("make book: another one is at work in this folder", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nmake book: interrupted; chapters that are done stay so", file=sys.stderr)
        sys.exit(130)
