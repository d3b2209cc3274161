"""Results of stored runs, computed once: several chapters ask for the same ones.

    remembered(run, _reconstruction_of, clusters, "kmeans")

    NCLIB_HOME/results/KEY/NAME-ARGUMENTS.json     the value, and what computed it of what
    NCLIB_HOME/results/data/NAME-ARGUMENTS.json    the same for what depends on a data set alone

A value is used as long as it is whole, and the sources of nclib, the packages that compute and the files of
the run are the same; it is computed again, and replaced, when any of them changed. ``NCLIB_REMEMBER=0``
computes everything each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from typing import Any

from nclib.errors import StoreError
from nclib.runs.run import Run
from nclib.runs.sources import fingerprint
from nclib.storage import store
from nclib.storage.files import sha256, write_bytes
from nclib.storage.layout import MANIFEST


def remembered(run: Run, compute: Callable[..., Any], *arguments: Any) -> Any:
    """``compute(run, *arguments)``, from the store if it was computed before.

    Parameters
    ----------
    run : of the store; for others the value is computed.
    compute : a function of a module, whose value is JSON-ready.
    arguments : JSON-ready.

    Returns
    -------
    the value, with lists in the place of tuples if it was computed before.
    """
    if not store.contains(run.key) or run.folder != store.run_folder(run.key):
        return compute(run, *arguments)
    of = sha256(run.folder / MANIFEST)
    return _remembered(run.key, compute.__name__, arguments, lambda: compute(run, *arguments), of)


def remembered_of_data(compute: Callable[..., Any], *arguments: Any) -> Any:
    """``compute(*arguments)``, likewise: for what depends on a data set and on no run."""
    return _remembered("data", compute.__name__, arguments, lambda: compute(*arguments))


def _remembered(
    folder: str, name: str, arguments: tuple[Any, ...], compute: Callable[[], Any], of: str = ""
) -> Any:
    if os.environ.get("NCLIB_REMEMBER") == "0":
        return compute()
    basis = {"computed_by": fingerprint(), "of": of}
    file = store.part("results") / folder / f"{name.strip('_')}-{_digest(arguments)[:16]}.json"
    try:
        found = json.loads(file.read_bytes())
        if {key: found[key] for key in basis} == basis and found["sha256"] == _digest(found["value"]):
            return found["value"]
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged
        pass
    value = compute()
    try:
        store.prepare()
        write_bytes(file, json.dumps(basis | {"value": value, "sha256": _digest(value)}).encode())
    except StoreError as error:  # a store that others may read only: the value is right all the same
        warnings.warn(f"{name.strip('_')} will be computed again next time: {error}", stacklevel=2)
    return value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
