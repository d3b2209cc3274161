"""Convolutions as products over patches are torch's convolutions, with their gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from nclib.networks import models, patches

pytestmark = pytest.mark.numeric

SIZES = [(1, (4, 4)), (2, (8, 8)), (2, (7, 7)), (1, (5, 3)), (2, (6, 3)), (1, (1, 1)), (3, (9, 7))]


def drawn(*shape, requires_grad=True):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=requires_grad)


@pytest.mark.parametrize(("stride", "size"), SIZES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_output_and_gradients_are_those_of_the_convolution(stride, size, layout):
    x, weight = drawn(2, 3, *size), drawn(5, 3, 3, 3)
    ours = patches.convolution(*(t.contiguous(memory_format=layout) for t in (x, weight)), stride)
    theirs = F.conv2d(x, weight, stride=stride, padding=1)
    torch.testing.assert_close(ours, theirs)
    given = drawn(*theirs.shape, requires_grad=False)
    for mine, its in zip(*(torch.autograd.grad(y, (x, weight), given) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(mine, its)


def test_gradients_are_those_of_finite_differences():
    assert torch.autograd.gradcheck(patches.convolution, (drawn(2, 2, 3, 4), drawn(3, 2, 3, 3), 2))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_layer_under_autocast_is_as_exact_as_the_usual_one(monkeypatch, stride):
    """Inputs that bf16 holds exactly: what is left is the rounding of each result, half of 2^-8 of it."""
    layer = models._convolution(16, 8, 3, stride)[0]
    x = drawn(4, 16, 4 * stride, 4 * stride, requires_grad=False).bfloat16().float()
    with torch.no_grad():
        layer.weight.copy_(layer.weight.bfloat16())
    exact = F.conv2d(x.double(), layer.weight.detach().double(), stride=stride, padding=1)
    monkeypatch.setattr(patches, "pays", lambda x, stride: True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    # the sum of 144 products is taken in float32: its own error, 144 x 2^-24 of their sizes, adds to that
    sizes = F.conv2d(x.double().abs(), layer.weight.detach().double().abs(), stride=stride, padding=1)
    bound = exact.abs() * 2.0**-8 + sizes * 144 * 2.0**-23
    assert ((y.double() - exact).abs() <= bound).all()
    y.float().square().sum().backward()
    assert layer.weight.grad.dtype == torch.float32


def test_it_is_used_where_it_was_measured_to_be_faster(monkeypatch):
    small, large = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 8, 8)
    for amx in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        with torch.autocast("cpu", torch.bfloat16):
            assert patches.pays(small, 1) == patches.pays(large, 2) == amx
            assert not patches.pays(large, 1)
        assert not patches.pays(small, 1)  # float32, as features are extracted
