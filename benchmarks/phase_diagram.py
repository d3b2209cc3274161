"""Networks of chapter 9 trained side by side, against one after another: seconds of a phase diagram.

    python -m benchmarks.phase_diagram [--repeats 3] [--output benchmarks/results/phase_diagram.json]

The diagram is that of the chapter, 64 correlations by 64 sizes of the start by 4 seeds, first layer
trained. One after another, the same code trains a sample of these networks. Both take turns in one process,
with one thread, as the chapter does. About two minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from nclib.runs.provenance import provenance
from nclib.storage.files import write_json
from nclib.theory import two_layer

ROOT = Path(__file__).parents[1]
RHOS = np.linspace(-0.95, 0.95, 64)
EPSS = np.logspace(-3, 0, 64)
SEEDS = range(4)
SAMPLED = 8  # of the correlations and of the sizes, for networks one after another
WIDTH = 64


def together() -> float:
    """Seconds to train and measure all networks of the diagram."""
    start = time.perf_counter()
    two_layer.sweep(RHOS, EPSS, SEEDS, width=WIDTH)
    return time.perf_counter() - start


def apart() -> float:
    """Seconds for as many networks, one after another, from a sample evenly spread over the diagram."""
    every = len(RHOS) // SAMPLED
    points = [(rho, eps) for rho in RHOS[::every] for eps in EPSS[::every]]
    start = time.perf_counter()
    for rho, eps in points:
        two_layer.sweep([rho], [eps], [0], width=WIDTH)
    return (time.perf_counter() - start) / len(points) * len(RHOS) * len(EPSS) * len(SEEDS)


def row(name: str, times: Sequence[float]) -> dict[str, object]:
    return {
        "how": name,
        "networks": len(RHOS) * len(EPSS) * len(SEEDS),
        "repeats": len(times),
        "seconds": statistics.median(times),
        "seconds_lowest": min(times),
        "seconds_highest": max(times),
    }


def main() -> None:
    """Measure both, print the rows, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/phase_diagram.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ways = {"side by side": together, "one after another, from a sample": apart}
    times = [{name: way() for name, way in ways.items()} for _ in range(options.repeats)]
    rows = [row(name, [of_turn[name] for of_turn in times]) for name in ways]
    for each in rows:
        print(json.dumps(each))
    write_json(options.output, {"rows": rows, "provenance": provenance(torch.device("cpu"))})


if __name__ == "__main__":
    main()
