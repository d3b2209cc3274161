"""Checkpoints: what an unfinished training needs to go on as if it had never stopped.

    FOLDER/state.safetensors            network, momentum and snapshots; the rest of ``State`` as metadata
    FOLDER/weights-00004.safetensors    and others: kept of measured epochs, see ``kept_files``

One checksum covers all of a checkpoint, which names its configuration and its folder: in the store the key.
A checkpoint that is damaged, incomplete or another run's is never continued: it is set aside.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from nclib.config import RunConfig
from nclib.storage.files import Damaged, read_tensors, sha256, storage_errors, write_tensors
from nclib.storage.integrity import kept_files
from nclib.storage.layout import is_unfinished

CHECKPOINT = "state.safetensors"  # of an unfinished run, in its folder


@dataclass
class State:
    """A training after an epoch.

    Attributes
    ----------
    history : a record per epoch, as ``nclib.training.loop.Trained`` has it.
    seconds : of all attempts so far.
    attempts : what the caller said of each attempt so far.
    kept : SHA-256 of the files of measured epochs in the folder, by name.
    model, momentum, snapshots : tensors by name.
    """

    history: list[dict[str, Any]]
    seconds: float
    attempts: list[dict[str, Any]]
    kept: dict[str, str]
    model: dict[str, Tensor] = field(default_factory=dict)
    momentum: dict[str, Tensor] = field(default_factory=dict)
    snapshots: dict[str, Tensor] = field(default_factory=dict)


TENSORS = ("model", "momentum", "snapshots")


def write(folder: Path, config: RunConfig, state: State) -> None:
    """Replace the checkpoint of a folder.

    Raises
    ------
    StoreError : it cannot be written; the previous one stays.
    """
    tensors = {f"{part}/{name}": t for part in TENSORS for name, t in getattr(state, part).items()}
    described = {name: value for name, value in vars(state).items() if name not in TENSORS}
    metadata = {
        "config": config.canonical_json(),
        "folder": folder.name,
        "epoch": str(len(state.history) - 1),
        "state": json.dumps(described),
    }
    write_tensors(folder / CHECKPOINT, tensors, metadata)


def read(folder: Path, config: RunConfig) -> State:
    """The checkpoint of a folder.

    Raises
    ------
    Damaged : it is not whole, or not that of this configuration and folder.
    StoreError : it cannot be read.
    """
    tensors, metadata = read_tensors(folder / CHECKPOINT)
    parts = {part: _under(f"{part}/", tensors) for part in TENSORS}
    try:
        ours, theirs = json.loads(config.canonical_json()), json.loads(metadata["config"])
        differing = sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name))
        state = State(**json.loads(metadata["state"]), **parts)
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged("it is not a checkpoint of this version") from error
    if differing:
        said = ", ".join(f"{name}={theirs.get(name)!r} instead of {ours.get(name)!r}" for name in differing)
        raise Damaged(f"it is that of another run, with {said}")
    if metadata.get("folder") != folder.name:
        raise Damaged(f"it was written for {metadata.get('folder')!s:.12}, another version's run")
    return state


def resumable(folder: Path, config: RunConfig, measured: list[int], fresh: State) -> State | None:
    """The checkpoint of a folder, if there is one to go on from. One that cannot be used is set aside.

    Parameters
    ----------
    folder, config : of the unfinished run.
    measured : epochs that are measured, ascending.
    fresh : of an untrained network: its parameters; the momentum that its first step makes; and the snapshots
        of one epoch, of which only the names count.

    Raises
    ------
    StoreError : the checkpoint cannot be read, or cannot be set aside.
    """
    if not os.path.lexists(folder / CHECKPOINT):
        return None
    try:
        state = read(folder, config)
        _refuse_incomplete(state, config.epochs, measured, fresh)
        _refuse_lost(folder, state, config, measured)
        return state
    except Damaged as problem:
        aside = _set_aside(folder)
        print(
            f"the checkpoint {folder / CHECKPOINT} is not used: {problem}. It was set aside in {aside}; "
            "training begins anew",
            file=sys.stderr,
        )
        return None


def _refuse_incomplete(state: State, epochs: int, measured: list[int], fresh: State) -> None:
    """Raise ``Damaged`` if a checkpoint lacks anything, or has too much, to be gone on from."""
    numbers = [record["epoch"] for record in state.history]
    if numbers != list(range(len(numbers))) or not 1 <= len(numbers) <= epochs + 1:
        raise Damaged(f"its history is not that of epochs 0 to at most {epochs}")
    done = [epoch for epoch in measured if epoch in numbers]
    if [record["epoch"] for record in state.history if "test_accuracy" in record] != done:
        raise Damaged(f"its history does not hold what was measured at epochs {done}")
    if not 0 <= state.seconds < math.inf:
        raise Damaged(f"it took {state.seconds} seconds")
    parameters, momentum = _shapes(fresh.model), _shapes(state.momentum)
    if _shapes(state.model) != parameters:
        raise Damaged("its network has other parameters")
    needed = _shapes(fresh.momentum) if len(numbers) > 1 else {}
    if not needed.items() <= momentum.items() <= parameters.items():  # of what no loss sees there may be none
        raise Damaged("its momentum is not that of its network's parameters")
    if set(state.snapshots) != {f"{epoch}/{name}" for epoch in done for name in fresh.snapshots}:
        raise Damaged(f"it does not hold the moments of epochs {done}")


def _refuse_lost(folder: Path, state: State, config: RunConfig, measured: list[int]) -> None:
    """Raise ``Damaged`` if a file that was kept of an epoch is no longer what it was."""
    done = [epoch for epoch in measured if epoch < min(len(state.history), config.epochs)]
    if set(state.kept) != set(kept_files(done, config.arch)):
        raise Damaged(f"it does not name the files of epochs {done}")
    for name, digest in state.kept.items():
        if problem := changed(folder, name, digest):
            raise Damaged(problem)


def changed(folder: Path, name: str, digest: str) -> str | None:
    """What happened to a file that was kept, in words; None if it is as it was."""
    if not (folder / name).is_file():
        return f"{folder} has lost {name}"
    return None if sha256(folder / name) == digest else f"{folder} has another {name} than was written"


def _set_aside(folder: Path) -> Path:
    """Move the files of an unfinished run into a folder beside its own; its path."""
    aside = folder.with_name(f"{folder.name}-{time.time_ns()}")
    with storage_errors(aside):
        aside.mkdir()
        for file in sorted(folder.iterdir()):
            if is_unfinished(file.name):
                file.rename(aside / file.name)
    return aside


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[Any, ...]]:
    return {name: (t.dtype, *t.shape) for name, t in tensors.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
