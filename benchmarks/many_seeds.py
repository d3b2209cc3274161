"""Seeds as one program against seeds one after another: seconds to train one epoch, per seed.

    python -m benchmarks.many_seeds [--repeats 5] [--output benchmarks/results/many_seeds.json]

Both ways take turns in one process, on the device that training would use; on a CPU with one thread, as
``nclib.runs.get.train_all`` trains. ``nclib.training.stacked_seeds.pays_together`` states what follows. About
a minute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from nclib.config import RunConfig, recipe_config
from nclib.data.datasets import ImageSet, Splits
from nclib.data.grouping import Grouping
from nclib.runs.provenance import provenance
from nclib.storage.files import write_json
from nclib.training.loop import Training, default_device, training_task
from nclib.training.stacked_seeds import ENOUGH, Together, pays_together

ROOT = Path(__file__).parents[1]
SIDE = 28  # pixels of a side, for networks of convolutions
FLOAT32 = {"precision": "fp32"}  # nclib's convolutions in bf16 know no vmap
CASES = (  # name, configuration, numbers of seeds
    ("MLP, cross entropy", recipe_config("digits"), (3, ENOUGH, 15)),
    ("MLP, squared error", recipe_config("digits", loss="mse"), (3, ENOUGH, 15)),
    ("MLP, NC loss", recipe_config("digits", loss="nc"), (3, ENOUGH, 15)),
    ("ResNet-18 of width 8, float32, cross entropy", recipe_config("fashion-narrow", **FLOAT32), (3,)),
    ("ResNet-18 of width 8, float32, NC loss", recipe_config("fashion-narrow", loss="nc", **FLOAT32), (3,)),
)


def task_of(config: RunConfig) -> tuple[Splits, Grouping]:
    """Digits for the MLP, 512 images of noise in the size of FashionMNIST for ResNets."""
    if config.arch == "mlp":
        return training_task(config)
    shape, labels, names = (512, 1, SIDE, SIDE), torch.arange(512) % 5, tuple("abcde")
    pixels = torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    split = ImageSet(pixels, labels, names)
    return Splits(split, split), Grouping(torch.arange(5), names, names)


def trainings(config: RunConfig, seeds: int) -> list[Training]:
    """Fresh trainings of several seeds."""
    splits, grouping = task_of(config)
    device = default_device()
    return [Training(replace(config, seed=s), splits, grouping, device, None) for s in range(seeds)]


def seconds(train: Callable[[], Any]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    train()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measured(config: RunConfig, seeds: int, repeats: int) -> dict[str, Any]:
    """Median seconds per seed and epoch of both ways, after one epoch that is not counted."""
    bar = tqdm(disable=True)
    apart, together = trainings(config, seeds), Together(trainings(config, seeds))

    def one_by_one(epoch: int) -> None:
        for training in apart:
            training.train_epoch(epoch, bar)

    one_by_one(1)
    together.train_epoch(1, bar)
    times: dict[str, list[float]] = {"apart": [], "together": []}
    for epoch in range(2, 2 + repeats):
        times["apart"].append(seconds(lambda epoch=epoch: one_by_one(epoch)) / seeds)
        times["together"].append(seconds(lambda epoch=epoch: together.train_epoch(epoch, bar)) / seeds)
    medians = {f"{way}_seconds": statistics.median(values) for way, values in times.items()}
    spreads = {f"{way}_spread": max(values) - min(values) for way, values in times.items()}
    chosen = "together" if pays_together(config, seeds, default_device()) else "apart"
    return {"seeds": seeds, "repeats": repeats, "chosen": chosen} | medians | spreads


def main() -> None:
    """Measure all cases, print them, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/many_seeds.json")
    options = parser.parse_args()
    if default_device().type == "cpu":
        torch.set_num_threads(1)
    rows = []
    for name, config, numbers in CASES:
        for seeds in numbers:
            rows.append({"case": name} | measured(config, seeds, options.repeats))
            print(json.dumps(rows[-1]), flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.output, {"rows": rows, "provenance": provenance(default_device())})


if __name__ == "__main__":
    main()
