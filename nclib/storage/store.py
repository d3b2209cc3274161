"""The store of runs: content-addressed, verified, never edited.

A key is the SHA-256 of the canonical configuration, the data set's fingerprint and the fingerprint of the
source files that decide a training result.

``nclib-store.json`` marks a folder as a store and says of which format; it is written when the store is first
written to. NCLIB_HOME may name a folder that holds other things too: runs are then stored beside them. Only
what looks exactly like the store's own, see ``nclib.storage.layout``, is listed, moved or deleted; and where
there is no marker and the store's folders hold anything else, nothing is deleted at all.
"""

from __future__ import annotations

import fcntl
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
from nclib.storage import integrity
from nclib.storage.files import storage_errors
from nclib.storage.integrity import FORMAT, write_manifest
from nclib.storage.layout import MANIFEST, OWN, RECORD, foreign, is_key, is_named

TRAINING_SOURCES = (
    "data/datasets.py",
    "data/grouping.py",
    "measures/arrays.py",
    "measures/collapse.py",
    "measures/moments.py",
    "networks/features.py",
    "networks/models.py",
    "networks/patches.py",
    "networks/stacked.py",
    "training/batches.py",
    "training/checkpoint.py",
    "training/distributed.py",
    "training/loop.py",
    "training/losses.py",
    "training/objective.py",
    "training/optimizer.py",
    "training/stacked_seeds.py",
)
MARKER = "nclib-store.json"


@cache
def source_fingerprint() -> str:
    """SHA-256 of the source files that decide a training result."""
    digest = hashlib.sha256()
    for name in TRAINING_SOURCES:
        digest.update(name.encode() + b"\0" + (PACKAGE / name).read_bytes() + b"\0")
    return digest.hexdigest()


def run_key(config: RunConfig) -> str:
    """Key of a configuration: 64 hexadecimal digits."""
    return _key(config.canonical_json(), **decided_by(config))


def decided_by(config: RunConfig) -> dict[str, str]:
    """What decides a run's key besides its configuration: fingerprints of the data and of the code."""
    return {"data": datasets.fingerprint(config.dataset), "code": source_fingerprint()}


def _key(canonical: str, data: str, code: str) -> str:
    return hashlib.sha256("\n".join((canonical, data, code)).encode()).hexdigest()


def part(name: str) -> Path:
    """A folder of the store, such as "runs".

    Raises
    ------
    StoreError : the store is of a later version, or its marker is damaged.
    """
    _has_marker()
    return home() / name


def prepare() -> None:
    """Make NCLIB_HOME a store, unless it is one; whatever is there stays.

    Raises
    ------
    StoreError : the folder cannot be written, or is the store of a later version.
    """
    if not _has_marker():
        with storage_errors(home() / MARKER):
            home().mkdir(parents=True, exist_ok=True)
            # not beside its place first: a kill would leave that behind, and one write is whole or absent
            (home() / MARKER).write_text(json.dumps({"format": FORMAT}) + "\n", encoding="utf-8")


def _has_marker() -> bool:
    """Whether NCLIB_HOME is marked as a store, which this version reads."""
    path = home() / MARKER
    if not path.is_file():
        return False
    with storage_errors(path, "read"):
        content = path.read_bytes()
    if not content:  # its writer was killed, or is about to write it
        return False
    try:
        version = json.loads(content)["format"]
        readable = version <= FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is damaged. Delete it if the runs beside it are nclib's, or set NCLIB_HOME elsewhere."
        ) from error
    if not readable:
        raise StoreError(
            f"the store {home()} has format {version}, and this nclib reads {FORMAT}. "
            "Update nclib, or set NCLIB_HOME to another folder."
        )
    return True


def strangers() -> list[Path]:
    """What keeps a folder without marker from being taken for a store: entries that are not a store's."""
    if _has_marker():
        return []
    entries = [entry for name in OWN for entry in _entries(name)]
    return [entry for entry in entries if not is_named(entry) or foreign(entry)]


def _entries(name: str) -> list[Path]:
    """All that lies in one of the store's folders."""
    folder = part(name)
    if not folder.is_dir():
        return []
    with storage_errors(folder, "read"):
        return sorted(folder.iterdir())


def run_folder(key: str) -> Path:
    """Where a finished run lies, or will lie."""
    return part("runs") / key


def unfinished_folder(key: str) -> Path:
    """Where an unfinished run keeps its checkpoint, and what it will keep of the epochs so far."""
    return part("checkpoints") / key


def contains(key: str) -> bool:
    """Whether the store holds a finished run of this key; it may still be damaged."""
    return os.path.lexists(run_folder(key))


def stored_keys() -> list[str]:
    """Keys of all finished runs, oldest first."""
    named = filter(is_named, _entries("runs"))
    runs = [entry for entry in named if any((entry / name).is_file() for name in (RECORD, MANIFEST))]
    return [entry.name for entry in sorted(runs, key=lambda entry: entry.stat().st_mtime)]


def add(key: str, write: Callable[[Path], None]) -> Path:
    """Add a run: ``write`` fills an empty folder, which then appears under its key by one rename.

    Raises
    ------
    StoreError : the store cannot be written; nothing is left behind.
    """
    prepare()
    folder = run_folder(key)
    partial = part("partial") / f"{key}-{os.getpid()}"
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
    unfinished = unfinished_folder(key)
    if unfinished.is_dir() and not foreign(unfinished):
        shutil.rmtree(unfinished, ignore_errors=True)  # if it stays, ``leftovers`` lists it
    return folder


