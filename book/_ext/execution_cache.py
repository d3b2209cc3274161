"""Sphinx extension: outputs in the execution cache belong to one state of the code and the data.

jupyter-cache recognises a notebook by its code cells alone, so a change in nclib would leave outputs
of the old code in the book. Here the cache is a folder named after everything else that decides an
output, also which data sets are on this machine; when any of that changes, the folder is new, the notebooks
run again, and the old folder goes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tomllib
from collections.abc import Iterable
from pathlib import Path

from nclib.paths import PACKAGE, data_root

FILLED = "BOOK_EXECUTION_CACHE"  # environment variable
DECIDES_OUTPUTS = (
    "nclib/**/*.py",
    "nclib/**/*.toml",
    "nclib/**/*.npz",
    "book/released/**/*",
    "benchmarks/results/*",
    "requirements.lock",
)


def fingerprint(root: Path, patterns: Iterable[str] = DECIDES_OUTPUTS) -> str:
    """Hash of the names and contents of all files that match a pattern; of those that decide what a
    notebook prints, if none is given."""
    digest = hashlib.sha256()
    for path in sorted({p for pattern in patterns for p in root.glob(pattern)}):
        name = path.relative_to(root)
        half_written = any(part.startswith(".") for part in name.parts)  # a release that is being written
        if path.is_file() and path.suffix != ".pyc" and not half_written:
            digest.update(f"{name.as_posix()}\n{path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def state(root: Path) -> str:
    """What decides outputs beside the notebooks: files of the repository, and which data are there."""
    return "-".join([fingerprint(root), *data_sets()])


def data_sets() -> list[str]:
    """Names of the downloadable data sets that are on this machine."""
    known = tomllib.loads((PACKAGE / "data" / "datasets.toml").read_text("utf-8"))
    folder = data_root()
    return sorted(
        name
        for name, entry in known.items()
        if all((folder / entry["folder"] / file).is_file() for file in entry["files"])
    )


def cache_folder(root: Path, build: Path) -> Path:
    """The folder of this state under ``build``; those of other states are deleted."""
    caches = build / ".jupyter_cache"
    current = caches / state(root)
    for old in set(caches.glob("*")) - {current}:
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    return current


def choose_cache(app, config) -> None:
    """The folder that ``make book`` has just filled, whatever was edited since; else that of this state."""
    filled = os.environ.get(FILLED)
    config.nb_execution_cache_path = filled or str(cache_folder(Path(app.srcdir), Path(app.outdir).parent))


def setup(app) -> dict[str, bool]:
    app.connect("config-inited", choose_cache)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
