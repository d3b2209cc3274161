"""Whether a run's folder is what was written: all of its files, every byte of them, and a record of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nclib.errors import StoreError
from nclib.storage.files import Damaged, epoch_file, sha256, storage_errors, write_json
from nclib.storage.layout import MANIFEST, RECORD, is_key

FORMAT = 1  # of stores and of released runs; what was made before formats were recorded is read as 1
FIELDS = {  # of run.json
    "key": str,
    "config": dict,
    "grouping": dict,
    "image_shape": list,
    "history": list,
    "provenance": dict,
}


def write_manifest(folder: Path) -> None:
    """List every file of a folder with its SHA-256 and length."""
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    entries = {path.name: {"sha256": sha256(path), "bytes": path.stat().st_size} for path in files}
    write_json(folder / MANIFEST, {"files": entries})


def damage(folder: Path, needed: Callable[[dict[str, Any]], set[str]]) -> str | None:
    """What is wrong with a run folder, naming the file; None if it is what its manifest says.

    Parameters
    ----------
    folder : of a run.
    needed : names of the files that a run of this record must have.

    Raises
    ------
    StoreError : a file that this user may not read, or a format of a later version. Neither is damage.
    """
    try:
        listed = _manifest(folder / MANIFEST)
        for name, entry in listed.items():
            _compare(folder / name, entry)
        if RECORD not in listed:
            raise Damaged(f"{MANIFEST} does not list {RECORD}")
        record = read_record(folder)
        names = needed(record)
        if "format" not in record:  # early runs kept nothing of the epochs on the way
            names = {name for name in names if name in listed or "-" not in name}
        for name in sorted(names ^ set(listed)):
            raise Damaged(f"{MANIFEST} {'lists' if name in listed else 'does not list'} {name}")
    except Damaged as problem:
        return str(problem)
    return None


def record_damage(folder: Path) -> str | None:
    """What is wrong with the run.json of a folder alone, which costs less than all of its files."""
    try:
        listed = _manifest(folder / MANIFEST)
        if RECORD not in listed:
            raise Damaged(f"{MANIFEST} does not list {RECORD}")
        _compare(folder / RECORD, listed[RECORD])
    except Damaged as problem:
        return str(problem)
    return None


def read_record(folder: Path) -> dict[str, Any]:
    """Content of the run.json of a run, with all that a run's record has.

    Raises
    ------
    Damaged : a file that is missing or is no such record.
    StoreError : a file that cannot be read, or a format of a later version.
    """
    record = _read_json(folder / RECORD)
    if problem := _problem(record):
        raise Damaged(f"{RECORD} is no record of a run: {problem}")
    version = record.get("format", 1)
    if version > FORMAT:
        raise StoreError(
            f"{folder} has format {version}, and this nclib reads {FORMAT}. Update nclib to read it."
        )
    return record


def run_files(record: dict[str, Any]) -> set[str]:
    """Names of the files that a run of the store has, without its manifest."""
    between = [entry["epoch"] for entry in record["history"] if "test_accuracy" in entry][:-1]
    files = {RECORD, *(f"{part}.safetensors" for part in ("model", "moments", "features"))}
    return files | set(kept_files(between, record["config"]["arch"]))


def kept_files(epochs: list[int], arch: str) -> list[str]:
    """Names of the files that are kept of measured epochs before the last.

    The features of an MLP cost less to compute again than to read.
    """
    parts = ["weights"] if arch == "mlp" else ["weights", "features"]
    return [epoch_file(part, epoch) for epoch in epochs for part in parts]


def _problem(record: Any) -> str | None:
    if not isinstance(record, dict):
        return "it holds no fields"
    for name, kind in FIELDS.items():
        if not isinstance(record.get(name), kind):
            return f"{name} is {record.get(name)!r:.60}"
    version, config, history = record.get("format", 1), record["config"], record["history"]
    if type(version) is not int or version < 1:
        return f"format is {version!r:.60}"
    if not is_key(record["key"]):
        return f"key is {record['key']!r:.60}"
    if not isinstance(config.get("arch"), str) or type(config.get("epochs")) is not int:
        return "the configuration lacks arch or epochs"
    epochs = [entry.get("epoch") if isinstance(entry, dict) else None for entry in history]
    whole = len(history) == config["epochs"] + 1 > 1 and epochs == list(range(len(history)))
    if not whole or "test_accuracy" not in history[-1]:
        return f"the history is not that of epochs 0 to {config['epochs']}"
    return None


def _manifest(path: Path) -> dict[str, dict[str, Any]]:
    """The files that a manifest lists."""
    content = _read_json(path)
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not all(map(_is_entry, files.items())):
        raise Damaged(f"{path.name} is malformed")
    return files


def _is_entry(item: tuple[str, Any]) -> bool:
    """Whether a manifest's item is the name of a file in its folder, with a sum and a length."""
    name, entry = item
    kinds = {field: type(value) for field, value in entry.items()} if isinstance(entry, dict) else {}
    return Path(name).name == name and kinds == {"sha256": str, "bytes": int}


def _compare(path: Path, entry: dict[str, Any]) -> None:
    """Raise ``Damaged`` unless a file is what its manifest's entry says."""
    if not path.is_file():
        raise Damaged(f"{path.name} is missing")
    with storage_errors(path, "read"):
        size = path.stat().st_size
    if size != entry["bytes"]:
        raise Damaged(f"{path.name} has {size} bytes instead of {entry['bytes']}")
    if sha256(path) != entry["sha256"]:
        raise Damaged(f"{path.name} has a changed content (its SHA-256 is not that of the manifest)")


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise Damaged(f"{path.name} is missing")
    with storage_errors(path, "read"):
        content = path.read_bytes()
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path.name} cannot be read ({error})") from error
