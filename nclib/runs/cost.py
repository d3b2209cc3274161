"""What training costs on this machine: expected seconds of a run, and how far an unfinished one is."""

from __future__ import annotations

from functools import cache

import torch

from nclib.bench import throughput
from nclib.config import RunConfig
from nclib.data.datasets import FOLLOWED
from nclib.errors import StoreError
from nclib.storage import store
from nclib.storage.files import read_metadata
from nclib.training.checkpoint import CHECKPOINT
from nclib.training.loop import measured_epochs

IMAGES = {  # of train and of test, and their shape: known before a data set is loaded, or downloaded
    "digits": (1_437, 360, (1, 8, 8)),
    "fashion": (60_000, 10_000, (1, 28, 28)),
    "mnist": (60_000, 10_000, (1, 28, 28)),
    "svhn": (73_257, 26_032, (3, 32, 32)),
    "cifar10": (50_000, 10_000, (3, 32, 32)),
    "cifar100": (50_000, 10_000, (3, 32, 32)),
}


def seconds(config: RunConfig) -> float:
    """How long a configuration is expected to train and to be measured on this device, in seconds.

    Notes
    -----
    From the speed of a few steps of this network. The loss is not looked at, and classes held out count as
    if they were trained on.
    """
    train, test, shape = IMAGES[config.dataset]
    speed = _speed(config.arch, config.width, shape, config.batch_size, config.precision)
    on_the_way = (len(measured_epochs(config.epochs)) - 1) * (min(train, FOLLOWED) + test)
    return config.epochs * train / speed["training"] + (on_the_way + train + test) / speed["features"]


@cache
def _speed(arch: str, width: int, shape: tuple[int, ...], batch: int, precision: str) -> dict[str, float]:
    images = torch.zeros(2 * batch, *shape, dtype=torch.uint8)
    config = RunConfig(arch=arch, width=width, batch_size=batch, precision=precision, epochs=2)
    return throughput(images, torch.arange(len(images)) % 5, config)


def epoch_reached(config: RunConfig) -> int:
    """Last epoch that an unfinished run of a configuration has saved, 0 if there is none."""
    file = store.unfinished_folder(store.run_key(config)) / CHECKPOINT
    try:
        return int(read_metadata(file)["epoch"]) if file.exists() else 0
    except (StoreError, KeyError, ValueError):  # damaged: training will begin anew
        return 0
