"""Chapter 3's statements say what its distances hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import nclib
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


def test_siblings_table_holds_the_stages(tiny_run):
    group = tiny_run.grouping.fine_to_coarse
    row = chapter.siblings_table({"digits": [tiny_run]}).loc["digits"]
    first = chapter.contrasts(distances_of(tiny_run.moments("test", 0)), group)
    last = chapter.contrasts(distances_of(tiny_run.moments("test")), group)
    assert row["siblings, initialisation"] == f"{first['siblings']:.2f}"
    assert row["siblings, end"] == f"{last['siblings']:.2f}"
    assert row["other super-classes, end"] == f"{last['others']:.2f}"


def test_four_stages_of_one_split_stand_in_two_rows(tiny_run):
    stages = chapter.distances_over_training(tiny_run, "test")
    axes = chapter.relative_distances_figure({"test": stages}, tiny_run.grouping)
    titled = [panel for panel in axes.figure.axes if panel.get_title()]
    assert [panel.get_title() for panel in titled] == list(stages)
    assert [panel.get_subplotspec().get_geometry()[:3] for panel in titled] == [(2, 2, at) for at in range(4)]


def test_explained_by_distances_is_that_of_the_samples():
    """Three classes in one super-class, two in another, one alone; equal sizes, unequal widths."""
    rng = np.random.default_rng(0)
    group, n = torch.tensor([0, 0, 0, 1, 1, 2]), 400
    means, widths = 2 * rng.normal(size=(6, 4)), rng.uniform(0.5, 2, size=(6, 1, 1))
    h = torch.tensor(means[:, None] + widths * rng.normal(size=(6, n, 4))).flatten(0, 1)
    fine = torch.arange(6).repeat_interleave(n)
    expected = float(nclib.explained_variance(h, fine, group[fine]).nanmean())
    found = chapter.explained_by(nclib.class_distances(h, fine), group)
    assert found == pytest.approx(expected, rel=0.01)  # bias of the means, trace / n, is a hundredth of a gap
