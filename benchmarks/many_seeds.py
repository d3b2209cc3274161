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
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.training import seconds
from nclib.config import RunConfig, recipe_config
from nclib.runs.provenance import provenance
from nclib.storage.files import write_json
from nclib.training.loop import Training, default_device, training_task
from nclib.training.stacked_seeds import Together

ROOT = Path(__file__).parents[1]
SEEDS = (2, 3, 5, 15)
CASES = {
    "MLP, cross entropy": recipe_config("digits"),
    "MLP, squared error": recipe_config("digits", loss="mse"),
    "MLP, NC loss": recipe_config("digits", loss="nc"),
}


def trainings(config: RunConfig, seeds: int) -> list[Training]:
    """Fresh trainings of several seeds."""
    splits, grouping = training_task(config)
    device = default_device()
    return [Training(replace(config, seed=s), splits, grouping, device, None) for s in range(seeds)]


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
    return {"seeds": seeds, "repeats": repeats} | medians | spreads


def main() -> None:
    """Measure all cases, print them, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/many_seeds.json")
    options = parser.parse_args()
    if default_device().type == "cpu":
        torch.set_num_threads(1)
    rows = []
    for name, config in CASES.items():
        for seeds in SEEDS:
            rows.append({"case": name} | measured(config, seeds, options.repeats))
            print(json.dumps(rows[-1]), flush=True)
    write_json(options.output, {"rows": rows, "provenance": provenance(default_device())})


if __name__ == "__main__":
    main()
