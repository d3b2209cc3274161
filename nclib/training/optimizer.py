"""Stochastic gradient descent with momentum: the function behind ``torch.optim.SGD``, without the class.

optimizer = SGD(model.parameters(), momentum=0.9, weight_decay=5e-4)
loss.backward()
optimizer.step(lr)

The class loads torch's compiler when the first optimiser is made, which takes as long as training a small
network, and makes each step of one a little slower: see ``benchmarks/training.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.sgd import sgd


class SGD:
    """What ``torch.optim.SGD(..., fused=True)`` does to parameters; the decay acts on every one.

    Attributes
    ----------
    parameters : that are stepped, each once it has a gradient.
    buffers : their momentum; empty before the first step, and without momentum.
    """

    def __init__(self, parameters: Iterable[Tensor], momentum: float, weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.momentum, self.weight_decay = momentum, weight_decay
        self.buffers: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Step along the gradients, and forget them."""
        stepped = [p for p in self.parameters if p.grad is not None]
        buffers = [self.buffers.get(p) for p in stepped] if self.momentum else []
        sgd(
            stepped,
            [p.grad for p in stepped],
            buffers,
            fused=True,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=lr,
            dampening=0,
            nesterov=False,
            maximize=False,
        )
        if self.momentum:
            self.buffers = dict(zip(stepped, buffers, strict=True))
        for p in stepped:
            p.grad = None
