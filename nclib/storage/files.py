"""Files that are either whole or not there: written beside their place, synced, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from nclib.errors import StoreError

PLAIN_LIST = re.compile(r"\[\n\s+([^\[\]{}]*?)\n\s*\]")  # in indented JSON


class Damaged(StoreError):
    """A file that is not what was written."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: its content is on the disk before it takes its place.

    Raises
    ------
    StoreError : a full disk, a read-only folder; nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.{os.urandom(8).hex()}.partial")  # of this one write alone
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:  # an interrupt too
            partial.unlink(missing_ok=True)
            raise


def epoch_file(part: str, epoch: int) -> str:
    """Name of the file that holds a part of a run, such as its "weights", as it was after an epoch."""
    return f"{part}-{epoch:05d}.safetensors"


def write_json(path: Path, value: Any) -> None:
    """Write JSON that a person can read."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """JSON that a person can read, a list of plain values on one line.

    Raises
    ------
    ValueError : numbers that are not finite.
    """
    text = json.dumps(value, indent=1, allow_nan=False)  # a line break in a string is written as \\n
    return (PLAIN_LIST.sub(_on_one_line, text) + "\n").encode()


def _on_one_line(plain: re.Match[str]) -> str:
    return "[" + re.sub(r"\n\s+", " ", plain[1]) + "]"


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, with a checksum of them and of all metadata among the metadata."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = metadata or {}
    metadata = metadata | {"checksum": checksum(tensors, metadata)}
    # save() and not save_file(): a failed write is then an OSError that says why
    write_bytes(path, safetensors.torch.save(tensors, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises
    ------
    Damaged : a file that is no longer safetensors, or holds other tensors or metadata than were written.
    StoreError : a file that cannot be read.
    """
    with storage_errors(path, "read"):
        content = path.read_bytes()  # once: a file that is replaced meanwhile is read whole, old or new
    try:
        tensors = safetensors.torch.load(content)
    except SafetensorError as error:
        raise Damaged(f"{path} is damaged ({error}). Delete it and try again.") from error
    header = _header(path, content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = header.get("__metadata__", {})
    if metadata.get("checksum") != checksum(tensors, metadata):
        raise wrong_checksum(path)
    return tensors, metadata


def wrong_checksum(path: Path) -> Damaged:
    return Damaged(f"{path} is damaged: its checksum is wrong. Delete it and try again.")


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata of a safetensors file, without its tensors; no checksum is compared.

    Raises
    ------
    Damaged : a file whose header is no longer that of safetensors.
    StoreError : a file that cannot be read.
    """
    return read_header(path)[0].get("__metadata__", {})


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, unchecked, and the byte at which its tensors begin.

    Raises what ``read_metadata`` raises.
    """
    with storage_errors(path, "read"), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(min(length, path.stat().st_size))
    return _header(path, header), 8 + length


def _header(path: Path, header: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(header).items())
    except (ValueError, AttributeError, RecursionError) as error:  # no JSON, no object, or "[[[..."
        raise Damaged(f"{path} is damaged: its header cannot be read. Delete it and try again.") from error


def checksum(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> str:
    """SHA-256 of contiguous CPU tensors, their names and the metadata but "checksum", in hexadecimal."""
    parts = (
        (name, tensor.dtype, tuple(tensor.shape), [_bytes(tensor)])
        for name, tensor in sorted(tensors.items())
    )
    return checksum_of_pieces(parts, metadata or {})


def _bytes(tensor: Tensor) -> Any:
    """The bytes of a contiguous CPU tensor. A single number may be one with any stride."""
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy()


def checksum_of_pieces(
    parts: Iterable[tuple[str, torch.dtype, tuple[int, ...], Iterable[Any]]], metadata: dict[str, str]
) -> str:
    """``checksum`` of tensors in the order of their names: name, dtype, shape, and the bytes in pieces."""
    digest = hashlib.sha256()
    for name, dtype, shape, pieces in parts:
        digest.update(f"{name} {dtype} {shape}\n".encode())
        for piece in pieces:
            digest.update(piece)
    said = {name: text for name, text in metadata.items() if name != "checksum"}
    if said:  # files without any keep the checksum that they always had
        digest.update(json.dumps(said, sort_keys=True).encode())
    return digest.hexdigest()


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or where the file system has no hard links make a copy."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises
    ------
    StoreError : a file that cannot be read.
    """
    with storage_errors(path, "read"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


REFUSED = {  # what can be done about the operating system's refusal to do it
    "read": "Make it readable for this user, or set NCLIB_HOME to another folder.",
    "write": (
        "Choose another place, or for the store set NCLIB_HOME to a folder that can be written; "
        "nothing that was stored before is lost."
    ),
    "delete": "Make it writable for this user, or leave it to its owner.",
}
FULL = (
    "Free some space there, or for the store set NCLIB_HOME to a folder elsewhere; "
    "nothing that was stored before is lost."
)
BECAUSE = {  # likewise, where the reason tells
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL,
    errno.EISDIR: "It is a folder: name a file in it.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


@contextmanager
def storage_errors(path: Path, action: str = "write") -> Iterator[None]:
    """Turn the operating system's refusal of an action in ``REFUSED`` into a ``StoreError`` with advice."""
    try:
        yield
    except OSError as error:
        reason, advice = error.strerror or error, BECAUSE.get(error.errno, REFUSED[action])
        if isinstance(error, FileNotFoundError) and action != "write":
            advice = ""
        raise StoreError(f"cannot {action} {path}: {reason}. {advice}".rstrip()) from error
