"""What a sweep leaves behind that ended well: a call with nothing to do loads neither torch nor Snakemake.

write_end(table, output, keys, released, files)    # all runs are there, all files of the output folder
nothing_missing(table, output)                     # the same table and code, and all of it is still there
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from nclib.paths import RELEASED, home
from nclib.runs.sources import fingerprint

REPORT = "report.html"


def write_end(
    table: Path, output: Path, keys: Sequence[str], released: Sequence[str], files: Sequence[str]
) -> None:
    """Note that a sweep ended: keys of its runs in the store, released folders, files in its output."""
    content = {"of": _of(table), "keys": list(keys), "released": list(released), "files": list(files)}
    (output / "ended.json").write_text(json.dumps(content))


def nothing_missing(table: Path, output: Path) -> int | None:
    """How many runs a sweep has, if all of them and its files are there, of this table and this code."""
    try:
        ended = json.loads((output / "ended.json").read_bytes())
        folders = [home() / "runs" / key for key in ended["keys"]]
        folders += [RELEASED / name for name in ended["released"]]
        files = (output / file for file in ended["files"])
        there = all(folder.is_dir() for folder in folders) and all(file.is_file() for file in files)
        if ended["of"] == _of(table) and there:
            return len(folders)
    except (OSError, ValueError, KeyError, TypeError):  # it has not ended, or the file is damaged
        pass
    return None


def _of(table: Path) -> str:
    return hashlib.sha256(table.read_bytes() + fingerprint().encode()).hexdigest()
