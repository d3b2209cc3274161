"""3 x 3 convolutions of very small images as matrix products.

y = convolution(x, weight, stride)   # that of F.conv2d(x, weight, stride=stride, padding=1)

At 4 x 4 pixels the library's kernels for processors with AMX reach a third of what its matrix product does
there, worst for the gradient of the weights (``benchmarks/wide.py``, page "Training speed").
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LARGEST = 4  # side of the output images; at 8 x 8 pixels the usual convolution is faster again


def pays(x: Tensor, stride: int) -> bool:
    """Whether the product is the faster way: bf16 on a CPU with AMX, and at most 4 x 4 pixels come out.

    Compiled code has the usual convolution: it can neither ask the processor nor trace that gradient.
    """
    if torch.compiler.is_compiling():
        return False
    small = max(x.shape[2:]) <= LARGEST * stride
    return small and x.device.type == "cpu" and _in_bf16(x) and torch.cpu._is_amx_tile_supported()


def convolution(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """(B, C, H, W) images, (K, C, 3, 3) weight -> (B, K, H / stride, W / stride), rounded up; zeros around.

    Both are of one dtype. Of bf16 the sums are taken in float32, as those of the usual convolution are.
    """
    return _Convolution.apply(x, weight, stride)


def _in_bf16(x: Tensor) -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        rows = _patches(x, stride)  # (B, H', W', 9 C)
        ctx.save_for_backward(rows, weight)
        ctx.size, ctx.stride = x.shape, stride
        return (rows @ _matrix(weight).T).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        rows, weight = ctx.saved_tensors
        gradient = gradient.permute(0, 2, 3, 1)  # (B, H', W', K)
        of_weight = gradient.flatten(0, 2).T @ rows.flatten(0, 2)  # (K, 9 C)
        of_weight = of_weight.view(len(weight), 3, 3, -1).permute(0, 3, 1, 2)
        of_x = _overlapped(gradient @ _matrix(weight), ctx.size, ctx.stride)
        return of_x, of_weight, None


def _matrix(weight: Tensor) -> Tensor:
    """(K, C, 3, 3) -> (K, 9 C), the order of ``_patches``; a view where the weight is channels-last."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _patches(x: Tensor, stride: int) -> Tensor:
    """(B, C, H, W) -> (B, H', W', 9 C): what each output pixel sees, row by row."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))  # (B, H + 2, W + 2, C)
    seen = padded.unfold(1, 3, stride).unfold(2, 3, stride)  # (B, H', W', C, 3, 3)
    return seen.permute(0, 1, 2, 4, 5, 3).flatten(3)


def _overlapped(rows: Tensor, size: torch.Size, stride: int) -> Tensor:
    """The transpose of ``_patches``: patches are added where they overlap, (B, C, H, W)."""
    images, channels, high, wide = size
    rows = rows.unflatten(3, (3, 3, channels))
    padded = rows.new_zeros(images, high + 2, wide + 2, channels)
    for i in range(3):
        for j in range(3):
            down, right = stride * rows.shape[1] + i, stride * rows.shape[2] + j
            padded[:, i:down:stride, j:right:stride] += rows[:, :, :, i, j]
    return padded[:, 1:-1, 1:-1].permute(0, 3, 1, 2)
