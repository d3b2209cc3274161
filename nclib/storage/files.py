"""Files that are either whole or not there: written beside their place, synced, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from nclib.errors import StoreError


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically and durably.

    Raises
    ------
    StoreError : a full disk, a read-only folder; nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise


def epoch_file(part: str, epoch: int) -> str:
    """Name of the file that holds a part of a run, such as its "weights", as it was after an epoch."""
    return f"{part}-{epoch:05d}.safetensors"


def write_json(path: Path, value: Any) -> None:
    """Write JSON that a person can read."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, with a checksum of them all among the metadata."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = (metadata or {}) | {"checksum": checksum(tensors)}
    # save() and not save_file(): a failed write is then an OSError that says why
    write_bytes(path, safetensors.torch.save(tensors, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises
    ------
    StoreError : a file that is no longer safetensors, or holds other tensors than were written.
    """
    content = path.read_bytes()  # once: a file that is replaced meanwhile is read whole, old or new
    try:
        tensors = safetensors.torch.load(content)
    except SafetensorError as error:
        raise StoreError(f"{path} is damaged ({error}). Delete it and try again.") from error
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = header.get("__metadata__", {})
    if metadata.get("checksum") != checksum(tensors):
        raise StoreError(f"{path} is damaged: its checksum is wrong. Delete it and try again.")
    return tensors, metadata


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata of a safetensors file, without its tensors; nothing is checked."""
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    return json.loads(header).get("__metadata__", {})


def checksum(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of contiguous CPU tensors and their names, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or where the file system has no hard links make a copy."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write into a ``StoreError`` that says what to do."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}. Free some space there, or set NCLIB_HOME "
            "to a folder that can be written; nothing that was stored before is lost."
        ) from error
