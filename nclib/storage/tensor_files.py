"""Parts of a safetensors file, read where they lie: neither the whole file nor a map of it enters memory.

A map would count as memory of the process, and one whose file is cut meanwhile ends it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from nclib.storage.files import Damaged, checksum_of_pieces, read_header, storage_errors, wrong_checksum

DTYPES = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8"), "U8": np.dtype("u1")}  # all of a feature file
PIECE = 2**24  # bytes that are hashed at a time


class _Place(NamedTuple):
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int  # byte in the file

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])


class TensorFile:
    """A safetensors file of ``write_tensors``, open for parts of it.

    Parameters
    ----------
    path : of the file; only its header is read.

    Attributes
    ----------
    shapes : of the tensors, by name.
    metadata : of the file.

    Raises
    ------
    Damaged : no header of safetensors, a tensor that reaches beyond the file, a type other than ``DTYPES``.
    StoreError : a file that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        header, first = read_header(path)
        self.metadata = header.pop("__metadata__", {})
        with storage_errors(path, "read"):
            size = path.stat().st_size
        try:
            self._places = {name: _place(entry, first, size) for name, entry in header.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise Damaged(f"{path} is damaged or of another kind ({error!r:.200}).") from error
        self.shapes = {name: place.shape for name, place in self._places.items()}

    def rows(self, name: str, spans: Iterable[tuple[int, int]] | None = None) -> np.ndarray:
        """Rows of a tensor from start to stop, for each of the spans, joined; all rows if none are given."""
        place = self._places[name]
        spans = [(0, place.shape[0])] if spans is None else list(spans)
        found = np.empty((sum(stop - start for start, stop in spans), *place.shape[1:]), place.dtype)
        free = found.reshape(-1).view(np.uint8)
        with storage_errors(self.path, "read"), self.path.open("rb") as file:
            for start, stop in spans:
                file.seek(place.start + start * place.row)
                length = (stop - start) * place.row
                if file.readinto(free[:length]) != length:
                    raise Damaged(f"{self.path} is damaged: it is shorter than its header says.")
                free = free[length:]
        return found

    def verify(self) -> None:
        """Read the file once and compare its checksum. Raises Damaged where it is another."""
        parts = (
            (name, torch.from_numpy(np.empty(0, place.dtype)).dtype, place.shape, self._pieces(name))
            for name, place in sorted(self._places.items())
        )
        if self.metadata.get("checksum") != checksum_of_pieces(parts, self.metadata):
            raise wrong_checksum(self.path)

    def _pieces(self, name: str) -> Iterator[np.ndarray]:
        """The bytes of a tensor."""
        place = self._places[name]
        step = max(1, PIECE // max(1, place.row))
        for start in range(0, place.shape[0], step):
            yield self.rows(name, [(start, min(start + step, place.shape[0]))]).reshape(-1).view(np.uint8)


def _place(entry: Any, first: int, size: int) -> _Place:
    """What a header says of a tensor; ValueError, KeyError or TypeError where it cannot be."""
    dtype, shape = DTYPES[entry["dtype"]], tuple(map(int, entry["shape"]))
    start, stop = map(int, entry["data_offsets"])
    if not shape or min(shape) < 0 or start < 0 or stop - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"a tensor of shape {shape} in bytes {start} to {stop}")
    if first + stop > size:
        raise ValueError(f"it should have {first + stop} bytes and has {size}")
    return _Place(dtype, shape, first + start)
