"""Statements about the NC loss change when the runs do."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
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
        moments=lambda split, epoch=-1: SimpleNamespace(counts=torch.tensor([50, 50])),
        nc1=nc1 * (1 + by),
        explained=explained + by,
        found={"probe": 0.95 + by, "reconstruction": {"kmeans": {"test": kmeans - by}}},
    )


def along(run, counts, permuted=False) -> list[float]:
    """Siblings lie apart along the second direction where k-means fails, else along the fourth."""
    if permuted:
        return [run.found.get("by chance", 0.4)] * len(counts)
    apart = run.found["reconstruction"]["kmeans"]["test"] < 0.8
    return [(0.8 if apart and count > 1 else 0.1) + 0.001 * run.config.seed for count in counts]


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    monkeypatch.setattr(
        collapse_as_loss, "coarse_nc1", lambda run, epoch=-1: run.nc1 * (3 if epoch == 0 else 1)
    )
    monkeypatch.setattr(collapse_as_loss, "mean_explained_variance", lambda run, split: run.explained)
    monkeypatch.setattr(collapse_as_loss, "results", lambda run, methods: run.found)
    monkeypatch.setattr(collapse_as_loss, "along_principal_directions", along)


def verdicts(plain: tuple, nc: tuple) -> list[str]:
    seeds = range(5)
    one = [run(seed, *plain) for seed in seeds]
    two = [run(seed, *nc) for seed in seeds]
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


def test_what_permuted_labels_show_is_no_structure(monkeypatch):
    """Siblings lie apart outside the first direction by 0.9, and along three by 0.8; so do random parts."""
    located = {}
    for chance in (0.05, 0.95):  # along one and three directions: outside the first 0.95 and 0.05
        runs = [run(seed, 0.94, 0.1, 0.2, 0.6) for seed in range(3)]
        for one in runs:
            one.found["by chance"] = chance
        located[chance] = collapse_as_loss._located({"digits": {"NC loss": runs}}, "NC loss")
    (outside,), (three,) = located[0.05]
    np.testing.assert_allclose(outside.values, [0.9 - 0.95 - s / 1000 for s in range(3)], rtol=1e-9)
    np.testing.assert_allclose(three.values, [0.8 - 0.5 + s / 1000 for s in range(3)], rtol=1e-9)
    (outside,), (three,) = located[0.95]
    np.testing.assert_allclose(outside.values, [0.9 - 0.5 - s / 1000 for s in range(3)], rtol=1e-9)
    np.testing.assert_allclose(three.values, [0.8 - 0.95 + s / 1000 for s in range(3)], rtol=1e-9)


def test_permuted_labels_keep_their_super_class():
    """Two boxes far apart: labels permuted between them would lie apart along the line that joins them."""
    rng = np.random.default_rng(0)
    coarse = torch.arange(2).repeat_interleave(100)
    h = torch.tensor(rng.normal(size=(200, 5))) + 100 * coarse[:, None]
    f = SimpleNamespace(h=h, coarse=coarse, fine=2 * coarse + torch.arange(200) % 2)
    shifted = SimpleNamespace(features=lambda split: f)
    (five,) = ALONG(shifted, [5], permuted=True)
    assert five == pytest.approx(1)
    assert ALONG(shifted, [1], permuted=True) != ALONG(shifted, [1])


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
