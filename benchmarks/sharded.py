"""Features larger than memory: their moments, distances and a sample, in processes that may have 2 GB each.

    python -m benchmarks.sharded [--jobs 2] [--output benchmarks/results/sharded.json]
    python -m benchmarks.sharded --jobs 20     # ten million samples: 21 GB of disk, 12 minutes of CPU time

A job is a process with a part of the data, in several shards. Jobs draw features and write them; jobs read
them and write their moments; then one process merges all moments, one passes over all shards by itself, and
one draws a sample for t-SNE and projects it on principal components of all samples. The system refuses any
of them more than ``LIMIT`` bytes of writable memory; each reports its peak resident set and its seconds after
imports. They run one after another.

Features are small multiples of 1/1024, so that sums of their products are exact in float64 while they are
drawn, whatever the order. Moments from these sums, in numpy's longdouble, are what others are compared with.
Gaps are the largest of any entry, relative to the largest entry. Linux only, where longdouble has 64 bits of
mantissa or more. The default takes two minutes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.linalg.blas import dsyrk
from scipy.spatial.distance import cdist

from benchmarks.measures import peak_bytes
from nclib.measures.distances import distances_of
from nclib.measures.moments import ClassMoments
from nclib.measures.principal_components import principal_components
from nclib.runs.provenance import provenance
from nclib.storage.feature_files import save_features
from nclib.storage.files import write_json
from nclib.storage.moment_files import load_moments, save_moments
from nclib.storage.shards import FeatureShards

ROOT = Path(__file__).parents[1]
LIMIT = 2 * 10**9  # bytes
SHARDS = 5  # of a job
ROWS, DIM, CLASSES = 100_000, 512, 1_000  # of a shard
UNIT = 2.0**-10
SAMPLE, COMPONENTS = 10_000, 50


def draw(folder: Path, job: int) -> None:
    """Write the shards of a job, Gaussian classes with Gaussian means, and sums over their features."""
    centres = torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(2**32))
    for number in range(job * SHARDS, (job + 1) * SHARDS):
        rng = torch.Generator().manual_seed(number)
        y = torch.randint(CLASSES, (ROWS,), generator=rng)
        h = torch.empty(ROWS, DIM).normal_(generator=rng)
        sums, squares = torch.zeros(CLASSES, DIM).double(), torch.zeros(CLASSES).double()
        products = np.zeros((DIM, DIM), order="F")
        for rows, labels in zip(h.split(2_000), y.split(2_000), strict=True):
            rows.add_(centres[labels]).div_(UNIT).round_()
            whole = rows.double()  # whole numbers: sums below 2^53 are exact
            sums.index_add_(0, labels, whole)
            squares.index_add_(0, labels, whole.square().sum(dim=1))
            products = dsyrk(1.0, whole.numpy().T, beta=1.0, c=products, overwrite_c=True)
            rows.mul_(UNIT)
        save_features(folder / "features" / f"{number:05}.safetensors", h, y)
        known = {"counts": torch.bincount(y, minlength=CLASSES), "sums": sums, "squares": squares}
        np.savez(folder / "sums" / f"{number:05}.npz", **known, products=np.triu(products))


def moments(folder: Path, job: int) -> None:
    """Those of the shards of a job."""
    files = sorted((folder / "features").iterdir())[job * SHARDS : (job + 1) * SHARDS]
    found = FeatureShards(files).moments(CLASSES)
    save_moments(folder / "moments" / f"{job:05}.safetensors", found)


def merge(folder: Path) -> None:
    """The moments of all jobs as one, and class distances."""
    write(folder / "merge.npz", load_moments(folder / "moments"))


def one_pass(folder: Path) -> None:
    """The same by one process that reads all shards."""
    write(folder / "one_pass.npz", FeatureShards(folder / "features").moments())


def sample(folder: Path) -> None:
    """Input for t-SNE: a sample in principal components of all samples."""
    f = FeatureShards(folder / "features").sample(SAMPLE)
    components = principal_components(load_moments(folder / "moments"), COMPONENTS)
    np.save(folder / "sample.npy", components.project(f.h))


def write(path: Path, found: ClassMoments) -> None:
    arrays = {name: getattr(found, name).numpy() for name in ("counts", "means", "scatter", "within")}
    np.savez(path, **arrays, distances=distances_of(found.summary()).numpy())


def exact(folder: Path) -> None:
    """Moments and class distances from the sums that ``draw`` wrote."""
    parts = [np.load(path) for path in (folder / "sums").iterdir()]
    counts, sums, squares, products = (
        sum(part[name] for part in parts) for name in ("counts", "sums", "squares", "products")
    )
    sums = sums.astype(np.longdouble)
    means = sums / counts[:, None]
    scatter = (squares - (sums * means).sum(axis=1)) / counts
    within = products.astype(np.longdouble)  # of the upper triangle
    for row, mean in zip(sums, means, strict=True):
        within -= np.triu(np.outer(row, mean))
    within = within + np.triu(within, 1).T
    means, scatter, within = (
        np.float64(values) for values in (UNIT * means, UNIT**2 * scatter, UNIT**2 * within / counts.sum())
    )
    distances = scatter[:, None] + scatter[None, :] + cdist(means, means, "sqeuclidean")
    np.fill_diagonal(distances, 2 * scatter * counts / (counts - 1))
    arrays = {"counts": counts, "means": means, "scatter": scatter, "within": within}
    np.savez(folder / "exact.npz", **arrays, distances=distances)


STEPS: dict[str, Callable[..., None]] = {
    step.__name__: step for step in (draw, moments, merge, one_pass, sample, exact)
}


def limited(name: str, folder: str, *job: str) -> dict[str, float]:
    """A step in this process, which may have ``LIMIT`` bytes."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    start, busy = time.perf_counter(), time.process_time()
    STEPS[name](Path(folder), *map(int, job))
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - busy,
        "peak_bytes": peak_bytes(),
    }


