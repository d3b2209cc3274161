"""Measured training speed: images of one warm epoch over its time, and nothing else's."""

from __future__ import annotations

import pytest
import torch

from nclib import bench
from nclib.bench import training_throughput

IMAGES = torch.randint(256, (70, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(70) % 5


def test_only_the_second_epoch_counts(monkeypatch):
    clock = [0.0]

    def train_epoch(self, epoch, bar):
        clock[0] += {1: 100.0, 2: 4.0}[epoch]

    monkeypatch.setattr(bench.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(bench.Training, "train_epoch", train_epoch)
    assert training_throughput(IMAGES, LABELS, "mlp", 8, batch_size=32) == 64 / 4  # two whole batches


@pytest.mark.parametrize("arch", ["mlp", "resnet18"])
def test_runs(arch):
    assert training_throughput(IMAGES.numpy(), LABELS.numpy(), arch, 2, batch_size=35) > 0


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [(IMAGES.float(), LABELS, "uint8"), (IMAGES[0], LABELS, "uint8"), (IMAGES[:20], LABELS[:20], "20 images"),
     (IMAGES, LABELS[:-1], "one per sample"), (IMAGES, LABELS - 1, "negative")],
)  # fmt: skip
def test_refuses(images, labels, message):
    with pytest.raises(ValueError, match=message):
        training_throughput(images, labels, "mlp", 8, batch_size=32)


def test_shows_no_bars(start):
    """Dozens of bars of a few steps each would hide what a sweep lists. tqdm reads its setting at import."""
    measure = "import torch; from nclib import bench; bench.training_throughput("
    measure += "torch.zeros(64, 1, 8, 8, dtype=torch.uint8), torch.arange(64) % 2, 'mlp', 4, 32)"
    process = start("-c", measure, TQDM_DISABLE="")
    assert process.communicate() == ("", "") and process.returncode == 0
