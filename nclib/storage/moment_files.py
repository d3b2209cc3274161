"""Class moments in files: jobs write those of their part of the data, and one joins them.

nclib.save_moments("moments/0003.safetensors", nclib.FeatureShards(file).moments(num_classes=1000))
nclib.load_moments("moments").summary()
"""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import torch

from nclib.errors import DataError
from nclib.measures.moments import ClassMoments
from nclib.storage.feature_files import refuse_newer
from nclib.storage.files import read_tensors, write_tensors
from nclib.storage.shards import ENDING, Files, files_of

FORMAT = "nclib-class-moments"
VERSION = 1


def save_moments(path: str | Path, moments: ClassMoments) -> None:
    """Write class moments into a .safetensors file, whole or not at all, with every digit.

    Raises
    ------
    TypeError : no ``ClassMoments``.
    DataError : another ending.
    StoreError : a file that cannot be written.
    """
    if not isinstance(moments, ClassMoments):
        raise TypeError(f"only ClassMoments are saved; got {type(moments).__name__}")
    path = Path(path)
    if path.suffix.lower() != ENDING:
        raise DataError(f"cannot write {path}: its ending must be {ENDING}")
    tensors = {name.strip("_"): tensor for name, tensor in vars(moments).items()}
    write_tensors(path, tensors, {"format": FORMAT, "version": str(VERSION)})


def load_moments(files: Files) -> ClassMoments:
    """Read class moments and merge them in the order of the files.

    Parameters
    ----------
    files : a file of ``save_moments``, a list of them, or a folder, of which all .safetensors files are
        taken in the order of their names.

    Returns
    -------
    ClassMoments, on the CPU: of all samples, as if one pass had seen them. Merged in another order they
    differ by rounding only.

    Raises
    ------
    DataError : no file, one that holds no class moments, or those of other (C, D) than the first has.
    StoreError : a file that cannot be read or is damaged.
    """
    return reduce(_merged, files_of(files), None)


def _merged(whole: ClassMoments | None, path: Path) -> ClassMoments:
    part = _read(path)
    try:
        return part if whole is None else whole.merge(part)
    except ValueError as error:
        raise DataError(f"{path}: {error}; give each job the same num_classes") from error


def _read(path: Path) -> ClassMoments:
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise DataError(f"{path} holds no class moments: write it with nclib.save_moments")
    refuse_newer(path, metadata.get("version"), VERSION)
    try:
        num_classes, dim = tensors["means"].shape
        moments = ClassMoments(num_classes, dim)
        for name, own in vars(moments).items():
            found = tensors[name.strip("_")]
            if found.shape != own.shape or found.dtype != own.dtype or not torch.isfinite(found).all():
                raise ValueError(f"{name.strip('_')} are {found.dtype} {tuple(found.shape)}, or not finite")
            own.copy_(found)
        if (moments.counts < 0).any():
            raise ValueError("a count is negative")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged or of another kind: {error}") from error
    return moments
