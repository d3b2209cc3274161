"""Chapter 3's statements say what its distances hold."""

from __future__ import annotations

import numpy as np
import pytest

from nclib.chapters import conclusions
from nclib.chapters import distance_heatmaps as chapter
from nclib.measures.distances import distances_of

TRAINED = {
    "pixels": (1.1, 1.2),
    "initialisation": (1.1, 1.2),
    "end": (1.5, 9.0),
    "end, train": (1.8, 12.0),
}  # R of siblings and of other classes


def verdicts(**changed):
    rng = np.random.default_rng(0)
    runs = [
        {
            stage: {"siblings": a + 0.01 * rng.standard_normal(), "others": b}
            for stage, (a, b) in (TRAINED | changed).items()
        }
        for _ in range(5)
    ]
    said = chapter.statements_of({"a": runs}, {"a": 100})
    return [row["verdict"] for row in conclusions.show(*said).rows]


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({}, []),
        ({"initialisation": (1.1, 2.0)}, [0]),
        ({"end": TRAINED["initialisation"]}, [1, 2, 3]),  # nothing was learnt: undecided where noise decides
        ({"pixels": (4.0, 4.2)}, [3]),
        ({"end": (1.9, 9.0)}, [4]),
    ],
)
def test_the_distances_decide(changed, wrong):
    found = verdicts(**changed)
    assert [at for at, verdict in enumerate(found) if verdict != "holds"] == wrong


def test_of_a_run(tiny_run):
    said = chapter.statements({"a": [tiny_run]})
    group = tiny_run.grouping.fine_to_coarse
    first, last = (
        chapter.contrasts(distances_of(tiny_run.moments("test", epoch)), group)["siblings"]
        for epoch in (tiny_run.measured_epochs[0], tiny_run.measured_epochs[-1])
    )
    expected = (last - 1) / (last + 1) - (first - 1) / (first + 1)
    assert said[2].cases[0].values == [pytest.approx(expected)]
    assert said[2].cases[0].n == 360
