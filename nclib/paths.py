"""Where things lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from nclib.errors import StoreError

PACKAGE = Path(__file__).parent
REPOSITORY = PACKAGE.parent
NOTEBOOKS = REPOSITORY / "notebooks"
WORKFLOW = REPOSITORY / "workflow"
RELEASED = REPOSITORY / "book" / "released"
BENCHMARKS = REPOSITORY / "benchmarks" / "results"


def home() -> Path:
    """Folder of the store: ``NCLIB_HOME``, else the platform's cache folder.

    Raises
    ------
    StoreError : ``NCLIB_HOME`` is no path of a folder.
    """
    chosen = _chosen("NCLIB_HOME")
    if chosen:
        return chosen
    import platformdirs  # not on every cluster; there NCLIB_HOME is set

    return Path(platformdirs.user_cache_dir("nclib"))


def data_root() -> Path:
    """Folder of the data sets: ``NCLIB_DATA``, else ``data`` under the store.

    Raises
    ------
    StoreError : the chosen one is no path of a folder.
    """
    return _chosen("NCLIB_DATA") or home() / "data"


def _chosen(variable: str) -> Path | None:
    """The folder that an environment variable names, which need not be there yet; None if it is not set."""
    text = os.environ.get(variable)
    if not text:
        return None
    try:
        path = Path(text).expanduser().resolve()
        if path.is_dir() or not path.exists():
            return path
        reason = "it is a file"
    except OSError as error:  # longer than the system allows
        reason = error.strerror or str(error)
    except RuntimeError as error:  # ~nobody, or a ring of links
        reason = str(error)
    raise StoreError(
        f"cannot use {variable}={text:.80}: {reason}. Set {variable} to a folder that can be written."
    )
