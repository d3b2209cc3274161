"""What a wide ResNet costs on a CPU, and whether its convolutions are better done as matrix products.

    python -m benchmarks.wide [--repeats 5] [--output benchmarks/results/wide.json]

Three questions, each in turns in one process: how much of the bf16 matmul peak nclib's loop uses at several
widths; how fast each kind of 3 x 3 convolution of a full-width ResNet-18 is, forward and backward, beside
the same as a product over patches; and how much time batch normalisation with ReLU takes beside them. About
three minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.training import (
    BAR,
    CONFIG,
    DEVICE,
    ROOT,
    flops_per_image,
    in_turns,
    matmul_peak,
    noise,
    speed,
)
from nclib.networks import patches
from nclib.runs.provenance import provenance
from nclib.storage.files import write_json
from nclib.training.loop import Training

WIDTHS = (16, 32, 64)
BATCH = 128
STAGES = ((64, 32), (128, 16), (256, 8), (512, 4))  # channels and side of the images in each stage


def loop_by_width(repeats: int) -> list[dict[str, Any]]:
    """Training speed of nclib's loop, share of the bf16 matmul peak, and gain by products over patches."""
    peak, rows = matmul_peak(repeats), []
    for width in WIDTHS:
        config = replace(CONFIG, width=width, batch_size=BATCH)
        images = 10 * BATCH if width < 64 else 4 * BATCH
        training = Training(config, *noise(images), DEVICE, None)
        loops = {
            "nclib": lambda epoch, t=training: t.train_epoch(epoch, BAR),
            "usual": lambda epoch, t=training: usual_convolutions(t, epoch),
        }
        times = in_turns(loops, repeats)
        row = {"width": width} | speed(times["nclib"], images)
        share = row["images_per_second"] * flops_per_image(config) / peak
        ratios = [usual / ours for ours, usual in zip(times["nclib"], times["usual"], strict=True)]
        row |= {"share_of_peak": share, "peak_flops": peak, "ratios_to_usual_convolutions": ratios}
        rows.append(row)
    return rows


def usual_convolutions(training: Training, epoch: int) -> None:
    """An epoch of nclib's loop without products over patches."""
    with mock.patch.object(patches, "pays", lambda x, stride: False):
        training.train_epoch(epoch, BAR)


def layers(repeats: int) -> list[dict[str, Any]]:
    """Milliseconds, forward and backward, of what a stage of a full-width ResNet-18 is made of."""
    rows = []
    for channels, side in STAGES:
        x, gradient = (_images(channels, side) for _ in range(2))
        x.requires_grad_()
        weight = torch.randn(channels, channels, 3, 3, device=DEVICE, dtype=torch.bfloat16)
        weight = weight.to(memory_format=torch.channels_last).requires_grad_()
        normalise = nn.BatchNorm2d(channels).to(DEVICE)
        works = {
            "convolution": lambda x=x, w=weight: F.conv2d(x, w, padding=1),
            "product over patches": lambda x=x, w=weight: patches.convolution(x, w),
            "batch norm and ReLU": lambda x=x, norm=normalise: torch.relu(norm(x)),
        }
        times = in_turns({n: _forward_and_backward(work, gradient) for n, work in works.items()}, repeats)
        flops = 3 * 2 * BATCH * side**2 * 9 * channels**2
        for name, taken in times.items():
            row = {"channels": channels, "side": side, "layer": name}
            row["milliseconds"] = 1000 * statistics.median(taken)
            row["flops_per_second"] = None if "norm" in name else flops / statistics.median(taken)
            rows.append(row)
    return rows


def _images(channels: int, side: int) -> Tensor:
    shape = (BATCH, channels, side, side)
    return torch.randn(shape, device=DEVICE, dtype=torch.bfloat16).to(memory_format=torch.channels_last)


def _forward_and_backward(work: Callable[[], Tensor], gradient: Tensor) -> Callable[[int], None]:
    def run(_: int) -> None:
        work().backward(gradient)

    return run


def main() -> None:
    """Measure everything, print it, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/wide.json")
    options = parser.parse_args()
    torch.manual_seed(0)
    record: dict[str, Any] = {
        "provenance": provenance(DEVICE),
        "batch_size": BATCH,
        "repeats": options.repeats,
    }
    record |= {"loop": loop_by_width(options.repeats), "layers": layers(options.repeats)}
    print(json.dumps(record, indent=2))
    write_json(options.output, record)


if __name__ == "__main__":
    main()
