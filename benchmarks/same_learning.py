"""Do the fast loop and the plain one learn the same? Five seeds each way, FashionMNIST at laptop size.

    python -m benchmarks.same_learning [--seeds 0 1 2 3 4] [--output benchmarks/results/same_learning.json]

The plain loop of benchmarks/copied_loop.py trains here, in float32; the fast loop's runs are those that
``nclib.get_runs`` gives, the released ones where there are any. Seeds that the file has are not trained
again. About ten minutes a seed with one thread.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from benchmarks.copied_loop import CopiedLoop
from nclib.chapters.when_structure_appears import remains
from nclib.config import RunConfig, recipe_config
from nclib.data.datasets import ImageSet, Splits
from nclib.data.grouping import Grouping
from nclib.networks.features import FeatureSet
from nclib.networks.models import Classifier
from nclib.runs import evaluation
from nclib.runs.get import get_run
from nclib.runs.provenance import provenance
from nclib.runs.run import Run
from nclib.storage.files import write_json
from nclib.training.loop import default_device, training_task

ROOT = Path(__file__).parents[1]
RECIPE = "fashion-narrow"


def plain(config: RunConfig) -> dict[str, float]:
    """What the plain loop's network has learnt after all epochs."""
    splits, grouping = training_task(config)
    loop = CopiedLoop(config, splits, grouping, default_device(), workers=0)
    for epoch in range(1, config.epochs + 1):
        print(config.seed, epoch, loop.train_epoch(epoch), flush=True)
    return learnt(loop.model, loop.features, splits, grouping)


def learnt(
    model: Classifier, features: Callable[[ImageSet], Tensor], splits: Splits, grouping: Grouping
) -> dict[str, float]:
    """What a network that was trained outside of the store has learnt."""
    weight, bias = (p.detach().float().cpu() for p in (model.head.weight, model.head.bias))

    def of_split(split: ImageSet) -> FeatureSet:
        return FeatureSet(features(split), split.labels, grouping.coarse(split.labels), weight, bias)

    return measured(*map(of_split, splits), grouping)


def measured(train: FeatureSet, test: FeatureSet, grouping: Grouping) -> dict[str, float]:
    """What is compared."""
    left = remains(train.h, train.fine, grouping)
    return {
        "train_accuracy": accuracy(train),
        "test_accuracy": accuracy(test),
        **{name: left[name] for name in ("found", "nc1", "msdr")},
    }


def accuracy(f: FeatureSet) -> float:
    return float((f.logits().argmax(1) == f.coarse).double().mean())


def fast(run: Run) -> dict[str, float]:
    """The same of a run of nclib; a released run has these numbers, but not its train features."""
    if not run.released:
        return measured(run.features("train"), run.features("test"), run.grouping)
    last = next(row for row in reversed(evaluation.measures(run)) if row["split"] == "train")
    return {
        "train_accuracy": run.history[-1]["train_accuracy"],
        "test_accuracy": run.history[-1]["test_accuracy"],
        "found": evaluation.results(run)["reconstruction"]["kmeans"]["train"],
        "nc1": last["nc1"],
        "msdr": last["msdr"],
    }


def keep(row: dict[str, Any], output: Path) -> None:
    """Add a row to the file, which several processes may write."""
    with FileLock(f"{output}.lock"):
        rows = [*rows_of(output), row]
        rows.sort(key=lambda row: (row["loop"], row["seed"]))
        write_json(output, {"recipe": RECIPE, "rows": rows, "provenance": provenance(default_device())})


def rows_of(output: Path) -> list[dict[str, Any]]:
    return json.loads(output.read_text(encoding="utf-8"))["rows"] if output.exists() else []


def main() -> None:
    """Train what is missing, print it, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/same_learning.json")
    options = parser.parse_args()
    if default_device().type == "cpu":
        torch.set_num_threads(1)
    learnt = {"plain": plain, "nclib": lambda config: fast(get_run(RECIPE, seed=config.seed))}
    for seed in options.seeds:
        for loop, learn in learnt.items():
            if (loop, seed) not in {(row["loop"], row["seed"]) for row in rows_of(options.output)}:
                row = {"loop": loop, "seed": seed, "repeats": 1} | learn(recipe_config(RECIPE, seed=seed))
                keep(row, options.output)
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
