"""The measures of collapse side by side with other ways to compute them: seconds, memory, digits.

    python -m benchmarks.measures [--repeats 5] [--output benchmarks/results/measures.json]

Methods take turns in one process; seconds are medians over the repeats, of which the large size gets
at most ``LARGE_REPEATS``. Peak memory is measured in a fresh process each: the features plus what the
resident set grew by, over the features. Errors of NC1 are relative to a float64 reference that shares
no code with nclib. Linux only.

The package ``neural-collapse`` takes part where it can be imported. Two to three minutes on two quiet
cores.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy
import torch
from scipy.sparse.linalg import svds
from torch import Tensor

from nclib.measures.collapse import collapse_metrics, variability
from nclib.measures.moments import ClassMoments, Moments
from nclib.runs.provenance import provenance
from nclib.storage.files import write_json

ROOT = Path(__file__).parents[1]
MODULE = "benchmarks.measures"
SIZES = {"small": (50_000, 512, 10), "large": (50_000, 2_048, 1_000)}  # N, D, C
LARGE_REPEATS = 1
STREAM = (10_000_000, 64, 10)
PACKAGE_BATCH = 2_000  # the fastest seen from 128 on


class Data(NamedTuple):
    h: Tensor  # (N, D) float32
    y: Tensor  # (N,)
    weight: Tensor  # (C, D) float32
    bias: Tensor  # (C,)


def sample(size: str, pairs: bool = False) -> Data:
    """Gaussian classes; as close pairs, twins are a hundredth of the distance between pairs apart."""
    n, dim, classes = SIZES[size]
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, dim, generator=rng)
    y = torch.randint(classes, (n,), generator=rng)
    noise = 1.0
    if pairs:
        centres[1::2] = centres[::2] + 0.01 * torch.randn(classes // 2, dim, generator=rng)
        noise = 1e-3
    h = torch.empty(n, dim)
    for rows, labels in zip(h.split(1_000), y.split(1_000), strict=True):  # no second array as large
        rows.normal_(generator=rng).mul_(noise).add_(centres[labels])
    weight = centres - centres.mean(dim=0) + torch.randn(classes, dim, generator=rng)
    return Data(h, y, weight, torch.randn(classes, generator=rng))


def reference(data: Data) -> float:
    """NC1 in float64 by the singular vectors of the class means: mean of ||S^-1 V^T z||^2 over samples."""
    h, y = data.h.numpy(), data.y.numpy()
    rows = [h[y == c].astype(np.float64) for c in range(len(data.weight))]
    means = np.stack([x.mean(axis=0) for x in rows])
    _, s, v = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    axes = v[:-1].T / s[:-1]  # centring takes one dimension away
    return sum(float((((x - x.mean(axis=0)) @ axes) ** 2).sum()) for x in rows) / len(h)


def ours_nc1(data: Data) -> float:
    return variability(Moments.of(data.h, data.y))


def ours_all(data: Data) -> float:
    return collapse_metrics(*data)["nc1"]


def covariance_nc1(data: Data, dtype: torch.dtype) -> float:
    """NC1 by covariances and torch.linalg.pinv, without a loop."""
    means, sigma_w = covariance(data.h.to(dtype), data.y, len(data.weight))
    return pinv_nc1(means, sigma_w)


def covariance_all(data: Data, dtype: torch.dtype) -> float:
    """All seven kinds of measure, without a loop, as a careful user would write them."""
    h, weight, bias = (x.to(dtype) for x in (data.h, data.weight, data.bias))
    means, sigma_w = covariance(h, data.y, len(weight))
    m = means - means.mean(dim=0)
    off = ~torch.eye(len(m), dtype=torch.bool)
    for rows in (m, weight):
        norms = rows.norm(dim=1)
        units = rows / norms[:, None]
        cosines = (units @ units.T)[off]
        (norms.std() / norms.mean(), cosines.std(), (cosines + 1 / (len(m) - 1)).abs().mean())
    (weight / weight.norm() - m / m.norm()).square().sum()
    decided = torch.addmm(bias, h, weight.T).argmax(dim=1)
    nearest = torch.addmm(-means.square().sum(dim=1) / 2, h, means.T).argmax(dim=1)
    (decided != nearest).to(dtype).mean()
    return pinv_nc1(means, sigma_w)


def covariance(h: Tensor, y: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Class means (C, D) and Sigma_W (D, D)."""
    counts = torch.bincount(y, minlength=classes)
    means = h.new_zeros(classes, h.shape[1]).index_add_(0, y, h) / counts[:, None]
    z = h - means[y]
    return means, z.T @ z / len(h)


