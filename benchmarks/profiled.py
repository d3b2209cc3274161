"""Where the time of some work goes, by kind of operation, from torch.profiler."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile

KINDS = {  # kind: parts of the names of its operations and kernels; the first that fits counts
    "waiting for data": ("DataLoader",),
    "convolution": ("conv", "cudnn", "xmma", "wgrad", "dgrad", "implicit_gemm"),
    "batch normalisation": ("batch_norm", "bn_", "mkldnn_bf16_bn"),
    "optimiser": ("sgd", "Optimizer", "foreach", "multi_tensor"),
    "matrix product": ("addmm", "aten::mm", "linear", "gemm"),
    "fused by the compiler": ("triton",),
    "draw and gather a batch": ("index", "randint", "random", "rand", "gather", "argsort", "sort"),
    "casts and copies": ("copy_", "to_copy", "aten::to", "contiguous", "clone", "Memcpy", "Memset"),
    "ReLU, sums and the rest of the network": (
        "relu", "threshold", "add", "mul", "div", "sub", "sum", "mean", "pool", "softmax", "nll", "fill",
    ),
}  # fmt: skip
PYTHON = "Python, and starting operations"


def time_by_kind(work: Callable[[], Any], cuda: bool) -> list[dict[str, Any]]:
    """Seconds and share of the wall clock by kind of operation, the largest first.

    On a GPU seconds are those of the device, and what is left is the time in which it waits; on a CPU
    they are those of the thread that trains.
    """
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda
    with profile(activities=activities) as profiler:
        start = time.perf_counter()
        work()
        wall = time.perf_counter() - start
    events = profiler.key_averages()
    own = {e.key: e.self_device_time_total if cuda else e.self_cpu_time_total for e in events}
    return shares({name: microseconds / 1e6 for name, microseconds in own.items()}, wall)


def shares(own_seconds: dict[str, float], wall: float) -> list[dict[str, Any]]:
    """Time by kind, from the own time of each operation by name, and the time of all."""
    spent: dict[str, float] = defaultdict(float)
    for name, seconds in own_seconds.items():
        spent[_kind(name)] += seconds
    spent[PYTHON] += wall - sum(spent.values())
    rows = [{"kind": kind, "seconds": s, "share": s / wall} for kind, s in spent.items()]
    return sorted(rows, key=lambda row: -row["seconds"])


def _kind(name: str) -> str:
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), PYTHON)
