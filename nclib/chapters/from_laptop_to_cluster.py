"""What sweeps survive, features larger than memory, and what ImageNet-1k would cost: arithmetic and sources.

faults_table()   # of benchmarks/results/sweep_faults.json, which tests/slurm/faults.py writes
sharded_table()  # of benchmarks/results/sharded.json
arithmetic()     # a row for each quantity
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from nclib.chapters.benchmarks import benchmark, machine
from nclib.chapters.tables import short_commit
from nclib.data.torchvision_import import import_torchvision
from nclib.training.loop import measured_epochs

TRAIN, TEST, CLASSES, SIDE = 1_281_167, 50_000, 1_000, 224  # ILSVRC 2012, and the usual crop
DIM = 2048  # features of a ResNet-50
EPOCHS, GROUPINGS, SEEDS = 90, 8, 3  # four cuts of WordNet, each with random groups of the same sizes
SPEED = 2_470  # training images/s, one A100 of 80 GB, mixed precision
PEAK = {"mixed": 312e12, "float32": 19.5e12}  # FLOP/s of an A100 without sparsity
SHARE = 0.5  # of the float32 peak that extraction is assumed to reach
SHARDED = {  # steps of benchmarks/sharded.py
    "draw": "draw features and write them",
    "moments": "read them and write moments",
    "merge": "merge the moments",
    "one_pass": "moments in one pass instead",
    "sample": "a sample and its principal components",
    "exact": "exact sums, to compare with",
}
SOURCES = {
    "torch": "counted by torch for torchvision's ResNet-50",
    "speed": "measured by NVIDIA, DeepLearningExamples, ResNet-50 v1.5, DGX A100 80 GB, one GPU",
    "peak": "NVIDIA, A100 data sheet",
    "ours": "our choice",
}


def faults_table() -> pd.DataFrame:
    """A row for each fault: what the first call said, what it and the second one trained."""
    rows = [
        {
            "fault": row["fault"],
            "the first call said": _said(row) if row["status"] else "that it ended well",
            "it trained": f"{row['trained_first']} of {row['runs']}",
            "its jobs that go on": row["jobs_left"],
            "trained then": f"{row['trained_then']} of {row['runs']}",
            "keys and numbers of a local run": "yes" if row["identical"] else "no",
        }
        for row in benchmark("sweep_faults")["rows"]
    ]
    return pd.DataFrame(rows).set_index("fault")


def _said(row: dict[str, Any]) -> str:
    """Lines of ``nclib sweep`` without the names of jobs and of their files."""
    reasons = (line.rpartition("): ")[2].partition("; its log")[0] for line in row["said"])
    return "; ".join(dict.fromkeys(reasons))


def faults_caption() -> str:
    """With which versions and where the faults were tried."""
    record = benchmark("sweep_faults")
    made, commits = record["provenance"], {short_commit(row["commit"]): None for row in record["rows"]}
    return (
        f"Two nodes of Slurm {made['slurm']} on one machine, Snakemake {made['snakemake']}, its Slurm plugin "
        f"{made['snakemake-executor-plugin-slurm']}, torch {made['torch']}; {made['device']}; "
        f"commit {', '.join(commits)}."
    )


def sharded_table() -> pd.DataFrame:
    """A row for each step on features larger than memory: its processes, their time and largest memory."""
    rows = [
        {
            "step": SHARDED[row["step"]],
            "processes": row["processes"],
            "of the processor, s": f"{row['cpu_seconds']:.0f}",
            "waiting for the disk included, s": f"{row['seconds']:.0f}",
            "largest memory of a process, GB": f"{row['peak_bytes'] / 1e9:.2f}",
        }
        for row in benchmark("sharded")["rows"]
    ]
    return pd.DataFrame(rows).set_index("step")


def sharded_caption() -> str:
    """How many features, what a process may use, how much results differ from exact ones, and where."""
    record = benchmark("sharded")
    gap = max(gap for gaps in record["gaps"].values() for gap in gaps.values())
    size, limit = 4 * record["samples"] * record["dimension"], record["limit_bytes"]
    return (
        f"{record['samples']:,} x {record['dimension']} features of {record['classes']:,} classes in "
        f"{record['shards']} files, {size / 1e9:.0f} GB; at most {limit / 1e9:g} GB a process. "
        f"Counts, means, scatter and distances differ from exact ones by at most {gap:.0e} of the largest. "
        f"{machine('sharded')}"
    )


def forward_flops() -> int:
    """Floating-point operations of one image of 224 x 224 through a ResNet-50; a multiply-add is two."""
    with torch.device("meta"):
        model, image = import_torchvision("torchvision.models").resnet50(), torch.empty(1, 3, SIDE, SIDE)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(image)
    return counter.get_total_flops()


def parameter_count() -> int:
    """Parameters of a ResNet-50 with a thousand classes."""
    with torch.device("meta"):
        model = import_torchvision("torchvision.models").resnet50()
    return sum(parameter.numel() for parameter in model.parameters())


def arithmetic() -> pd.DataFrame:
    """Cost of a sweep over super-classes and seeds, a row for each quantity: "value" and "from"."""
    flops, runs, measured = forward_flops(), GROUPINGS * SEEDS, len(measured_epochs(EPOCHS))
    training = EPOCHS * TRAIN / SPEED / 3600  # hours
    extraction = (TRAIN + measured * TEST) * flops / (SHARE * PEAK["float32"]) / 3600
    features, weights = 4 * (TRAIN + TEST) * DIM, 4 * parameter_count()
    moments = 8 * 2 * measured * CLASSES * DIM
    stored = features + weights + moments
    share = 3 * flops * SPEED / PEAK["mixed"]
    rows = {
        "forward pass of an image, GFLOP": (f"{flops / 1e9:.2f}", SOURCES["torch"]),
        "training images/s on one GPU": (f"{SPEED:,}", SOURCES["speed"]),
        "that is, of the peak, a training step being three forward passes": (f"{share:.0%}", SOURCES["peak"]),
        "epochs": (f"{EPOCHS}", SOURCES["ours"]),
        "GPU hours of training a run": (f"{training:.1f}", "epochs x images / speed"),
        "GPU hours of extraction a run, float32": (
            f"{extraction:.1f}",
            f"train once, test at {measured} measured epochs, at {SHARE:.0%} of the float32 peak (assumed)",
        ),
        "runs": (f"{runs}", f"{GROUPINGS} groupings x {SEEDS} seeds, {SOURCES['ours']}"),
        "GPU hours in all": (f"{runs * (training + extraction):,.0f}", "runs x (training + extraction)"),
        "jobs": (f"{2 * runs + 1}", "a run and its measures each, and the report"),
        "features a run, GB": (f"{features / 1e9:.1f}", f"both splits, {DIM} x float32"),
        "weights a run, GB": (f"{weights / 1e9:.2f}", "float32, once"),
        "class means a run, GB": (f"{moments / 1e9:.2f}", "two splits, float64, at every measured epoch"),
        "storage in all, GB": (f"{runs * stored / 1e9:,.0f}", "runs x (features + weights + means)"),
        "images as bytes, GB": (f"{(TRAIN + TEST) * 3 * SIDE**2 / 1e9:.0f}", f"{SIDE} x {SIDE} pixels"),
    }
    return pd.DataFrame(rows, index=["value", "from"]).T.rename_axis("quantity")
