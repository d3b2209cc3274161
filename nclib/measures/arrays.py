"""What the measures accept: features and labels, numpy or torch, on any device, checked once.

Features keep their own precision, so that checking them costs no memory; measures read them through
``float64_rows``, a few megabytes of float64 at a time, and in parallel through ``of_parts``.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike as NumpyLike
from torch import Tensor

ArrayLike = NumpyLike | Tensor
T = TypeVar("T")
CHUNK = 2**18  # float64 numbers in flight: 2 MB, which stays in a processor's cache
PART = 16 * CHUNK  # numbers that are worth a thread of their own
LARGEST = 1e60  # feature, beyond all of float32
SPARSE = 2**15  # class numbers that few samples may have: more than any data set's classes
MOST_CLASSES = 2**24  # that may be asked for
NUMBERED = "names, y = numpy.unique(labels, return_inverse=True)"  # remedy for labels that are no 0, 1, ...
SEEDS = (0, 2**32 - 1)  # what every generator of numpy, torch and scikit-learn takes


class PrecisionWarning(UserWarning):
    """Features are rounded too coarsely: ``subpopulations`` and ``save_features`` say when."""


def as_tensor(values: ArrayLike) -> Tensor:
    """The values as a tensor without gradient, sharing memory wherever numpy and torch can.

    Raises TypeError for what holds no numbers, and for tensors whose numbers do not lie in memory.
    """
    if isinstance(values, Tensor):
        if values.layout is not torch.strided or values.is_meta:
            raise TypeError(f"expected a dense tensor with values; got {values.layout} on {values.device}")
        return values.detach().cpu() if values.device.type == "mps" else values.detach()  # no float64 there
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise TypeError("expected numbers without a mask; leave the rows with masked ones out")
    array = np.asarray(values, order="C")
    if array.dtype.kind not in "biufc":
        raise TypeError(f"expected numbers; got {type(values).__name__}, an array of type {array.dtype}")
    if min(array.strides, default=0) < 0:  # a single row counts as contiguous, either way round
        array = array.copy()
    if array.dtype.kind == "f" and array.itemsize > 8:  # numpy's long double
        array = array.astype(np.float64)
    known = np.dtype(f"{array.dtype.kind}{array.dtype.itemsize}")  # in this machine's order of bytes
    with warnings.catch_warnings():  # a read-only memory map is welcome: nothing here writes to it
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array.astype(known, copy=False).view(known))  # torch knows one C type a size


def as_whole(value: object, name: str, low: int, high: int | None = None) -> int:
    """A whole number of Python, numpy or torch from ``low`` to ``high``; ValueError for any other value."""
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        span = f"{low} or more" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name}={value!r}: expected a whole number, {span}")
    return number


def as_features(h: ArrayLike, name: str = "features", largest: float = LARGEST) -> Tensor:
    """Check features; floating dtypes stay as they are, anything else becomes float64.

    Parameters
    ----------
    h : (N, D) features, numpy or torch, any device.
    name : what an error message calls them.
    largest : absolute value; sums of fourth powers of ``LARGEST`` fit into float64.

    Returns
    -------
    (N, D) floating tensor on the device of ``h``, no copy if it was one already.

    Raises
    ------
    ValueError : not a real (N, D) array, empty, not finite (naming the first bad row), or too large.
    TypeError : no numbers.
    """
    h = as_tensor(h)
    if h.ndim != 2 or h.numel() == 0 or h.is_complex():
        got = f"{h.dtype} {tuple(h.shape)}"
        raise ValueError(f"{name} must be a real (N, D) array, not empty; got {got}")
    if not h.is_floating_point() or h.itemsize == 1:  # torch computes little in floats of one byte
        h = h.to(torch.float64)
    low, high = torch.aminmax(h)  # carries NaN along; unlike isfinite(h) it allocates nothing
    if not (torch.isfinite(low) and torch.isfinite(high)):
        row = int((~torch.isfinite(h)).any(dim=1).nonzero()[0])
        raise ValueError(f"{name} must be finite; row {row} is the first that is not")
    reach = max(-float(low), float(high))
    if reach > largest:
        raise ValueError(f"{name} reach {reach:.3g}; divide them by a constant to be {largest:.0e} at most")
    return h


def as_vector(values: ArrayLike, name: str, n: int) -> Tensor:
    """A finite real vector (n,), float64 but on its own device. Raises ValueError for any other array."""
    values = as_tensor(values)
    if values.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},); got {tuple(values.shape)}")
    return as_features(values[None], name).to(torch.float64)[0]


def as_labels(y: ArrayLike, n: int | None = None, num_classes: int | None = None) -> Tensor:
    """Check class labels.

    Parameters
    ----------
    y : (N,) labels: integers, or whole numbers in any other real dtype; false and true are 0 and 1.
    n : the number of samples that they must belong to, if known.
    num_classes : C, if labels must lie in [0, C). Else they must be below 2**15 or 2 N, whichever is more:
        what follows allocates memory for every class number, used or not.

    Returns
    -------
    (N,) int64 tensor on the device of ``y``.

    Raises
    ------
    ValueError : wrong shape or length, none at all, a label that is no integer, is negative or too large.
    TypeError : no numbers.
    """
    try:
        y = as_tensor(y)
    except TypeError as error:
        if isinstance(y, Tensor):
            raise
        raise TypeError(f"{error} as labels; if they are names, number them: {NUMBERED}") from None
    if y.ndim != 1 or (n is not None and len(y) != n):
        expected = "(N,)" if n is None else f"({n},), one per sample"
        raise ValueError(f"labels must have shape {expected}; got {tuple(y.shape)}")
    if len(y) == 0 or y.is_complex():
        raise ValueError(f"labels must be integers, one at least; got {len(y)} of type {y.dtype}")
    labels = y.to(torch.int64)
    if y.is_floating_point():
        _forbid(labels.to(torch.float64) != y.to(torch.float64), y, "labels must be integers")
    if y.dtype == torch.uint64:
        _forbid(labels < 0, y, "labels must be below 2**63")  # there int64 begins anew
    _forbid(labels < 0, y, "labels must not be negative")
    if num_classes is None:
        most = max(SPARSE, 2 * len(y))
        rule = f"labels of {len(y)} samples must be below {most}: number the classes 0, 1, ... without gaps"
        _forbid(labels >= most, y, rule)
    else:
        _forbid(labels >= num_classes, y, f"labels must be below the class count {num_classes}")
    return labels


def as_samples(h: ArrayLike, y: ArrayLike, num_classes: int | None = None) -> tuple[Tensor, Tensor, int]:
    """Features (N, D), their labels (N,) on the same device, and C.

    C is the largest label plus one unless it is given. Raises what ``as_features`` and ``as_labels`` raise.
    """
    h = as_features(h)
    if num_classes is not None:
        num_classes = as_whole(num_classes, "num_classes", 1, MOST_CLASSES)
    y = as_labels(y, len(h), num_classes).to(h.device)
    return h, y, int(y.max()) + 1 if num_classes is None else num_classes


def float64_rows(h: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Walk over (N, D) features in order: which rows, and their float64 values.

    The values are to be read at once and not to be written: one array holds those of every step,
    since fresh memory costs more than the conversion.
    """
    step = max(1, CHUNK // h.shape[1])
    buffer = h.new_empty(
        0 if h.dtype == torch.float64 else min(step, len(h)), h.shape[1], dtype=torch.float64
    )
    for start in range(0, len(h), step):
        x = h[start : start + step]
        yield slice(start, start + step), buffer[: len(x)].copy_(x) if len(buffer) else x


def of_parts(function: Callable[..., T], h: Tensor, *labels: Tensor, least: int = 0) -> list[T]:
    """Results of ``function`` for equal parts of (N, D) features and their (N,) labels, in order.

    Parameters
    ----------
    function : of the features, and the labels if given, of a part.
    h, labels : on a processor each of torch's threads gets a part, elsewhere there is one part.
    least : numbers that a part must have, say those of a large result; ``PART`` at least.

    Notes
    -----
    A chunk is too small for torch to share out among threads, a part is not. The parts depend on the
    number of threads only, so that results, added in order, do not depend on timing.
    """
    threads = torch.get_num_threads()
    count = min(threads, h.numel() // max(least, PART)) if h.device.type == "cpu" else 1
    if count < 2:
        return [function(h, *labels)]
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, *(rows.tensor_split(count) for rows in (h, *labels))))
    finally:
        torch.set_num_threads(threads)  # the threads above set what new threads start with


def rows_by_class(labels: np.ndarray, num_classes: int) -> list[np.ndarray]:
    """Ascending rows of every class, of (N,) labels in [0, num_classes); the labels are read once."""
    ends = np.cumsum(np.bincount(labels, minlength=num_classes))
    return np.split(np.argsort(labels, kind="stable"), ends[:-1])


def _forbid(bad: Tensor, y: Tensor, rule: str) -> None:
    if bad.any():
        position = int(bad.nonzero()[0])
        raise ValueError(f"{rule}; label {position} is {y[position].item()}")


def as_images(images: ArrayLike) -> Tensor:
    """Images (N, C, H, W) uint8, at least one, as a tensor. Raises ValueError for any others."""
    images = as_tensor(images)
    if images.ndim != 4 or images.dtype != torch.uint8 or images.numel() == 0:
        got = f"{images.dtype} {tuple(images.shape)}"
        raise ValueError(f"images must be (N, C, H, W) uint8, not empty; got {got}")
    return images
