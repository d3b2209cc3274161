"""Chapter 2's statements say what its measures hold."""

from __future__ import annotations

import numpy as np
import pytest

from nclib.chapters import coarse_labels, conclusions
from nclib.runs import evaluation


def measured(nc1, explained, rng):
    """Measures of a run at five epochs, of which the third lies halfway."""
    return [
        {"epoch": epoch, "split": split, "nc1": a * (1 + 0.01 * x), "explained_variance": b + 0.01 * y}
        for epoch, a, b in zip((0, 3, 10, 17, 20), nc1, explained, strict=True)
        for split, (x, y) in zip(("train", "test"), rng.standard_normal((2, 2)), strict=True)
    ]


def verdicts(nc1=(8, 4, 2, 1, 0.05), explained=(0.1, 0.5, 0.6, 0.5, 0.4)):
    rng = np.random.default_rng(0)
    measures = {"a": [measured(nc1, explained, rng) for _ in range(5)]}
    said = coarse_labels.statements(measures, {"a": {"train": 100, "test": 50}})
    return [row["verdict"] for row in conclusions.show(*said).rows]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ["holds"] * 4),
        ({"explained": (0.0,) * 5}, ["holds", "does not hold", "undecided", "undecided"]),
        ({"explained": (0.5, 0.4, 0.3, 0.3, 0.4)}, ["holds", "holds", "does not hold", "does not hold"]),
        ({"nc1": (8, 8, 8, 8, 7)}, ["does not hold", "holds", "holds", "holds"]),
    ],
)
def test_the_measures_decide(changed, expected):
    assert verdicts(**changed) == expected


def test_of_a_run(tiny_run):
    rows = evaluation.measures(tiny_run)
    said = coarse_labels.statements({"a": [rows]}, {"a": {"train": 1437, "test": 360}})
    end = evaluation.mean_explained_variance(tiny_run, "test")
    assert said[1].cases[0].values == [pytest.approx(end)]
    start = evaluation.mean_explained_variance(tiny_run, "test", 0)
    assert said[2].cases[0].values == [pytest.approx(end - start)]
    assert [each.cases[0].n for each in said] == [1437, 360, 360, 360]
