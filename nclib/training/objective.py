"""What one step computes: images and labels to a loss, to be differentiated.

loss, hits = objective_on(device)(Objective(model, config), images, labels)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from nclib.config import RunConfig
from nclib.networks.models import Classifier
from nclib.networks.stacked import StackedPerceptrons
from nclib.training import distributed
from nclib.training.losses import LOSSES

COMPILED_FORMS = 64  # networks, losses and batch shapes that one process may compile


class Objective(nn.Module):
    """A network and its loss.

    ``forward`` maps images (B, C, H, W) and labels (B,) to the loss and to the number of images that the
    network classifies rightly, both scalar tensors; for S perceptrons as one network, (S, B, C, H, W) and
    (S, B) to tensors (S,). Nothing in it depends on seed, learning rate or weight decay, so that compiled
    code serves all runs of one shape.
    """

    def __init__(self, model: Classifier | StackedPerceptrons, config: RunConfig) -> None:
        super().__init__()
        self.model = model
        self.loss = config.loss
        self.bf16 = config.precision == "bf16"

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            h = distributed.gathered(self.model.features(images))
            logits = self.model.head(h)
        labels = distributed.gathered(labels)
        loss = LOSSES[self.loss](h.float(), logits.float(), labels, self.model.head.weight)
        return loss, (logits.argmax(-1) == labels).sum(-1)


def objective_on(device: torch.device) -> Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """How an objective is evaluated: compiled on CUDA, as it stands on a CPU, where compiling gains nothing.

    Collectives between processes are not compiled.
    """
    return compiled() if device.type == "cuda" and distributed.processes() == 1 else evaluate


def evaluate(objective: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return objective(images, labels)


@cache
def compiled(**options: str) -> Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """``evaluate``, compiled once per shape of network and batch, replayed as CUDA graphs.

    One function for all objectives: a further run of the same shape finds its code compiled.
    """
    torch._dynamo.config.recompile_limit = COMPILED_FORMS  # beyond its default of 8, torch stops compiling
    return torch.compile(evaluate, dynamic=False, fullgraph=True, **{"mode": "reduce-overhead"} | options)
