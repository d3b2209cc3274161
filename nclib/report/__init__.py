"""What the features of any model hide: a test of every class, and a page that shows what it found."""

from __future__ import annotations

from pathlib import Path

from nclib.errors import StoreError


def numbers_path(output: Path) -> Path:
    """Where the numbers of a page go: beside it, with the ending .json.

    Raises StoreError for a page that is a folder, or that would lie there itself.
    """
    if not output.name:  # as of "." and ""
        raise StoreError(f"{output}: it is a folder; name a file in it")
    if (path := output.with_suffix(".json")) == output:
        raise StoreError(f"{output}: the numbers go there; give the page the ending .html")
    return path
