"""Features larger than memory: feature files that together hold one data set, read a block at a time.

nclib.save_features("features/0003.safetensors", f.h, f.fine)     # by each of many jobs, its part
shards = nclib.FeatureShards("features")
shards.moments().summary()                                        # of all samples, in one pass
shards.sample(10_000, seed=0).h                                   # (10000, D), for t-SNE and clustering
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from nclib.errors import DataError
from nclib.measures.arrays import SEEDS, as_labels, as_whole
from nclib.measures.moments import ClassMoments
from nclib.storage.feature_files import LabelledFeatures, check_format, checked, from_bytes
from nclib.storage.files import read_metadata, storage_errors
from nclib.storage.tensor_files import TensorFile

BLOCK = 2**24  # features in memory at a time: 64 MB
ENDING = ".safetensors"

Files = str | Path | Sequence[str | Path]


class FeatureShards:
    """Feature files that together hold one data set, of which a block at a time is in memory.

    Parameters
    ----------
    files : a folder, of which all .safetensors files are taken in the order of their names; a list of files
        in order; or a single file. ``save_features`` wrote them.

    Attributes
    ----------
    paths : (S,) the files in order.
    counts : (S,) samples of each; ``len`` is their sum N.
    dim : D.
    class_names : of all files, or None.

    Raises
    ------
    DataError : no file, one that is no feature file in .safetensors, one without samples, or one whose
        dimension, class names or number of logits are not those of the first; the message names it.
    StoreError : a file that cannot be read or is damaged.

    Notes
    -----
    Samples are numbered through all files in order. Where one file ends and the next begins does not change
    ``sample`` at all, and ``moments`` only by rounding in float64.
    """

    def __init__(self, files: Files) -> None:
        self.paths = files_of(files)
        self._files = [_opened(path) for path in self.paths]
        self.counts = [file.shapes["h"][0] for file in self._files]
        self.dim = self._files[0].shapes["h"][1]
        self.class_names = _class_names(self._files[0])
        for file in self._files[1:]:
            _forbid_difference(self._files[0], file)
        self._optional = {"logits", "ids"}.intersection(*(file.shapes for file in self._files))

    def __len__(self) -> int:
        return sum(self.counts)

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Walk over all samples in order: features (n, D) float32 and labels (n,) int64, 64 MB at a time.

        The checksum of a file is compared before its first block.

        Raises
        ------
        DataError : labels below 0.
        StoreError : a file that is damaged.
        """
        for _, h, y in self._blocks():
            yield h, y

    def moments(self, num_classes: int | None = None) -> ClassMoments:
        """Moments of all samples, in (C + D) D numbers.

        Parameters
        ----------
        num_classes : C, by default one more than the largest label. Jobs whose moments are to be merged give
            it, as a part of the data may lack the last class.

        Raises
        ------
        DataError : features that are not finite, or labels not in [0, C); the message names file and rows.
        ValueError : a number of classes that ``ClassMoments`` refuses.
        StoreError : a file that is damaged.
        """
        if num_classes is None:
            num_classes = 1 + max(int(_labels(file).max()) for file in self._files)
        moments = ClassMoments(num_classes, self.dim)
        for place, h, y in self._blocks():
            try:
                moments.update(h, y)
            except ValueError as error:
                raise DataError(f"{place}: {error}") from error
        return moments

    def sample(self, count: int, seed: int = 0, per_class: bool = False) -> LabelledFeatures:
        """Draw samples without replacement: every subset of that size is equally likely.

        Parameters
        ----------
        count : of samples; with ``per_class`` of each class. All, where there are fewer.
        seed : of the draw.
        per_class : whether to draw from every class by itself.

        Returns
        -------
        LabelledFeatures, in the order of the files; logits and ids where all files have them.

        Raises
        ------
        ValueError : a count below 1, a seed out of range.
        DataError : drawn features that are not finite, labels below 0.
        StoreError : a file that cannot be read.

        Notes
        -----
        Only labels and drawn rows are read, so that no checksum is compared.
        """
        count, seed = as_whole(count, "count", 1), as_whole(seed, "seed", *SEEDS)

        def strata() -> Iterator[np.ndarray]:
            """Of each file, numbers of the groups to draw from."""
            for file, size in zip(self._files, self.counts, strict=True):
                yield _labels(file) if per_class else np.zeros(size, np.int64)

        drawn = zip(self._files, _draw(strata, count, seed), strict=True)
        parts = [_taken(file, rows, self._optional) for file, rows in drawn if len(rows)]
        h, y, logits, ids, _ = zip(*parts, strict=True)
        return LabelledFeatures(
            np.concatenate(h),
            np.concatenate(y),
            np.concatenate(logits) if "logits" in self._optional else None,
            tuple(chain.from_iterable(ids)) if "ids" in self._optional else None,
            self.class_names,
        )

    def _blocks(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """``blocks``, and the name of each for messages."""
        step = max(1, BLOCK // self.dim)
        for file, size in zip(self._files, self.counts, strict=True):
            file.verify()
            y = _labels(file)
            for start in range(0, size, step):
                stop = min(start + step, size)
                place = f"{file.path}, rows {start} to {stop - 1}"
                yield place, file.rows("h", [(start, stop)]), y[start:stop]


def files_of(files: Files) -> list[Path]:
    """Paths of a folder's .safetensors files by name, of a list, or of one file. DataError where none is."""
    if not isinstance(files, str | Path):
        paths = [Path(file) for file in files]
    else:
        with storage_errors(given := Path(files), "read"):
            paths = sorted(given.iterdir()) if given.is_dir() else [given]
            if given.suffix.lower() != ENDING and not given.exists():
                raise DataError(f"there is no file or folder {given}")
        paths = [path for path in paths if path.suffix.lower() == ENDING or path == given]
    if not paths:
        raise DataError(f"there is no {ENDING} file in {files}")
    return paths


def _opened(path: Path) -> TensorFile:
    """A feature file whose header is as it should be."""
    if path.suffix.lower() != ENDING:
        raise DataError(f"{path}: only {ENDING} is read a block at a time; write it with nclib.save_features")
    check_format(path, read_metadata(path))  # before the types of tensors, which others may have too
    file = TensorFile(path)
    shape = file.shapes.get("h", ())
    if len(shape) != 2 or 0 in shape:
        raise DataError(f"{path}: features must be (N, D), not empty; got {shape}")
    ends = {"ids_ends"} if "ids" in file.shapes else set()
    for name in sorted({"y"} | ({"logits"} & file.shapes.keys()) | ends):
        if (found := file.shapes.get(name, ()))[:1] != shape[:1]:
            raise DataError(f"{path}: {name} must have {shape[0]} rows, as many as h; its shape is {found}")
    return file


def _labels(file: TensorFile) -> np.ndarray:
    """All labels of a file (N,), int64."""
    try:
        return as_labels(file.rows("y")).numpy()
    except ValueError as error:
        raise DataError(f"{file.path}: {error}") from error


def _class_names(file: TensorFile) -> tuple[str, ...] | None:
    if "class_names" not in file.shapes:
        return None
    parts = {name: file.rows(name) for name in ("class_names", "class_names_ends") if name in file.shapes}
    return tuple(from_bytes(file.path, "class_names", parts))


def _forbid_difference(first: TensorFile, file: TensorFile) -> None:
    """Raise DataError where two files cannot be parts of one data set."""
    for name in ("h", "logits"):
        one, other = (each.shapes.get(name, (0,))[1:] for each in (first, file))
        if one and other and one != other:
            raise DataError(f"{file.path} has {name} of dimension {other[0]}, {first.path} of {one[0]}")
    if _class_names(first) != _class_names(file):
        raise DataError(f"{file.path} and {first.path} have different class names")


def _taken(file: TensorFile, rows: np.ndarray, optional: set[str]) -> LabelledFeatures:
    """Some rows of a feature file, with logits and ids if they are asked for, checked as a whole file is."""
    spans = [(row, row + 1) for row in rows.tolist()]
    parts = {
        name: _ids(file, rows) if name == "ids" else file.rows(name, spans) for name in {"h", "y"} | optional
    }
    return checked(f"{file.path}, rows drawn", parts)


def _ids(file: TensorFile, rows: np.ndarray) -> list[str]:
    """Names of some rows of a feature file."""
    ends = file.rows("ids_ends")
    lengths = np.diff(ends, prepend=0)
    if lengths.min() < 0 or (ends[-1],) != file.shapes["ids"]:
        raise DataError(f"{file.path}: its ids cannot be read")
    spans = zip((ends - lengths)[rows].tolist(), ends[rows].tolist(), strict=True)
    content = {"ids": file.rows("ids", spans), "ids_ends": np.cumsum(lengths[rows])}
    return from_bytes(file.path, "ids", content)


def _draw(strata: Callable[[], Iterable[np.ndarray]], count: int, seed: int) -> Iterator[np.ndarray]:
    """Which rows of each file to take, so that there are ``count`` of every stratum.

    Parameters
    ----------
    strata : gives, file by file, the stratum (n,) of every row, from 0 on. Called twice.

    Notes
    -----
    Members of a stratum are numbered through all files, and strata one after another. Numbers are drawn, and
    then looked for, so that nothing depends on how rows are shared out among files.
    """
    sizes = np.zeros(0, np.int64)
    for numbers in strata():
        found = np.bincount(numbers, minlength=len(sizes))
        found[: len(sizes)] += sizes
        sizes = found
    following = np.cumsum(sizes) - sizes  # number of the next member of each stratum
    drawn = [
        first + np.random.default_rng([seed, g]).choice(size, min(count, size), replace=False)
        for g, (first, size) in enumerate(zip(following, sizes, strict=True))
    ]
    chosen = np.concatenate(drawn)
    for numbers in strata():
        order = np.argsort(numbers, kind="stable")  # members of each stratum together
        found = np.bincount(numbers, minlength=len(sizes))
        number = np.arange(len(order)) + np.repeat(following - (np.cumsum(found) - found), found)
        yield np.sort(order[np.isin(number, chosen)])
        following += found