def in_process(*arguments: object) -> dict[str, float]:
    """A step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.sharded", *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout)


def measure(folder: Path, jobs: int) -> list[dict[str, Any]]:
    """A row for each step: the seconds of all its processes, and the largest peak of one."""
    for name in ("features", "moments", "sums"):
        (folder / name).mkdir()
    rows = []
    for name in STEPS:
        each = [[job] for job in range(jobs)] if name in ("draw", "moments") else [[]]
        found = [in_process(name, folder, *job) for job in each]
        rows.append(
            {
                "step": name,
                "processes": len(found),
                "seconds": sum(one["seconds"] for one in found),
                "cpu_seconds": sum(one["cpu_seconds"] for one in found),
                "peak_bytes": max(one["peak_bytes"] for one in found),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def gaps(one: Path, other: Path) -> dict[str, float]:
    """Largest difference of any entry, relative to the largest entry."""
    a, b = np.load(one), np.load(other)
    return {name: float(np.abs(a[name] - b[name]).max() / np.abs(b[name]).max()) for name in b}


def main() -> None:
    """Measure everything, print the rows, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--folder", type=Path, help="where features lie meanwhile, if not with temporary files"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/sharded.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        record = {
            "samples": options.jobs * SHARDS * ROWS,
            "dimension": DIM,
            "classes": CLASSES,
            "shards": options.jobs * SHARDS,
            "limit_bytes": LIMIT,
            "rows": measure(folder, options.jobs),
            "gaps": {
                "merge, exact": gaps(folder / "merge.npz", folder / "exact.npz"),
                "one pass, exact": gaps(folder / "one_pass.npz", folder / "exact.npz"),
                "merge, one pass": gaps(folder / "merge.npz", folder / "one_pass.npz"),
            },
            "provenance": provenance(torch.device("cpu")),
        }
    for row in record["rows"]:
        speed = record["samples"] / row["cpu_seconds"]
        print(f"{row['step']:10} {row['peak_bytes'] / 1e9:5.2f} GB {speed:9,.0f} samples a CPU second")
    for pair, found in record["gaps"].items():
        print(pair, {name: f"{value:.0e}" for name, value in found.items()})
    write_json(options.output, record)


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in STEPS:
        print(json.dumps(limited(*sys.argv[1:])))
    else:
        main()
