"""What a sweep leaves behind that ended well: a call with nothing to do loads neither torch nor Snakemake.

write_end(table, output, keys, files)    # every run is trained, every file of the output folder written
nothing_missing(table, output)           # the same table, the same code, and all of it is still there
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from nclib.paths import home
from nclib.runs.sources import fingerprint

REPORT = "report.html"


def write_end(table: Path, output: Path, keys: Sequence[str], files: Sequence[str]) -> None:
    """Note that a sweep ended with all its runs in the store and these files in its output folder."""
    (output / "ended.json").write_text(
        json.dumps({"of": _of(table), "keys": list(keys), "files": list(files)})
    )


def nothing_missing(table: Path, output: Path) -> int | None:
    """How many runs a sweep has, if all of them and its files are there, of this table and this code."""
    try:
        ended = json.loads((output / "ended.json").read_bytes())
        there = all((home() / "runs" / key).is_dir() for key in ended["keys"])
        if ended["of"] == _of(table) and there and all((output / file).is_file() for file in ended["files"]):
            return len(ended["keys"])
    except (OSError, ValueError, KeyError, TypeError):  # it has not ended, or the file is damaged
        pass
    return None


def _of(table: Path) -> str:
    return hashlib.sha256(table.read_bytes() + fingerprint().encode()).hexdigest()
