"""Chapter 3's statements say what its distances hold."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import nclib
from nclib.chapters import conclusions
from nclib.chapters import distance_heatmaps as chapter
from nclib.chapters.figures import WIDTH
from nclib.data.grouping import Grouping
from nclib.measures.distances import distances_of

TRAINED = {
    "pixels": (1.1, 1.2),
    "initialisation": (1.1, 1.2),
    "end": (1.5, 9.0),
}  # on test, R of siblings and of other classes
ON_TRAIN = TRAINED | {"end": (1.8, 12.0)}


def verdicts(**changed):
    rng = np.random.default_rng(0)
    runs = [
        {
            split: {
                stage: {"siblings": a + 0.01 * rng.standard_normal(), "others": b}
                for stage, (a, b) in of_split.items()
            }
            for split, of_split in {"test": TRAINED | changed, "train": ON_TRAIN}.items()
        }
        for _ in range(5)
    ]
    said = chapter.statements_of({"a": runs}, {"a": {"test": 100, "train": 200}})
    return [row["verdict"] for row in conclusions.show(*said).rows]


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({}, []),
        ({"initialisation": (1.1, 2.0)}, [0]),
        ({"end": TRAINED["initialisation"]}, [1, 2, 4]),  # nothing was learnt: undecided where noise decides
        ({"pixels": (4.0, 4.2)}, [4]),
        ({"end": (1.9, 9.0)}, [6]),
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
    assert [case.n for case in said[2].cases] == [360, 1437] * 2
    assert [case.name for case in said[2].cases][1] == "a, train, against initialisation"


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


def ten_classes(siblings: float) -> torch.Tensor:
    """Class distances whose R is ``siblings`` inside pairs of neighbours and 20 elsewhere."""
    relative = torch.full((10, 10), 20.0)
    for first in range(0, 10, 2):
        relative[first : first + 2, first : first + 2] = siblings
    return relative.fill_diagonal_(1.0)


@pytest.mark.parametrize(
    "splits, siblings, written",
    [
        (["test"], 2.06, "2.06"),
        (["test"], 12.34, "12.3"),
        (["train", "test"], 2.06, "2.1"),
        (["train", "test"], 12.34, "12"),
    ],
)
def test_numbers_stay_inside_their_cells(splits, siblings, written):
    names = tuple(f"automobile{n}" for n in range(10))  # as long as names of CIFAR-10 are
    grouping = Grouping(torch.arange(10) // 2, names, tuple("abcde"))
    rows = {split: {f"stage {n}": ten_classes(siblings) for n in range(4)} for split in splits}
    figure = chapter.relative_distances_figure(rows, grouping).figure
    assert figure.get_size_inches()[0] <= WIDTH  # a wider one is made narrower, its writing stays
    figure.draw_without_rendering()
    for panel in [panel for panel in figure.axes if panel.get_title()]:
        cell = panel.get_window_extent().width / 10
        assert [text.get_text() for text in panel.texts] == [written] * 5
        assert all(text.get_window_extent().width < cell for text in panel.texts)
    plt.close(figure)
