"""Augmented batches of a training split that lies on the device as uint8.

    for images, labels in Batches(split, grouping, config, device).epoch(1): ...

An epoch's order, crops and mirrorings are drawn at once, there, from a generator seeded by (seed, epoch):
any epoch can be repeated without the ones before it, and no step waits for the host.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from nclib.config import RunConfig
from nclib.data.datasets import ImageSet
from nclib.data.grouping import Grouping
from nclib.errors import TrainingError
from nclib.training import distributed
from nclib.training.losses import is_collapse

CROP_SHARE = 8  # crops move by up to an eighth of the image: four pixels of 32


class Batches:
    """A training split, in ``steps`` batches of ``size`` samples.

    Neural-collapse losses get batches that hold equally many samples of every label, as many as fit. Of
    several processes each gets its share of every batch, see ``nclib.training.distributed``; a size that
    cannot be shared is a TrainingError.
    """

    def __init__(self, split: ImageSet, grouping: Grouping, config: RunConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        coarse = noisy(grouping.coarse(split.labels), grouping.num_coarse, config.label_noise, self._seed(0))
        self.samples = torch.bincount(coarse, minlength=grouping.num_coarse).tolist()  # of each label
        self.steps, self.size = len(split) // config.batch_size, config.batch_size
        if is_collapse(config.loss):
            self.size -= self.size % grouping.num_coarse
        if self.size % distributed.processes():
            raise TrainingError(
                f"batches of {self.size} cannot be shared by {distributed.processes()} processes"
            )
        self.labels = coarse.to(device)
        self.height, self.breadth = split.images.shape[2:]
        self.shift = 0 if config.augment == "none" else self.height // CROP_SHARE
        padded = F.pad(split.images, [self.shift] * 4)
        self.images = padded.permute(0, 2, 3, 1).contiguous().to(device)  # (N, H, W, C)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (images, labels): (B, C, H, W) uint8, channels last, and (B,) int64 coarse labels."""
        generator = torch.Generator(self.device).manual_seed(self._seed(epoch))
        order = torch.randperm(len(self.labels), generator=generator, device=self.device)
        index = self._divided(order)  # (steps, B)
        rows = self._windows(index, self.height, generator)  # (steps, B, H)
        columns = self._windows(index, self.breadth, generator)
        if self.config.augment == "crop-flip":
            mirrored = torch.rand(index.shape, generator=generator, device=self.device) < 0.5
            columns = torch.where(mirrored[..., None], columns.flip(-1), columns)
        for parts in zip(*map(distributed.share, (index, rows, columns)), strict=True):
            yield self._images(*parts), self.labels[parts[0]]

    def _seed(self, epoch: int) -> int:
        """Seed of what an epoch draws, from 1 on; 0 is the label noise, which all epochs share."""
        return self.config.seed * 1_000_003 + epoch

    def _divided(self, order: Tensor) -> Tensor:
        """Indices of the samples of every step, (steps, B); a label with too few starts over."""
        if not is_collapse(self.config.loss):
            return order[: self.steps * self.size].view(self.steps, -1)
        each = self.size // len(self.samples)
        members = order[self.labels[order].argsort(stable=True)].split(self.samples)
        drawn = [m.repeat(-(-self.steps * each // len(m)))[: self.steps * each] for m in members]
        return torch.stack([m.view(self.steps, each) for m in drawn], dim=1).flatten(1)

    def _windows(self, index: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Pixel positions of a random crop of every image. (steps, B) -> (steps, B, size)."""
        shape = (*index.shape, 1)
        offsets = torch.randint(2 * self.shift + 1, shape, generator=generator, device=self.device)
        return offsets + torch.arange(size, device=self.device)

    def _images(self, index: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Augmented images, (B, C, H, W)."""
        if self.config.augment == "none":
            images = self.images[index]
        else:
            images = self.images[index[:, None, None], rows[:, :, None], columns[:, None, :]]
        return images.permute(0, 3, 1, 2)


def noisy(labels: Tensor, num_labels: int, share: float, seed: int) -> Tensor:
    """Labels (N,) of which a share, drawn at random, is replaced by another label, drawn at random."""
    if not share:
        return labels
    generator = torch.Generator().manual_seed(seed)  # of the CPU: the same labels on every device
    wrong = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    shift = torch.randint(1, num_labels, wrong.shape, generator=generator)
    labels = labels.clone()
    labels[wrong] = (labels[wrong] + shift) % num_labels
    return labels
