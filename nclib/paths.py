"""Where things lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).parent
REPOSITORY = PACKAGE.parent
NOTEBOOKS = REPOSITORY / "notebooks"
RELEASED = REPOSITORY / "book" / "released"
BENCHMARKS = REPOSITORY / "benchmarks" / "results"


def home() -> Path:
    """Folder of the store: ``NCLIB_HOME``, else the platform's cache folder."""
    chosen = os.environ.get("NCLIB_HOME")
    if chosen:
        return Path(chosen).expanduser().resolve()
    import platformdirs  # not on every cluster; there NCLIB_HOME is set

    return Path(platformdirs.user_cache_dir("nclib"))


def data_root() -> Path:
    """Folder of the data sets: ``NCLIB_DATA``, else ``data`` under the store."""
    chosen = os.environ.get("NCLIB_DATA")
    return Path(chosen).expanduser().resolve() if chosen else home() / "data"