def damage(folder: Path) -> str | None:
    """What is wrong with a run folder, naming the file; None if it is the run that its name says, and whole.

    Raises
    ------
    StoreError : a file that this user may not read, or a format of a later version. Neither is damage.
    """
    return integrity.damage(folder, integrity.run_files) or _mistaken(folder)


def _mistaken(folder: Path) -> str | None:
    """Which other run than its name says a whole run folder holds."""
    record = integrity.read_record(folder)
    if record["key"] != folder.name:
        return f"{RECORD} is that of run {record['key'][:12]}"
    return mislabelled(record)


def mislabelled(record: dict[str, Any]) -> str | None:
    """What about the key of a run's record is not its configuration's, as far as the record tells."""
    if "code" not in record:  # of before formats were recorded
        return None
    canonical = json.dumps(record["config"], sort_keys=True, separators=(",", ":"))
    if _key(canonical, record.get("data", ""), record["code"]) != record["key"]:
        return f"{RECORD} holds another configuration than its key is made from"
    return None


def verified(key: str) -> Path:
    """Folder of a finished run whose every file was checked, and that it is the run of this key.

    Raises
    ------
    StoreError : a file is missing or changed. The run is set aside, so that asking again recomputes it.
    """
    folder = run_folder(key)
    problem = damage(folder)
    if problem is None:
        return folder
    try:
        with writing(key):  # another process may have found it too, or replaced it by now
            problem = damage(folder)
            if problem is None:
                return folder
            outcome = _set_aside(folder)
    except StoreError as error:
        raise StoreError(
            f"run {key[:12]} is damaged: {problem}. It could not be set aside: {error}"
        ) from error
    raise StoreError(f"run {key[:12]} is damaged: {problem}. {outcome}")


def _set_aside(folder: Path) -> str:
    """Move a damaged run away, and say where; one that holds anything foreign stays."""
    if not os.path.lexists(folder):
        return "Another process set it aside; ask for the run again to recompute it."
    if not folder.is_dir() or foreign(folder):
        reason = foreign(folder) if folder.is_dir() else "it is no folder"
        return f"It stays at {folder}, for {reason}; move that away and ask for the run again."
    aside = part("damaged") / f"{folder.name}-{time.time_ns()}"
    with storage_errors(aside):
        aside.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(aside)
    return f"It was set aside in {aside} and is not used; ask for the run again to recompute it."


@contextmanager
def writing(key: str) -> Iterator[None]:
    """Hold the lock of a key; a second process waits here until the first is done."""
    prepare()
    path = part("locks") / key
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"another process is working on run {key[:12]}; waiting for it", file=sys.stderr)
            lock.acquire()
        except NotImplementedError as error:
            raise StoreError(
                f"cannot lock {path}: its file system has no locks. Set NCLIB_HOME to a folder on another."
            ) from error
    try:
        yield
    finally:
        lock.release()


def unfinished() -> list[Path]:
    """Folders of unfinished runs."""
    return [entry for entry in _own("checkpoints") if is_key(entry.name)]


def is_busy(key: str) -> bool:
    """Whether a process is working on this key now: only the holder of its lock may write.

    Where a lock lies that is not ours, or there are none, it may be.
    """
    try:
        file = os.open(part("locks") / key, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:  # of another user, who may hold it
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # FileLock's own would need the right to write
        return False
    except OSError:  # held, or a file system without locks, where it may be
        return True
    finally:
        os.close(file)


def leftovers() -> list[Path]:
    """What may be deleted without losing a run: partial and damaged folders, orphans of runs that are gone.

    Nothing of a run that a process is working on now, and nothing that is not the store's own.
    """
    finished = set(stored_keys())
    unfinished = _own("checkpoints")
    alive = [entry for entry in unfinished if is_key(entry.name) and entry.name not in finished]
    left = [
        *_own("damaged"),
        *(entry for entry in _own("results") if entry.name not in {"data", *finished}),
        *_own("partial"),
        *(entry for entry in unfinished if entry not in alive),
        *(path for entry in alive for path in sorted(entry.glob(".*.partial"))),
    ]
    return [path for path in left if not is_busy(key_of(path))]


def key_of(path: Path) -> str:
    """Key of the run to which an entry of the store's folders, or a file in one, belongs."""
    entry = path if path.parent.name in OWN else path.parent
    return entry.name.partition("-")[0]


def _own(name: str) -> list[Path]:
    """Entries of one of the store's folders that are all the store's own, and so may be moved or deleted."""
    if strangers():
        return []
    return [entry for entry in _entries(name) if is_named(entry) and not foreign(entry)]


def stale(is_stale: Callable[[Path], bool]) -> list[Path]:
    """Finished and unfinished runs of which a function of their folder says so, likewise."""
    idle = [entry for entry in [*_own("runs"), *unfinished()] if not is_busy(entry.name)]
    return [entry for entry in idle if is_stale(entry)]


def delete(path: Path) -> None:
    """Delete what ``leftovers`` or ``stale`` listed.

    Raises
    ------
    StoreError : it cannot be deleted, or a process has begun to work on its run.
    """
    lock = FileLock(part("locks") / key_of(path))
    with storage_errors(path, "delete"):
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        try:
            with lock.acquire(timeout=0):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except Timeout:
            raise StoreError(f"a process works on run {key_of(path)[:12]}, so {path} stays.") from None
