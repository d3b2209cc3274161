"""The store of runs: content-addressed, verified, never edited.

    NCLIB_HOME/runs/KEY/          a finished run; appears by one rename, carries a manifest
    NCLIB_HOME/checkpoints/KEY/   an unfinished one; the next attempt resumes from it
    NCLIB_HOME/results/KEY/       what was computed from a run, see ``nclib.runs.remember``
    NCLIB_HOME/locks/KEY          held by the process that trains KEY
    NCLIB_HOME/damaged/KEY-TIME/  a run that was not what its manifest says, set aside

A key is the SHA-256 of the canonical configuration, the data set's fingerprint and the fingerprint of the
source files that decide a training result.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nclib.config import RunConfig
from nclib.data import datasets
from nclib.errors import StoreError
from nclib.paths import PACKAGE, home
from nclib.storage.files import sha256, storage_errors, write_json

TRAINING_SOURCES = (
    "data/datasets.py",
    "data/grouping.py",
    "measures/arrays.py",
    "measures/collapse.py",
    "measures/moments.py",
    "networks/features.py",
    "networks/models.py",
    "training/batches.py",
    "training/distributed.py",
    "training/loop.py",
    "training/losses.py",
    "training/objective.py",
    "training/stacked_seeds.py",
)
MANIFEST = "manifest.json"


@cache
def source_fingerprint() -> str:
    """SHA-256 of the source files that decide a training result."""
    digest = hashlib.sha256()
    for name in TRAINING_SOURCES:
        digest.update(name.encode() + b"\0" + (PACKAGE / name).read_bytes() + b"\0")
    return digest.hexdigest()


def run_key(config: RunConfig) -> str:
    """Key of a configuration: 64 hexadecimal digits."""
    parts = (config.canonical_json(), datasets.fingerprint(config.dataset), source_fingerprint())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def run_folder(key: str) -> Path:
    """Where a finished run lies, or will lie."""
    return home() / "runs" / key


def unfinished_folder(key: str) -> Path:
    """Where an unfinished run keeps its checkpoint, and what it will keep of the epochs so far."""
    return home() / "checkpoints" / key


def contains(key: str) -> bool:
    """Whether the store holds a finished run of this key; it may still be damaged."""
    return run_folder(key).is_dir()


def stored_keys() -> list[str]:
    """Keys of all finished runs, oldest first."""
    folders = (home() / "runs").glob("*")
    return [path.name for path in sorted(folders, key=lambda path: path.stat().st_mtime)]


def add(key: str, write: Callable[[Path], None]) -> Path:
    """Add a run: ``write`` fills an empty folder, which then appears under its key by one rename.

    Raises
    ------
    StoreError : the store cannot be written; nothing is left behind.
    """
    folder = run_folder(key)
    partial = home() / "partial" / f"{key}-{os.getpid()}"
    try:
        with storage_errors(folder):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write(partial)
            write_manifest(partial)
            folder.parent.mkdir(parents=True, exist_ok=True)
            partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(unfinished_folder(key), ignore_errors=True)
    return folder


def write_manifest(folder: Path) -> None:
    """List every file of a folder with its SHA-256 and length."""
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    entries = {path.name: {"sha256": sha256(path), "bytes": path.stat().st_size} for path in files}
    write_json(folder / MANIFEST, {"files": entries})


def damage(folder: Path) -> str | None:
    """What is wrong with a run folder, naming the file; None if it is what its manifest says."""
    try:
        files: dict[str, dict[str, Any]] = json.loads((folder / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["bytes"]:
            return f"{name} has {path.stat().st_size} bytes instead of {entry['bytes']}"
        if sha256(path) != entry["sha256"]:
            return f"{name} has a changed content (its SHA-256 is not that of the manifest)"
    return None


def verified(key: str) -> Path:
    """Folder of a finished run whose every file was checked.

    Raises
    ------
    StoreError : a file is missing or changed. The run is set aside, so that asking again recomputes it.
    """
    folder = run_folder(key)
    problem = damage(folder)
    if problem is None:
        return folder
    aside = home() / "damaged" / f"{key}-{time.time_ns()}"
    with storage_errors(aside):
        aside.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(aside)
    raise StoreError(
        f"run {key[:12]} is damaged: {problem}. It was set aside in {aside} and is not used; "
        "ask for the run again to recompute it."
    )


@contextmanager
def writing(key: str) -> Iterator[None]:
    """Hold the lock of a key; a second process waits here until the first is done."""
    path = home() / "locks" / key
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"another process is working on run {key[:12]}; waiting for it", file=sys.stderr)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def unfinished() -> list[Path]:
    """Folders of unfinished runs."""
    return sorted(path for path in (home() / "checkpoints").glob("*") if path.is_dir())


def is_busy(key: str) -> bool:
    """Whether a process is working on this key now."""
    path = home() / "locks" / key
    return path.exists() and _held(path)


def leftovers() -> list[Path]:
    """What may be deleted without losing a run: partial and damaged folders, orphans of runs that are gone.

    Nothing of a run that a process is working on now.
    """
    finished = set(stored_keys())
    every = list((home() / "checkpoints").glob("*"))
    partial = [
        *(home() / "partial").glob("*"),
        *(path for path in every if path.name in finished or not path.is_dir()),
        *(path for folder in every if folder.name not in finished for path in folder.glob(".*.partial")),
    ]
    busy = [path.name for path in (home() / "locks").glob("*") if _held(path)]
    return [
        *(home() / "damaged").glob("*"),
        *(path for path in (home() / "results").glob("*") if path.name not in {"data", *finished}),
        *(path for path in partial if not any(key in str(path) for key in busy)),
    ]


def _held(lock: Path) -> bool:
    """Whether a process holds this lock."""
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def delete(path: Path) -> int:
    """Delete a file or folder of the store; bytes freed."""
    size = sum(part.stat().st_size for part in [path, *path.rglob("*")] if part.is_file())
    with storage_errors(path):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return size
