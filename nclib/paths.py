"""Where things lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from nclib.errors import ConfigError

PACKAGE = Path(__file__).parent
REPOSITORY = PACKAGE.parent
NOTEBOOKS = REPOSITORY / "notebooks"
RELEASED = REPOSITORY / "book" / "released"
BENCHMARKS = REPOSITORY / "benchmarks" / "results"


def home() -> Path:
    """Folder of the store: ``NCLIB_HOME``, else the platform's cache folder."""
    if chosen := _chosen("NCLIB_HOME"):
        return chosen
    import platformdirs  # not on every cluster; there NCLIB_HOME is set

    return Path(platformdirs.user_cache_dir("nclib"))


def data_root() -> Path:
    """Folder of the data sets: ``NCLIB_DATA``, else ``data`` under the store."""
    return _chosen("NCLIB_DATA") or home() / "data"


def _chosen(variable: str) -> Path | None:
    """The folder that an environment variable names, None if it is not set or empty."""
    text = os.environ.get(variable)
    try:
        return Path(text).expanduser().resolve() if text else None
    except RuntimeError as error:  # ~name of no user, or links in a circle
        raise ConfigError(f"{variable}={text!r} names no folder: {error}") from error
