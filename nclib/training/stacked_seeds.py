"""Many seeds of a small model as one program.

    trained = train_together([recipe_config("digits", seed=s) for s in range(15)])

Where most of a step is the cost of starting operations, many seeds cost little more than one. Here their
networks are one, see ``nclib.networks.stacked``, and one optimiser steps it. Every seed keeps its own
initialisation and its own order of samples, so each result is that of a single run up to the rounding of
float32.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from nclib.config import RunConfig
from nclib.networks.stacked import StackedPerceptrons
from nclib.training.loop import (
    Trained,
    Training,
    default_device,
    deterministic_kernels,
    learning_rate,
    progress_bar,
    training_task,
    training_threads,
    using_threads,
)
from nclib.training.objective import Objective
from nclib.training.optimizer import SGD


def train_together(
    configs: Sequence[RunConfig],
    folders: Sequence[Path] | None = None,
) -> list[Trained]:
    """Train configurations that differ in their seed only, as one program, without checkpoints.

    Parameters
    ----------
    configs : one or more; their results come back in this order. ``Trained.seconds`` is each one's share.
    folders : of the unfinished runs, for the weights of measured epochs; by default these are not kept.

    Raises
    ------
    ValueError : configurations that differ in more than the seed, or of networks that are no perceptrons.
    TrainingError, DataError, ConfigError : as ``nclib.training.loop.train`` does.
    """
    if len({replace(config, seed=0) for config in configs}) != 1:
        raise ValueError("only configurations that differ in nothing but the seed train together")
    device = default_device()
    splits, grouping = training_task(configs[0])
    places = folders or [None] * len(configs)
    each = [Training(c, splits, grouping, device, place) for c, place in zip(configs, places, strict=True)]
    threads = training_threads(configs[0], device)
    with deterministic_kernels(configs[0].deterministic), using_threads(threads):
        return Together(each).run()


def pays_together(config: RunConfig, seeds: int, device: torch.device) -> bool:
    """Whether seeds of this network train faster as one program than one after another on this device.

    Notes
    -----
    Measured by ``benchmarks/many_seeds.py`` on a CPU, from two seeds on. On a GPU single runs are compiled
    and replayed as graphs, and this program is not; no measurement there, so it is not chosen.
    """
    return config.arch == "mlp" and seeds > 1 and device.type == "cpu"


class Together:
    """Trainings of one configuration and several seeds, and the network of all that steps them."""

    def __init__(self, each: list[Training]) -> None:
        self.each = each
        self.config, self.device = each[0].config, each[0].device
        self.model = StackedPerceptrons([training.model for training in each])
        self.objective = Objective(self.model, self.config)
        self.optimizer = SGD(self.model.parameters(), self.config.momentum, self.config.weight_decay)

    def run(self) -> list[Trained]:
        start = time.perf_counter()
        with progress_bar(self.config, 0, self.each[0].batches.steps) as bar:
            for epoch in range(self.config.epochs + 1):
                records = self.train_epoch(epoch, bar) if epoch else [{"epoch": 0} for _ in self.each]
                for training, record in zip(self.each, records, strict=True):
                    training.close_epoch(record)
        for training in self.each:
            training.result.seconds = (time.perf_counter() - start) / len(self.each)
        return [training.finished() for training in self.each]

    def train_epoch(self, epoch: int, bar: tqdm) -> list[dict[str, Any]]:
        steps = self.each[0].batches.steps
        losses = torch.zeros(steps, len(self.each), device=self.device)
        correct = torch.zeros(len(self.each), device=self.device, dtype=torch.long)
        self.model.train()
        batches = zip(*(training.batches.epoch(epoch) for training in self.each), strict=True)
        for step, batch in enumerate(batches):
            images, labels = (
                torch.stack(part) for part in zip(*batch, strict=True)
            )  # (S, B, C, H, W), (S, B)
            loss, hits = self.objective(images, labels)
            loss.sum().backward()
            self.optimizer.step(learning_rate(self.config, (epoch - 1) * steps + step, steps))
            losses[step] = loss.detach()
            correct += hits
            bar.update()
        self.model.unstack()
        return [
            training.epoch_record(epoch, losses[:, s], int(correct[s]) / labels[s].numel() / steps)
            for s, training in enumerate(self.each)
        ]