def pinv_nc1(means: Tensor, sigma_w: Tensor) -> float:
    m = means - means.mean(dim=0)
    return float((sigma_w * torch.linalg.pinv(m.T @ m / len(m))).sum() / len(m))


def svds_nc1(data: Data) -> float:
    """As the notebook of Papyan, Han and Donoho inverts Sigma_B: its C - 1 leading singular triples."""
    means, sigma_w = covariance(data.h, data.y, len(data.weight))
    m = (means - means.mean(dim=0)).numpy()
    vectors, values, _ = svds(m.T @ m / len(m), k=len(m) - 1)
    return float(np.trace(sigma_w.numpy() @ vectors @ np.diag(1 / values) @ vectors.T)) / len(m)


def package_nc1(data: Data) -> float:
    from neural_collapse.accumulate import CovarAccumulator, MeanAccumulator
    from neural_collapse.measure import covariance_ratio

    classes, dim = data.weight.shape
    batches = list(zip(data.h.split(PACKAGE_BATCH), data.y.split(PACKAGE_BATCH), strict=True))
    accumulator = MeanAccumulator(classes, dim)
    for h, y in batches:
        accumulator.accumulate(h, y)
    means, centre = accumulator.compute()
    within = CovarAccumulator(classes, dim, M=means)
    for h, y in batches:
        within.accumulate(h, y, means)
    return covariance_ratio(within.compute(), means, centre)


def package_all(data: Data) -> float:
    """Its counterparts of our measures, from the same class means; its others are left out."""
    from neural_collapse.accumulate import DecAccumulator
    from neural_collapse.measure import clf_ncc_agreement, mean_norms, self_duality_error, simplex_etf_error

    nc1 = package_nc1(data)
    classes, dim = data.weight.shape
    means = covariance_means(data)
    centre = means.mean(dim=0)
    for rows, origin in ((means, centre), (data.weight, 0)):
        mean_norms(rows, origin)
        simplex_etf_error(rows, origin)
    self_duality_error(data.weight, means, centre)
    decisions = DecAccumulator(classes, dim, M=means, W=data.weight)
    for h, y in zip(data.h.split(PACKAGE_BATCH), data.y.split(PACKAGE_BATCH), strict=True):
        decisions.accumulate(h, y, data.weight, means)
    clf_ncc_agreement(decisions)
    return nc1


def covariance_means(data: Data) -> Tensor:
    """Class means (C, D), so that the package's are not accumulated twice."""
    counts = torch.bincount(data.y, minlength=len(data.weight))
    return torch.zeros_like(data.weight).index_add_(0, data.y, data.h) / counts[:, None]


class Method(NamedTuple):
    nc1: Callable[[Data], float]
    everything: Callable[[Data], float] | None
    sizes: tuple[str, ...] = ("small", "large")
    memory: tuple[str, ...] = ("small", "large")


METHODS = {
    "nclib": Method(ours_nc1, ours_all),
    "float32 covariance + pinv": Method(
        lambda d: covariance_nc1(d, torch.float32), lambda d: covariance_all(d, torch.float32)
    ),
    "float64 covariance + pinv": Method(
        lambda d: covariance_nc1(d, torch.float64),
        lambda d: covariance_all(d, torch.float64),
        memory=("small",),
    ),
    # 999 triples by Lanczos take minutes
    "float32 covariance + svds": Method(svds_nc1, None, sizes=("small",), memory=()),
    "neural-collapse": Method(package_nc1, package_all, memory=("small",)),
}


def available() -> dict[str, Method]:
    """Methods whose packages are installed."""
    absent = importlib.util.find_spec("neural_collapse") is None
    return {name: method for name, method in METHODS.items() if not (absent and name == "neural-collapse")}


def seconds(function: Callable[[Data], float], data: Data) -> float:
    start = time.perf_counter()
    function(data)
    return time.perf_counter() - start


