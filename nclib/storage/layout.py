"""What the store's folders and files are called.

    NCLIB_HOME/runs/KEY/               a finished run; appears by one rename, carries a manifest
    NCLIB_HOME/checkpoints/KEY/        an unfinished one; the next attempt resumes from it
    NCLIB_HOME/checkpoints/KEY-TIME/   one that was damaged, or of another run, set aside
    NCLIB_HOME/partial/KEY-PROCESS/    a run that is being written
    NCLIB_HOME/damaged/KEY-TIME/       a run that was not what its manifest says, set aside
    NCLIB_HOME/results/KEY/            what was computed from a run, see ``nclib.runs.remember``
    NCLIB_HOME/results/data/           the same of a data set
    NCLIB_HOME/locks/KEY               held by the process that trains KEY

By this the store knows its own, and touches nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path

MANIFEST = "manifest.json"
RECORD = "run.json"
KEY = r"[0-9a-f]{64}"
_EPOCH = r"(weights|features)-\d{5,6}\.safetensors"
_RUN = rf"({RECORD}|{MANIFEST}|(model|moments|features)\.safetensors|{_EPOCH})"
_CHECKPOINT = rf"(state\.safetensors|{_EPOCH})"
_RESULT = r"\w+-[0-9a-f]{16}\.json"
OWN = {  # by folder of the store: what an entry in it is called, and what each file in this entry
    "runs": (KEY, _RUN),
    "checkpoints": (rf"{KEY}(-\d+)?", _CHECKPOINT),
    "partial": (rf"{KEY}-\d+", _RUN),
    "damaged": (rf"{KEY}-\d+", _RUN),
    "results": (rf"{KEY}|data", _RESULT),
}
PARTIAL = r"\.{}\.[0-9a-f]+\.partial"  # a file while it is written, see ``nclib.storage.files.write_bytes``


def is_key(text: str) -> bool:
    """Whether a text is a key: 64 hexadecimal digits."""
    return re.fullmatch(KEY, text) is not None


def is_unfinished(name: str) -> bool:
    """Whether a file is called as those of an unfinished run are."""
    return re.fullmatch(_CHECKPOINT, name) is not None


def is_named(entry: Path) -> bool:
    """Whether an entry of one of the store's folders is called as the store would call it, and a folder."""
    return re.fullmatch(OWN[entry.parent.name][0], entry.name) is not None and entry.is_dir()


def foreign(entry: Path) -> str | None:
    """What about a named entry is not the store's own, for a message; None if all of it is.

    Only what is all the store's own is ever moved or deleted.
    """
    if entry.is_symlink():
        return "it is a link"
    file = OWN[entry.parent.name][1]
    pattern = re.compile(f"{file}|{PARTIAL.format(file)}")
    try:
        inside = sorted(entry.iterdir())
    except PermissionError:
        return "this user may not look into it"
    for path in inside:
        if not pattern.fullmatch(path.name) or path.is_symlink() or not path.is_file():
            return f"it holds {path.name}, which nclib did not write"
    return None
