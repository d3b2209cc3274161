"""One training in several processes, a device for each, started by torchrun.

    torchrun --nproc-per-node 4 -m nclib.cli train cifar10-paper

Every process draws the same batches and keeps its share of each. Features are gathered before the loss
and batch normalisation takes its statistics over all processes, so that a batch gives the loss, the
gradients and the statistics that one process would get, up to rounding. Only the first process
measures and writes. In a process of its own, all functions here do nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes if torchrun started this one: NCCL with CUDA, else gloo."""
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        yield
        return
    cuda = torch.cuda.is_available() and os.environ.get("NCLIB_DEVICE", "cuda") == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0 on."""
    return dist.get_rank() if processes() > 1 else 0


def leads() -> bool:
    """Whether this process measures and writes."""
    return rank() == 0


def agreed(answer: bool) -> bool:
    """What the leading process answers, on all of them; also a point where all of them meet."""
    if processes() == 1:
        return answer
    answers = [answer]
    dist.broadcast_object_list(answers)
    return answers[0]


def share(batches: Tensor) -> Tensor:
    """This process's part of every batch. (steps, B, ...) -> (steps, B / processes, ...)."""
    each = batches.shape[1] // processes()
    return batches[:, rank() * each : (rank() + 1) * each]


def gathered(part: Tensor) -> Tensor:
    """The parts of all processes, one after another. (B / processes, ...) -> (B, ...), differentiable."""
    return _Gather.apply(part) if processes() > 1 else part


def wrapped(module: nn.Module, unused: bool) -> nn.Module:
    """The module, its gradients averaged over all processes; ``unused``: some parameters have none."""
    if processes() == 1:
        return module
    for name, child in list(module.named_modules()):
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            module.set_submodule(name, SharedBatchNorm.like(child))
    return DistributedDataParallel(module, find_unused_parameters=unused)


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the batch of all processes.

    torch's own ``SyncBatchNorm`` refuses a CPU, and so could not be tested where there is no GPU.
    """

    @classmethod
    def like(cls, module: nn.BatchNorm1d | nn.BatchNorm2d) -> SharedBatchNorm:
        """One with the parameters and buffers of an ordinary batch normalisation, which it shares."""
        new = cls(module.num_features, module.eps, module.momentum).train(module.training)
        new.weight, new.bias = module.weight, module.bias
        for name, buffer in module.named_buffers():
            setattr(new, name, buffer)
        return new

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        over = [d for d in range(x.ndim) if d != 1]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = _Sum.apply(wide.mean(over)) / processes()  # (C,)
        centred = wide - mean.view(shape)
        variance = _Sum.apply((centred**2).mean(over)) / processes()
        self._remember(mean.detach(), variance.detach(), x.numel() // x.shape[1] * processes())
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """Move the running statistics towards those of a batch of n values per channel."""
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (n / (n - 1)), self.momentum)

    def _check_input_dim(self, x: Tensor) -> None:
        """Any rank from 2 on will do."""


class _Sum(torch.autograd.Function):
    """Sum over processes; so is its gradient, for each of them depends on it."""

    @staticmethod
    def forward(context: Any, part: Tensor) -> Tensor:
        total = part.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)


class _Gather(torch.autograd.Function):
    """All processes then compute the same loss, and DDP averages their gradients.

    Each backpropagates its own part of the batch alone: times the number of processes, that average is
    the sum over parts.
    """

    @staticmethod
    def forward(context: Any, part: Tensor) -> Tensor:
        parts = [torch.empty_like(part) for _ in range(processes())]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient.chunk(processes())[rank()] * processes()
