"""Tables that several chapters show: how a run is described."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from nclib.chapters import tables
from nclib.config import CHOICES, recipe_config


@pytest.mark.parametrize(
    "grouping, labels",
    [("mod5", "5 super-classes (grouping mod5)"), ("none", "all 5 labels"),
     ((0, 1, 2, 3, 4, 4, 4, 4, 4, 4), "5 super-classes (grouped one by one)")],
)  # fmt: skip
def test_a_caption_says_what_was_trained(grouping, labels):
    config = recipe_config("cifar10-paper", grouping=grouping, epochs=7, width=8)
    run = SimpleNamespace(config=config, grouping=SimpleNamespace(num_coarse=5))
    assert tables.describe(run) == f"cifar10, {labels}, ResNet-18 of width 8, 7 epochs"


def test_every_network_has_a_name():
    assert set(tables.NETWORKS) == set(CHOICES["arch"])
