"""Features of any model in one file, with their labels: written and read without pickle.

f = nclib.extract(model, loader)
nclib.save_features("features.safetensors", f.h, f.fine, f.logits())
nclib.load_features("features.safetensors").h          # (N, D) float32
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from nclib.errors import DataError
from nclib.measures.arrays import ArrayLike, PrecisionWarning, as_labels, as_tensor, float64_rows
from nclib.storage.files import read_metadata, read_tensors, storage_errors, write_bytes, write_tensors

FORMAT = "nclib-features"  # in the metadata of .safetensors
VERSION = 1  # of what a file holds; a reader refuses newer ones
LONGEST_VERSION = 9  # digits
ROUNDING = 0.01  # of a feature's standard deviation that float32 may change it by, root mean square
WIDEST = 2**28  # bytes that texts may fill in .npz, where each has the room of the longest


class LabelledFeatures(NamedTuple):
    """What a feature file holds.

    Attributes
    ----------
    h : (N, D) float32 features.
    y : (N,) int64 labels from 0 on, of the classes that the model was trained on.
    logits : (N, C) float32 outputs of the model, C above every label; or None.
    ids : N names of the samples, such as those of image files; or None.
    class_names : names of the classes, one for each label at least; or None.
    """

    h: np.ndarray
    y: np.ndarray
    logits: np.ndarray | None = None
    ids: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None


def save_features(
    path: str | Path,
    h: ArrayLike,
    y: ArrayLike,
    logits: ArrayLike | None = None,
    ids: Sequence[Any] | None = None,
    class_names: Sequence[str] | None = None,
) -> None:
    """Write features, labels and what is known of the samples into one file, whole or not at all.

    Parameters
    ----------
    path : ends in .safetensors, with a checksum, or in .npz, which numpy reads.
    h : (N, D) features; written in float32.
    y : (N,) labels of the classes that the model was trained on, whole numbers from 0 on.
    logits : (N, C) outputs of the model.
    ids : N names of the samples.
    class_names : names of the classes, one for each label at least.

    Raises
    ------
    DataError : arrays of other shapes or lengths, values that are not finite in float32, labels that are no
        whole numbers from 0 on, another ending.
    StoreError : a file that cannot be written.

    Warns
    -----
    PrecisionWarning, a UserWarning : float32 rounds a feature by more than 1 % of its standard deviation, as
        float64 features far from the origin.
    """
    path = Path(path)
    writer = _of_ending(path, WRITERS, "cannot write")
    given = {"h": h, "y": y, "logits": logits, "ids": ids, "class_names": class_names}
    writer(path, checked(path, {name: part for name, part in given.items() if part is not None}))


def load_features(path: str | Path, labels: str | Path | None = None) -> LabelledFeatures:
    """Read a feature file.

    Parameters
    ----------
    path : .safetensors of ``save_features``; .npz with arrays named as its parameters, h and y at least;
        .npy with (N, D) features; or .parquet, where pandas can read it, with a column y of labels, perhaps
        a column id of names, and the features in a column h of lists or else in all other columns.
    labels : an .npy file of (N,) labels, for a file that has none or instead of its own.

    Returns
    -------
    LabelledFeatures.

    Raises
    ------
    DataError : no such format, one of a newer version, an array that is missing, empty, or of another shape
        or length, values that are not finite, pickled objects, a damaged file.
    StoreError : a file that cannot be read.

    Warns
    -----
    UserWarning : an .npz with h and with arrays of other names than those known, which are not read.
    PrecisionWarning, a UserWarning : as ``save_features``.

    Notes
    -----
    Nothing in a file is executed: neither pickled objects nor code.
    """
    path = Path(path)
    parts = _of_ending(path, READERS, "cannot read")(path)
    if labels is not None:
        parts["y"] = _read_npy(Path(labels))["h"]
    if "h" in parts and "y" not in parts:
        raise DataError(
            f"{path} has no labels: give them as a second file, an .npy of (N,) whole numbers "
            "(nclib report: --labels FILE.npy)"
        )
    return checked(path if labels is None else f"{path} with the labels of {labels}", parts)


def _of_ending(path: Path, functions: Mapping[str, Callable], action: str) -> Callable:
    try:
        return functions[path.suffix.lower()]
    except KeyError:
        known = ", ".join(functions)
        raise DataError(f"{action} {path}: its ending must be one of {known}") from None


def checked(path: str | Path, parts: Mapping[str, Any]) -> LabelledFeatures:
    """Parts of a file as they should be; the DataError for others names the file."""
    try:
        for name, content in (("h", "features"), ("y", "labels")):
            if name not in parts:
                called = "arrays must be called h, the features, and y, the labels"
                raise ValueError(f"it has no array {name} of {content}: {called}")
        if nested := [name for name, part in parts.items() if isinstance(part, Tensor) and part.is_nested]:
            raise ValueError(f"{nested[0]} is a nested tensor; give one array with all samples")
        h = _matrix(parts["h"], "h")
        _warn_of_rounding(path, as_tensor(parts["h"]), h)
        y = as_labels(parts["y"], len(h)).cpu().numpy()
        logits = _matrix(parts["logits"], "logits") if "logits" in parts else None
        ids, names = (_texts(parts[name], name) if name in parts else None for name in ("ids", "class_names"))
        for name, part in (("logits", logits), ("ids", ids)):
            if part is not None and len(part) != len(h):
                raise ValueError(f"it has features of {len(h)} samples, and {name} of {len(part)}")
        known = {
            "outputs in logits": None if logits is None else logits.shape[1],
            "class_names": None if names is None else len(names),
        }
        for name, count in known.items():
            if count is not None and count <= y.max():
                raise ValueError(
                    f"label {y.max()} is beyond the {count} {name}: number the classes from 0 on"
                )
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: {error}") from error
    return LabelledFeatures(h, y, logits, ids, names)


def _matrix(values: ArrayLike, name: str) -> np.ndarray:
    """Finite (N, D) float32 numbers, not empty."""
    values = as_tensor(values)
    if values.ndim != 2 or values.numel() == 0 or values.is_complex():
        raise ValueError(
            f"{name} must be a real (N, D) array, not empty; got {values.dtype} {tuple(values.shape)}"
        )
    values = values.to("cpu", torch.float32)
    if not torch.isfinite(values).all():
        row = int((~torch.isfinite(values)).any(dim=1).nonzero()[0])
        raise ValueError(
            f"{name} must be finite in float32; row {row} is the first that is not: leave it out"
        )
    return values.contiguous().numpy()


def _warn_of_rounding(path: str | Path, h: Tensor, written: np.ndarray) -> None:
    """Warn if float32 has rounded features (N, D) so that less than two digits of their spread are left."""
    if h.dtype != torch.float64:
        return
    mean = h.mean(dim=0, dtype=torch.float64)
    errors, squares = torch.zeros_like(mean), torch.zeros_like(mean)  # (D,) sums
    for rows, x in float64_rows(h):
        errors += (x - torch.from_numpy(written[rows]).to(x)).square().sum(dim=0)
        squares += (x - mean).square().sum(dim=0)
    coarse = (errors > ROUNDING**2 * squares) & (h != h[0]).any(dim=0)
    if coarse.any():
        column = int(coarse.nonzero()[0])
        count, share = int(coarse.sum()), float((errors / squares).sqrt()[column])
        warnings.warn(
            f"{path}: float32 rounds {count} of {len(coarse)} features by more than {ROUNDING:.0%} of "
            f"their standard deviation, feature {column} by {share:.0%}: subtract the mean first",
            PrecisionWarning,
            stacklevel=4,
        )


def _texts(values: Iterable[Any], name: str) -> tuple[str, ...]:
    """Texts of names or numbers, without what UTF-8 cannot encode."""
    if isinstance(values, str | bytes) or np.ndim(values) != 1:
        raise ValueError(f"{name} must be a list of names; got {values!r:.80}")
    return tuple(_text(value).encode("utf-8", "replace").decode() for value in values)


def _text(value: Any) -> str:
    if isinstance(value, bytes):  # of arrays that hold bytes, too
        return value.decode("utf-8", "replace")
    return str(value.item() if isinstance(value, Tensor) else value)


def _write_safetensors(path: Path, features: LabelledFeatures) -> None:
    parts = features._asdict()
    tensors = {name: torch.from_numpy(part) for name, part in parts.items() if isinstance(part, np.ndarray)}
    for name in TEXTS:
        if parts[name] is not None:
            tensors |= _as_bytes(name, parts[name])
    write_tensors(path, tensors, {"format": FORMAT, "version": str(VERSION)})


def _read_safetensors(path: Path) -> dict[str, Any]:
    check_format(path, read_metadata(path))
    parts: dict[str, Any] = read_tensors(path)[0]
    return parts | {name: from_bytes(path, name, parts) for name in TEXTS if name in parts}


def check_format(path: Path, metadata: Any) -> None:
    """Raise DataError unless the metadata of a .safetensors file are those of a feature file."""
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise DataError(
            f"{path} is no feature file: write it with nclib.save_features, or read another ending"
        )
    refuse_newer(path, metadata.get("version"), VERSION)


def _as_bytes(name: str, texts: Sequence[str]) -> dict[str, Tensor]:
    """Texts as one array of bytes, and where each ends: safetensors holds numbers only."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([len(each) for each in encoded], dtype=np.int64)
    content = np.frombuffer(b"".join(encoded), np.uint8).copy()
    return {name: torch.from_numpy(content), f"{name}_ends": torch.from_numpy(ends)}


