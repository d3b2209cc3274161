"""Losses against formulas written out."""

from __future__ import annotations

import math

import pytest
import torch

from nclib.config import CHOICES
from nclib.losses import LOSSES

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]])
LABELS = torch.tensor([0, 1])


def test_every_choice_has_a_loss():
    assert set(LOSSES) == set(CHOICES["loss"])


def test_cross_entropy():
    first = -2.0 + math.log(math.exp(2) + math.exp(-1) + math.exp(0.5))
    second = math.log(2 + math.exp(3))
    assert float(LOSSES["cross-entropy"](LOGITS, LABELS)) == pytest.approx((first + second) / 2)


def test_squared_error():
    gaps = [2 - 1, -1, 0.5, 0, 0 - 1, 3]
    assert float(LOSSES["mse"](LOGITS, LABELS)) == pytest.approx(sum(g**2 for g in gaps) / 6)


@pytest.mark.parametrize("name", LOSSES)
def test_keeps_float64(name):
    assert LOSSES[name](LOGITS.double(), LABELS).dtype == torch.float64