def side_by_side(size: str, repeats: int) -> list[dict[str, Any]]:
    """Seconds and errors of all methods at one size; errors on close pairs at the small one."""
    methods = {name: method for name, method in available().items() if size in method.sizes}
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in methods}
    data = sample(size)
    exact = reference(data)
    errors = {name: abs(method.nc1(data) / exact - 1) for name, method in methods.items()}  # and warm up
    for _ in range(repeats):
        for name, method in methods.items():
            times[name][0].append(seconds(method.nc1, data))
            if method.everything is not None:
                times[name][1].append(seconds(method.everything, data))
    on_pairs: dict[str, float] = {}
    if size == "small":
        data = sample(size, pairs=True)
        exact = reference(data)
        on_pairs = {name: abs(method.nc1(data) / exact - 1) for name, method in methods.items()}
    n, dim, classes = SIZES[size]
    return [
        {
            "method": name,
            "samples": n,
            "dimension": dim,
            "classes": classes,
            "repeats": repeats,
            "nc1_seconds": statistics.median(times[name][0]),
            "all_seconds": statistics.median(times[name][1]) if times[name][1] else None,
            "nc1_relative_error": errors[name],
            "nc1_relative_error_close_pairs": on_pairs.get(name),
            "peak_over_features": child(MODULE, "memory", size, name) if size in method.memory else None,
        }
        for name, method in methods.items()
    ]


def memory(size: str, name: str) -> float:
    """Peak memory of all measures, in units of the features; in a process that does nothing else."""
    data = sample(size)
    before = peak_bytes()
    METHODS[name].everything(data)
    return 1 + (peak_bytes() - before) / data.h.nbytes


def stream() -> dict[str, float]:
    """Moments of a long stream, made in batches: seconds, of them in nclib, and growth of memory."""
    n, dim, classes = STREAM
    batch = 100_000
    rng = torch.Generator().manual_seed(0)
    accumulator = ClassMoments(classes, dim)
    start, inside, early = time.perf_counter(), 0.0, 0
    for first in range(0, n, batch):
        y = torch.randint(classes, (batch,), generator=rng)
        h = torch.randn(batch, dim, generator=rng).add_(y[:, None])
        entered = time.perf_counter()
        accumulator.update(h, y)
        inside += time.perf_counter() - entered
        if first == batch:
            early = peak_bytes()
    return {
        "samples": n,
        "dimension": dim,
        "classes": classes,
        "seconds": time.perf_counter() - start,
        "seconds_in_nclib": inside,
        "peak_bytes": peak_bytes(),
        "peak_bytes_grown_after_two_batches": peak_bytes() - early,
        "nc1": variability(accumulator.summary()),
    }


def peak_bytes() -> int:
    """Peak resident set of this process, as Linux counts it; getrusage would count the parent's too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def child(module: str, *arguments: str) -> Any:
    """The JSON that a module prints in a process of its own."""
    command = [sys.executable, "-m", module, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as text; a dash where nothing was measured."""

    def cell(value: float | None, spec: str) -> str:
        return "-" if value is None else format(value, spec)

    lines = [f"{'C':>5} {'method':26} {'NC1 s':>9} {'all s':>9} {'peak':>6} {'error':>9} {'on pairs':>9}"]
    for r in rows:
        lines.append(
            f"{r['classes']:5} {r['method']:26} {r['nc1_seconds']:9.3f} {cell(r['all_seconds'], '.3f'):>9} "
            f"{cell(r['peak_over_features'], '.2f'):>6} {r['nc1_relative_error']:9.1e} "
            f"{cell(r['nc1_relative_error_close_pairs'], '.1e'):>9}"
        )
    if "neural-collapse" not in available():
        lines.append("      neural-collapse is not installed")
    return "\n".join(lines)


def main() -> None:
    """Measure everything, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/measures.json")
    options = parser.parse_args()
    start = time.perf_counter()
    rows = []
    for size in options.sizes:
        repeats = options.repeats if size == "small" else min(options.repeats, LARGE_REPEATS)
        rows += side_by_side(size, repeats)
    streamed = child(MODULE, "stream")
    versions = {"numpy": np.__version__, "scipy": scipy.__version__}
    absent = sorted(METHODS.keys() - available().keys())
    record = {
        "rows": rows,
        "stream": streamed,
        "absent": absent,
        "provenance": provenance(torch.device("cpu")) | versions,
        "seconds": time.perf_counter() - start,
    }
    write_json(options.output, record)
    print(table(rows))
    print(f"\n{streamed['samples']:,} samples in a stream: {streamed['seconds_in_nclib']:.1f} s in nclib")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["memory", size, name]:
            print(json.dumps(memory(size, name)))
        case ["stream"]:
            print(json.dumps(stream()))
        case _:
            main()
