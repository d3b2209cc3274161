"""The errors that nclib raises on purpose. Each message names the value, the reason and what would work."""

from __future__ import annotations

import sys
from collections.abc import Callable


class NclibError(Exception):
    """Base of every error below; the command line prints it without a traceback."""


class ConfigError(NclibError, ValueError):
    """An unknown recipe or field, or a field of the wrong type or outside its range."""


class MissingPackage(NclibError, ImportError):
    """A package that an extra of nclib installs is not there."""


class DataError(NclibError):
    """A data set that is absent, truncated or altered."""


class TrainingError(NclibError):
    """Training that cannot go on, for example because the loss is not finite."""


class StoreError(NclibError):
    """A store that cannot be written, or a run that is not what its manifest says."""


def status_of(work: Callable[[], None]) -> int:
    """Exit status of a process that does ``work``: 1 after an NclibError, whose message goes to stderr."""
    try:
        work()
    except NclibError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def printable(text: object) -> str:
    """Text without control characters, escaped as in a Python string; only line breaks stay.

    Names of files and classes may hold any: those that a terminal obeys, and those that no encoding has.
    """
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(text)
    )
