"""Chapter 4's statements say what its neighbours hold."""

from __future__ import annotations

import numpy as np
import pytest

from nclib.chapters import conclusions
from nclib.chapters import tsne as chapter
from nclib.runs import baselines

GRID = [0.93, 0.95, 0.94]


def verdicts(features=0.95, untrained=0.8, pixels=0.85, grid=GRID):
    rng = np.random.default_rng(0)
    found = [
        {"test": {"all": {"features": features + 0.01 * rng.standard_normal(), "untrained": untrained,
                          "pixels": pixels}, "chance": 0.5, "n": 100}}
        for _ in range(5)
    ]  # fmt: skip
    said = chapter.statements({"a": found}, {"a": grid}, 50)
    return [row["verdict"] for row in conclusions.show(*said).rows]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ["holds", "holds", "observed"]),
        ({"features": 0.5}, ["does not hold", "does not hold", "observed"]),
        ({"untrained": 0.99}, ["does not hold", "holds", "observed"]),
        ({"pixels": 0.99}, ["holds", "does not hold", "observed"]),
        ({"pixels": 0.94}, ["holds", "does not hold", "observed"]),
        ({"grid": [0.6, 0.9]}, ["holds", "holds", "not observed"]),
    ],
)
def test_the_neighbours_decide(changed, expected):
    assert verdicts(**changed) == expected


def test_of_a_run(tiny_run):
    found = baselines.neighbours(tiny_run)
    said = chapter.statements({"a": [found]}, {"a": GRID}, 50)
    above = found["test"]["all"]["features"] - found["test"]["all"]["untrained"]
    assert said[0].cases[0].values == [pytest.approx(above)]
    assert [each.cases[0].n for each in said] == [360, 360, 50]
    assert chapter.settings_table({"a": [0.5, 0.75, 0.6]}).loc["a"].tolist() == ["0.500", "0.750"]
