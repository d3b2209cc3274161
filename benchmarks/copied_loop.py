"""The loop that people copy, as the baseline of benchmarks/training.py and benchmarks/same_learning.py.

torchvision transforms in DataLoader workers, one image at a time; float32 (convolutions in tf32 on a GPU,
torch's default); one optimiser kernel after another; the loss read back after every step. The network,
its initial weights, the schedule and the loss are nclib's, so that only the loop differs.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from nclib.config import RunConfig
from nclib.data.datasets import ImageSet, Splits
from nclib.data.grouping import Grouping
from nclib.data.torchvision_import import import_torchvision
from nclib.networks.models import initial_model
from nclib.training.loop import learning_rate
from nclib.training.losses import LOSSES

CROP_SHARE = 8  # as nclib.batches: crops move by up to an eighth of the image
WORKERS = min(8, os.cpu_count() or 1)


class CopiedLoop:
    """A training as the usual CIFAR scripts write it."""

    def __init__(
        self,
        config: RunConfig,
        splits: Splits,
        grouping: Grouping,
        device: torch.device,
        workers: int = WORKERS,
    ) -> None:
        self.config, self.device, self.workers = config, device, workers
        train = splits.train
        self.model = initial_model(config, train.images, grouping.num_coarse)
        shape = train.images.shape[1:]
        mean, std = self.model.mean.flatten().tolist(), self.model.std.flatten().tolist()
        self.model.mean.fill_(0)  # the transforms normalise instead
        self.model.std.fill_(1)
        self.model.to(device)
        self.images = _Images(train, grouping, _transforms(config.augment, shape[1], mean, std))
        self.test_transform = _transforms("none", shape[1], mean, std)
        self.grouping = grouping
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay
        )
        self.generator = torch.Generator().manual_seed(config.seed)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Train for an epoch; mean loss and accuracy while the weights change."""
        loader = DataLoader(
            self.images,
            self.config.batch_size,
            shuffle=True,
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            drop_last=True,
            generator=self.generator,
        )
        self.model.train()
        total, correct, seen = 0.0, 0, 0
        for step, (images, labels) in enumerate(loader):
            images, labels = images.to(self.device), labels.to(self.device)
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.config, (epoch - 1) * len(loader) + step, len(loader))
            self.optimizer.zero_grad()
            h = self.model.features(images)
            logits = self.model.head(h)
            loss = LOSSES[self.config.loss](h, logits, labels, self.model.head.weight)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
            correct += (logits.argmax(1) == labels).sum().item()
            seen += len(labels)
        return {"loss": total / len(loader), "accuracy": correct / seen}

    @torch.no_grad()
    def features(self, split: ImageSet) -> Tensor:
        """Features in batches of 128, (N, D) on the CPU."""
        images = _Images(split, self.grouping, self.test_transform)
        self.model.eval()
        loader = DataLoader(images, 128, num_workers=self.workers)
        return torch.cat([self.model.features(batch.to(self.device)).cpu() for batch, _ in loader])


class _Images(Dataset):
    """PIL images, as torchvision's data sets give them."""

    def __init__(self, split: ImageSet, grouping: Grouping, transform: nn.Module) -> None:
        self.pixels = split.images.permute(0, 2, 3, 1).squeeze(-1).numpy()  # (N, H, W, 3), or (N, H, W)
        self.labels = grouping.coarse(split.labels).tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def _transforms(augment: str, size: int, mean: list[float], std: list[float]) -> nn.Module:
    transforms = import_torchvision("torchvision.transforms")
    chain = {"none": [], "crop": [transforms.RandomCrop(size, padding=size // CROP_SHARE)]}
    chain["crop-flip"] = [*chain["crop"], transforms.RandomHorizontalFlip()]
    normalise = transforms.Normalize(mean, std)
    return transforms.Compose([*chain[augment], transforms.ToTensor(), normalise])
