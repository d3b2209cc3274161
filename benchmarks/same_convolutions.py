"""Do products over patches learn what usual convolutions do? Fifteen seeds each way, a ResNet-18 on digits.

    python -m benchmarks.same_convolutions [--output benchmarks/results/same_convolutions.json]

Digits have 8 x 8 pixels, so that all stages but the first see 4 x 4 or fewer, where the products are used.
For processors with AMX; on others nclib has the usual convolutions only. About twenty minutes with one
thread.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.same_learning import learnt
from benchmarks.training import BAR, DEVICE, ROOT
from benchmarks.wide import usual_convolutions
from nclib.config import RunConfig, recipe_config
from nclib.networks.features import features_of
from nclib.runs.provenance import provenance
from nclib.storage.files import write_json
from nclib.training.loop import Training, training_task

NETWORK = {"arch": "resnet18", "width": 16, "precision": "bf16"}
SEEDS = range(15)  # of the first five test accuracy differed with p = 0.05: ten more were to decide


def products(training: Training, epoch: int) -> None:
    """An epoch of nclib's loop as it is."""
    training.train_epoch(epoch, BAR)


WAYS = {"products over patches": products, "usual convolutions": usual_convolutions}


def trained(config: RunConfig, train_epoch: Callable[[Training, int], None]) -> dict[str, float]:
    """What a network has learnt after all epochs."""
    splits, grouping = training_task(config)
    training = Training(config, splits, grouping, DEVICE, None)
    for epoch in range(1, config.epochs + 1):
        train_epoch(training, epoch)
    return learnt(training.model, lambda split: features_of(training.model, split.images), splits, grouping)


def main() -> None:
    """Train everything, print it, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/same_convolutions.json")
    options = parser.parse_args()
    if not torch.cpu._is_amx_tile_supported():
        print("no AMX here: nclib uses the usual convolutions only, and nothing is compared")
        return
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for seed in SEEDS:
        for way, train_epoch in WAYS.items():
            config = recipe_config("digits", **NETWORK, seed=seed)
            rows.append({"loop": way, "seed": seed} | trained(config, train_epoch))
            print(json.dumps(rows[-1]), flush=True)
    write_json(
        options.output, {"recipe": "digits", **NETWORK, "rows": rows, "provenance": provenance(DEVICE)}
    )


if __name__ == "__main__":
    main()
