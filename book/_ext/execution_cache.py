"""Sphinx extension: outputs in the execution cache belong to one state of the code and the data.

jupyter-cache recognises a notebook by its code cells alone, so a change in nclib would leave outputs
of the old code in the book. Here the cache is a folder named after everything else that decides an
output; when any of that changes, the folder is new, the notebooks run again, and the old folder goes.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

DECIDES_OUTPUTS = (
    "nclib/*.py",
    "nclib/*.toml",
    "book/released/**/*",
    "benchmarks/results/*",
    "requirements.lock",
)


def fingerprint(root: Path) -> str:
    """Hash of the names and contents of all files that decide what a notebook prints."""
    digest = hashlib.sha256()
    for path in sorted({p for pattern in DECIDES_OUTPUTS for p in root.glob(pattern)}):
        if path.is_file():
            digest.update(f"{path.relative_to(root).as_posix()}\n{path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def choose_cache(app, config) -> None:
    caches = Path(app.outdir).parent / ".jupyter_cache"
    current = caches / fingerprint(Path(app.srcdir))
    for old in set(caches.glob("*")) - {current}:
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    config.nb_execution_cache_path = str(current)


def setup(app) -> dict[str, bool]:
    app.connect("config-inited", choose_cache)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
