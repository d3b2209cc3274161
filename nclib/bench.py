"""Measuring how fast this machine trains."""

from __future__ import annotations

import time

import torch
from torch import Tensor
from tqdm import tqdm

from nclib.config import RunConfig
from nclib.data.datasets import ImageSet, Splits
from nclib.data.grouping import Grouping
from nclib.measures.arrays import ArrayLike, as_images, as_labels
from nclib.networks.features import features_of
from nclib.training.loop import Training, default_device, deterministic_kernels


def training_throughput(
    images: ArrayLike, labels: ArrayLike, arch: str = "resnet18", width: int = 64, batch_size: int = 512
) -> float:
    """Training speed of one warm epoch, with crop, mirroring and bf16.

    Parameters
    ----------
    images : (N, C, H, W) uint8.
    labels : (N,) integer labels.
    arch, width, batch_size : as in ``RunConfig``.

    Returns
    -------
    float, images per second on ``nclib.training.loop.default_device()``; the epoch before is not counted.

    Raises
    ------
    ValueError : images that are not uint8 of rank 4, or fewer of them than one batch.
    """
    images = as_images(images).cpu()
    config = RunConfig(arch=arch, width=width, batch_size=batch_size, augment="crop-flip", epochs=2)
    if len(images) < batch_size:
        raise ValueError(f"{len(images)} images do not fill one batch of {batch_size}")
    labels = as_labels(labels, len(images)).cpu()
    return _timed_epoch(_training(images, labels, config))


def throughput(images: Tensor, labels: Tensor, config: RunConfig) -> dict[str, float]:
    """Images per second in "training", of one warm epoch, and of "features" in float32."""
    training = _training(images, labels, config)
    found = {"training": _timed_epoch(training)}
    start = time.perf_counter()
    features_of(training.model, images)
    return found | {"features": len(images) / (time.perf_counter() - start)}


def _training(images: Tensor, labels: Tensor, config: RunConfig) -> Training:
    names = tuple(str(c) for c in range(int(labels.max()) + 1))
    split = ImageSet(images, labels, names)
    grouping = Grouping(torch.arange(len(names)), names, names)
    return Training(config, Splits(split, split), grouping, default_device(), folder=None)


def _timed_epoch(training: Training) -> float:
    config, steps = training.config, training.batches.steps
    with deterministic_kernels(config.deterministic):
        training.train_epoch(1, silent := tqdm(disable=True))
        _wait(training.device)
        start = time.perf_counter()
        training.train_epoch(2, silent)
        _wait(training.device)
    return steps * config.batch_size / (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
