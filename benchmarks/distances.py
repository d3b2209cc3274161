"""Class distances and MSDR side by side with other ways to compute them: seconds, memory, digits.

    python -m benchmarks.distances [--repeats 9] [--output benchmarks/results/distances.json]

Methods take turns in one process; seconds are medians over the repeats, after one turn that is not
counted; the large size gets at most ``LARGE_REPEATS``. Peak memory is measured in a fresh process each:
the features plus what the resident set grew by, over the features. Errors are the largest of any entry of
the matrix relative to a float64 sum over all pairs of samples, on 600 samples; close pairs are a
millionth of their distance from the origin apart. Linux only. Two to three minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from benchmarks.measures import child, peak_bytes
from nclib.measures.distances import class_distances, distances_of, msdr
from nclib.measures.moments import Moments
from nclib.runs.provenance import provenance
from nclib.storage.files import write_json

ROOT = Path(__file__).parents[1]
SIZES = {"small": (50_000, 512, 10), "large": (50_000, 2_048, 1_000)}  # N, D, C
LARGE_REPEATS = 3
PAIRS_SIZE = (600, 16, 6)


def sample(n: int, dim: int, classes: int, close: bool = False) -> tuple[Tensor, Tensor]:
    """Gaussian classes, float32: features (N, D) and labels (N,)."""
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, dim, generator=rng)
    y = torch.arange(n) % classes
    h = torch.empty(n, dim)
    for rows, labels in zip(h.split(1_000), y.split(1_000), strict=True):  # no second array as large
        rows.normal_(generator=rng).add_(centres[labels])
    return (3 + 1e-6 * h if close else h), y


def expanded(h: Tensor, y: Tensor) -> Tensor:
    """Means and mean squared norms in the precision of the features, and inner products."""
    counts = torch.bincount(y).to(h.dtype)
    means = h.new_zeros(len(counts), h.shape[1]).index_add_(0, y, h) / counts[:, None]
    squares = h.new_zeros(len(counts)).index_add_(0, y, h.square().sum(dim=1)) / counts
    distances = squares[:, None] + squares[None, :] - 2 * means @ means.T
    distances.diagonal().mul_(counts / (counts - 1))
    return distances


METHODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nclib.class_distances": class_distances,
    "nclib.msdr": lambda h, y: msdr(h, y, y // 2),
    "from all moments": lambda h, y: distances_of(Moments.of(h, y)),
    "norms and inner products, float32": expanded,
    "norms and inner products, float64": lambda h, y: expanded(h.to(torch.float64), y),
}


def all_pairs(h: Tensor, y: Tensor) -> np.ndarray:
    """Mean over pairs of samples one by one, in float64, after moving the origin among them."""
    x = h.double().numpy()
    rows = [(x - x[0])[y.numpy() == c] for c in range(int(y.max()) + 1)]
    distances = np.array([[cdist(a, b, "sqeuclidean").mean() for b in rows] for a in rows])
    sizes = np.array([len(a) for a in rows])
    np.fill_diagonal(distances, distances.diagonal() * sizes / (sizes - 1))
    return distances


def expected(name: str, h: Tensor, y: Tensor) -> np.ndarray:
    """What a method should return: the distances, or of twins their ratio."""
    distances = all_pairs(h, y)
    if name != "nclib.msdr":
        return distances
    classes = np.arange(len(distances))
    return distances[classes, classes ^ 1] / distances.diagonal()


def error(name: str, close: bool) -> float:
    h, y = sample(*PAIRS_SIZE, close=close)
    exact = expected(name, h, y)
    return float(np.abs(np.asarray(METHODS[name](h, y)) / exact - 1).max())


def seconds(name: str, h: Tensor, y: Tensor) -> float:
    start = time.perf_counter()
    METHODS[name](h, y)
    return time.perf_counter() - start


def side_by_side(size: str, repeats: int) -> list[dict[str, object]]:
    """Seconds, memory and errors of all methods at one size."""
    h, y = sample(*SIZES[size])
    repeats = repeats if size == "small" else min(repeats, LARGE_REPEATS)
    times = [{name: seconds(name, h, y) for name in METHODS} for _ in range(1 + repeats)][1:]
    n, dim, classes = SIZES[size]
    return [
        {
            "method": name,
            "samples": n,
            "dimension": dim,
            "classes": classes,
            "repeats": repeats,
            "seconds": statistics.median(of_turn[name] for of_turn in times),
            "seconds_lowest": min(of_turn[name] for of_turn in times),
            "seconds_highest": max(of_turn[name] for of_turn in times),
            "peak_over_features": child("benchmarks.distances", "memory", size, name),
            "relative_error": error(name, close=False),
            "relative_error_close_pairs": error(name, close=True),
        }
        for name in METHODS
    ]


def memory(size: str, name: str) -> float:
    """Peak memory in units of the features; in a process that does nothing else."""
    h, y = sample(*SIZES[size])
    before = peak_bytes()
    METHODS[name](h, y)
    return 1 + (peak_bytes() - before) / h.nbytes


def main() -> None:
    """Measure everything, print the rows, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/distances.json")
    options = parser.parse_args()
    rows = [row for size in SIZES for row in side_by_side(size, options.repeats)]
    for row in rows:
        print(json.dumps(row))
    write_json(options.output, {"rows": rows, "provenance": provenance(torch.device("cpu"))})


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["memory", size, name]:
            print(json.dumps(memory(size, name)))
        case _:
            main()