def from_bytes(path: Path, name: str, parts: Mapping[str, ArrayLike]) -> list[str]:
    """The inverse of ``_as_bytes``."""
    try:
        content, ends = np.asarray(parts[name]).tobytes(), parts[f"{name}_ends"].tolist()
        return [content[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: its {name} cannot be read ({error})") from error


def _write_npz(path: Path, features: LabelledFeatures) -> None:
    parts = {name: part for name, part in features._asdict().items() if part is not None}
    for name in TEXTS:
        if name in parts and 4 * len(parts[name]) * max(map(len, parts[name])) > WIDEST:
            raise DataError(f"cannot write {path}: its {name} are too long for this format; use .safetensors")
        if any(text.endswith("\0") for text in parts.get(name, ())):  # numpy pads texts with these
            raise DataError(f"cannot write {path}: one of its {name} ends in \\0; use .safetensors")
    buffer = io.BytesIO()
    np.savez(buffer, **{NPZ_VERSION: np.int64(VERSION)}, **parts)
    write_bytes(path, buffer.getvalue())


def _read_npz(path: Path) -> dict[str, Any]:
    with readable(path) as file:
        arrays = np.load(file, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise ValueError("it is a single array: rename it to .npy")
        names = list(arrays)
        parts = {name: arrays[name] for name in (NPZ_VERSION, *LabelledFeatures._fields) if name in arrays}
    refuse_newer(path, parts.pop(NPZ_VERSION, VERSION), VERSION)
    known = LabelledFeatures._fields
    unknown = [name for name in names if name not in (NPZ_VERSION, *known)]
    if unknown and "h" in parts:
        called = f"{', '.join(map(repr, unknown))!s:.200}"
        warnings.warn(f"{path}: not read: {called}; known are {', '.join(known)}", stacklevel=3)
    return parts


def _read_npy(path: Path) -> dict[str, Any]:
    with readable(path):
        # mapped: an array that claims to be larger than its file is refused before memory is taken
        return {"h": np.array(open_memmap(path, mode="r"))}


def _read_parquet(path: Path) -> dict[str, Any]:
    try:
        with readable(path):
            table = pd.read_parquet(path)
    except ImportError as error:
        raise DataError(f"{path}: pandas reads .parquet with pyarrow; install it, or save as .npz") from error
    parts = {name: table.pop(column) for column, name in PARQUET.items() if column in table}
    for name in ("h", "logits"):
        if name in parts:
            with readable(path):
                parts[name] = np.stack(list(parts[name]))
    if "h" not in parts:
        others = [name for name, kind in table.dtypes.items() if kind.kind not in "biuf"]
        if others:
            raise DataError(f"{path}: column {others[0]!r:.80} holds no numbers; leave it out, or name it id")
        parts["h"] = table.to_numpy(dtype=np.float64)
    return {name: np.asarray(part) for name, part in parts.items()}


def refuse_newer(path: Path, version: Any, newest: int) -> None:
    """Raise DataError if the version of a file's format is later than the newest that is known here."""
    if not str(version).isdecimal() or len(str(version)) > LONGEST_VERSION:
        raise DataError(f"{path}: version {version!r:.80} of the format is no number; write the file again")
    if int(version) > newest:
        raise DataError(
            f"{path} has version {version} of the format, this nclib reads up to {newest}: update it"
        )


@contextmanager
def readable(path: Path) -> Iterator[BinaryIO]:
    """The open file; whatever numpy and pandas raise on one that is not what it seems is a ``DataError``."""
    with storage_errors(path, "read"):
        file = path.open("rb")
    with file:
        try:
            yield file
        except ImportError:
            raise
        except Exception as error:  # parsers of damaged files have no common error
            reason = f"cannot be read as {path.suffix.lower()}, without pickled objects: {error!s:.200}"
            raise DataError(f"{path} {reason}") from error


TEXTS = ("ids", "class_names")
NPZ_VERSION = "nclib_features"  # the array of .npz that holds the format's version
PARQUET = {"h": "h", "y": "y", "logits": "logits", "id": "ids"}  # column: part
WRITERS = {".safetensors": _write_safetensors, ".npz": _write_npz}
READERS = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".parquet": _read_parquet,
}
