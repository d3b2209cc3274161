"""Does it help the worst group to act on sub-populations that the features show? Several seeds, on digits.

    python -m benchmarks.act_on_it [--seeds 0 1 ... 14] [--output benchmarks/results/act_on_it.json]

Chapter 12 shows the result, and runs one seed by itself. A few seconds a seed with one thread.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from nclib.chapters import your_own_model
from nclib.data.datasets import load
from nclib.runs.provenance import provenance
from nclib.storage.files import write_json

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Run all seeds and marks, print the rows, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=range(15))
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/act_on_it.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    splits = load("digits")
    images = torch.cat([split.images for split in splits]).float() / 255
    fine = torch.cat([split.labels for split in splits])
    rows = []
    for mark in your_own_model.MARKS:
        for seed in options.seeds:
            rows += your_own_model.act(images, fine, mark, seed)
            print(json.dumps(rows[-5:]), flush=True)
    write_json(options.output, {"rows": rows, "provenance": provenance(torch.device("cpu"))})


if __name__ == "__main__":
    main()
