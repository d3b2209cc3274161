"""Statements about the NC loss change when the runs do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from nclib.chapters import collapse_as_loss, conclusions


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


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    monkeypatch.setattr(collapse_as_loss, "coarse_nc1", lambda run, epoch=-1: run.nc1)
    monkeypatch.setattr(collapse_as_loss, "mean_explained_variance", lambda run, split: run.explained)
    monkeypatch.setattr(collapse_as_loss, "results", lambda run, methods: run.found)


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
    )
    rows = conclusions.show(*made).rows
    return [row["verdict"] for row in rows]


def test_statements_change_with_the_runs():
    buried = verdicts((0.95, 0.5, 0.6, 0.9), (0.94, 0.1, 0.2, 0.6))
    assert buried == ["holds"] * 6
    none = verdicts((0.95, 0.1, 0.2, 0.9), (0.99, 0.5, 0.6, 0.94))
    assert none == ["holds", *["does not hold"] * 5]


def test_only_seeds_that_both_have_are_compared():
    first, second = ([run(seed, 0.9, 0.1, 0.2, 0.9) for seed in seeds] for seeds in ((0, 1, 2), (2, 3)))
    runs = {"digits": {"a": first, "b": second}}
    (case,) = collapse_as_loss._paired(runs, "a", "b", lambda run: run.nc1)
    assert case.values == [0.0] and case.n == 100
