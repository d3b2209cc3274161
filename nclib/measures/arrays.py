"""What the measures accept: features and labels, numpy or torch, on any device, checked once.

Features keep their own precision, so that checking them costs no memory; measures read them through
``float64_rows``, a few megabytes of float64 at a time, and in parallel through ``of_parts``.
"""

from __future__ import annotations

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


def as_tensor(values: ArrayLike) -> Tensor:
    """The values as a tensor without gradient, sharing memory wherever numpy and torch can."""
    if isinstance(values, Tensor):
        return values.detach()
    array = np.ascontiguousarray(values)
    with warnings.catch_warnings():  # a read-only memory map is welcome: nothing here writes to it
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def as_features(h: ArrayLike, name: str = "features") -> Tensor:
    """Check features; floating dtypes stay as they are, anything else becomes float64.

    Parameters
    ----------
    h : (N, D) features, numpy or torch, any device.
    name : what an error message calls them.

    Returns
    -------
    (N, D) floating tensor on the device of ``h``, no copy if it was one already.

    Raises
    ------
    ValueError : not a real (N, D) array, empty, or not finite (naming the first bad row).
    """
    h = as_tensor(h)
    if h.ndim != 2 or h.numel() == 0 or h.is_complex():
        got = f"{h.dtype} {tuple(h.shape)}"
        raise ValueError(f"{name} must be a real (N, D) array, not empty; got {got}")
    if not h.is_floating_point():
        h = h.to(torch.float64)
    low, high = torch.aminmax(h)  # carries NaN along; unlike isfinite(h) it allocates nothing
    if not (torch.isfinite(low) and torch.isfinite(high)):
        row = int((~torch.isfinite(h)).any(dim=1).nonzero()[0])
        raise ValueError(f"{name} must be finite; row {row} is the first that is not")
    return h


def as_labels(y: ArrayLike, n: int | None = None, num_classes: int | None = None) -> Tensor:
    """Check class labels.

    Parameters
    ----------
    y : (N,) labels, integers in any dtype.
    n : the number of samples that they must belong to, if known.
    num_classes : C, if labels must lie in [0, C).

    Returns
    -------
    (N,) int64 tensor on the device of ``y``.

    Raises
    ------
    ValueError : wrong shape or length, a label that is no integer, is negative or is not below C.
    """
    y = as_tensor(y)
    if y.ndim != 1 or (n is not None and len(y) != n):
        expected = "(N,)" if n is None else f"({n},), one per sample"
        raise ValueError(f"labels must have shape {expected}; got {tuple(y.shape)}")
    labels = y.to(torch.int64)
    _forbid(labels != y, y, "labels must be integers")
    _forbid(labels < 0, y, "labels must not be negative")
    if num_classes is not None:
        _forbid(labels >= num_classes, y, f"labels must be below the class count {num_classes}")
    return labels


def as_samples(h: ArrayLike, y: ArrayLike, num_classes: int | None = None) -> tuple[Tensor, Tensor, int]:
    """Features (N, D), their labels (N,) on the same device, and C.

    C is the largest label plus one unless it is given. Raises what the two functions above raise.
    """
    h = as_features(h)
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


def _forbid(bad: Tensor, y: Tensor, rule: str) -> None:
    if bad.any():
        position = int(bad.nonzero()[0])
        raise ValueError(f"{rule}; label {position} is {y[position].item()}")
