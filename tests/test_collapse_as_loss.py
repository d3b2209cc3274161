"""Statements about the NC loss change when the runs do."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from nclib.chapters import collapse_as_loss, conclusions

ALONG = collapse_as_loss.along_principal_directions


def run(seed: int, accuracy: float, nc1: float, explained: float, kmeans: float):
    """A stand-in whose numbers scatter a little from seed to seed."""
    by = 0.001 * (seed * 7 % 5)
    return SimpleNamespace(
        config=SimpleNamespace(seed=seed, epochs=10),
        history=[{"test_accuracy": accuracy + by}],
        measured_epochs=[0, 1, 10],
        moments=lambda split: SimpleNamespace(counts=torch.tensor([50, 50])),
        nc1=nc1 * (1 + by),
        explained=explained + by,
        found={"probe": 0.95 + by, "reconstruction": {"kmeans": {"test": kmeans - by}}},
    )


def along(run, counts) -> list[float]:
    """Siblings lie apart along the second direction where k-means fails, else along the fourth."""
    apart = run.found["reconstruction"]["kmeans"]["test"] < 0.8
    return [(0.8 if apart and count > 1 else 0.1) + 0.001 * run.config.seed for count in counts]


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    monkeypatch.setattr(collapse_as_loss, "coarse_nc1", lambda run, epoch=-1: run.nc1)
    monkeypatch.setattr(collapse_as_loss, "mean_explained_variance", lambda run, split: run.explained)
    monkeypatch.setattr(collapse_as_loss, "results", lambda run, methods: run.found)
    monkeypatch.setattr(collapse_as_loss, "along_principal_directions", along)


def verdicts(plain: tuple, nc: tuple) -> list[str]:
    seeds = range(5)
    one = [run(seed, *plain) for seed in seeds]
    two = [run(seed + 0, *nc) for seed in seeds]
    for other in two:  # so that differences have a spread
        at = 0.002 * (other.config.seed % 3)
        other.nc1, other.explained = other.nc1 * (1 + at), other.explained - at
        other.history[0]["test_accuracy"] += at
    made = collapse_as_loss.statements(
        {"digits": {"cross entropy": one, "NC loss": two}},
        {"digits": {"all terms": one, "without NC3": two}},
        {"digits": {"cross entropy": one, "cross entropy, L2-normalised": two}},
        {"digits": {"NC loss": two}},
    )
    rows = conclusions.show(*made).rows
    return [row["verdict"] for row in rows]


def test_statements_change_with_the_runs():
    buried = verdicts((0.95, 0.5, 0.6, 0.9), (0.94, 0.1, 0.2, 0.6))
    assert buried == ["holds"] * 8
    none = verdicts((0.95, 0.1, 0.2, 0.9), (0.99, 0.5, 0.6, 0.94))
    assert none == ["holds", *["does not hold"] * 3, "holds", *["does not hold"] * 3]


def test_only_seeds_that_both_have_are_compared():
    first, second = ([run(seed, 0.9, 0.1, 0.2, 0.9) for seed in seeds] for seeds in ((0, 1, 2), (2, 3)))
    runs = {"digits": {"a": first, "b": second}}
    (case,) = collapse_as_loss._paired(runs, "a", "b", lambda run: run.nc1)
    assert case.values == [0.0] and case.n == 100


@pytest.mark.parametrize(("axis", "shares"), [(0, (1, 1)), (1, (0, 1)), (2, (0, 0))])
def test_siblings_apart_along_an_axis(axis, shares):
    """Boxes whose sides fall by half; two halves of each are moved apart by less than its next side."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4) * torch.tensor([1.0, 0.5, 0.25, 0.125])
    h = torch.cat([corners, 10 + corners]).repeat(2, 1)  # two super-classes, each with two fine classes
    coarse = torch.arange(2).repeat_interleave(16).repeat(2)
    fine = torch.arange(2).repeat_interleave(32)
    h[fine == 1, axis] += 0.01
    f = SimpleNamespace(h=h, coarse=coarse, fine=2 * coarse + fine)
    shifted = SimpleNamespace(features=lambda split: f)
    assert ALONG(shifted, (1, 2)) == pytest.approx(shares, abs=1e-5)


def test_one_fine_class_lies_along_no_direction():
    f = SimpleNamespace(h=torch.eye(4), coarse=torch.zeros(4, dtype=int), fine=torch.zeros(4, dtype=int))
    alone = SimpleNamespace(features=lambda split: f)
    assert math.isnan(*ALONG(alone, [1]))
