"""Chapter 1's statements say what its measures hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nclib.chapters import conclusions, neural_collapse
from nclib.runs import evaluation

N = {"a": {"train": 100, "test": 50}}
ACCURACY = (0.1, 0.9, 0.999, 1.0)


def measured(rng, nc1=(8, 2, 1, 0.8), test=2.0, nc4=0.001, accuracy=ACCURACY):
    return [
        {"epoch": epoch, "split": split, "nc4": nc4 * factor, "accuracy": seen,
         "nc1": value * factor * (test if split == "test" else 1)}
        for epoch, (value, seen) in enumerate(zip(nc1, accuracy, strict=True))
        for split, factor in zip(("train", "test"), 2 ** (0.02 * rng.standard_normal(2)), strict=True)
    ]  # fmt: skip


def rows(coarse_factor=1.2, **changed):
    rng = np.random.default_rng(0)
    fine = [measured(rng, **changed) for _ in range(5)]
    coarse = [measured(rng, **changed) for _ in range(5)]
    for of_run in coarse:
        for row in of_run:
            row["nc1"] *= coarse_factor
    return conclusions.show(*neural_collapse.statements(fine, coarse, {}, "a", N, (10, 10))).rows


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({}, set()),
        ({"nc1": (8, 8, 8, 7)}, {0}),
        ({"nc1": (8, 6, 4, 1)}, {0}),
        ({"coarse_factor": 4}, {1}),
        ({"test": 0.5}, {2}),
        ({"nc4": 0.1}, {3}),
    ],
)
def test_the_measures_decide(changed, wrong):
    found = rows(**changed)
    sentences = list(dict.fromkeys(row["statement"] for row in found))
    assert {sentences.index(row["statement"]) for row in found if row["verdict"] != "holds"} == wrong


def test_without_a_terminal_phase_nothing_is_said_about_it():
    found = rows(accuracy=(0.1, 0.5, 0.9, 1.0))
    assert not any("terminal phase" in row["statement"] for row in found)
    assert any("nearest class mean" in row["statement"] for row in found)
    found = rows(accuracy=(0.1, 0.5, 0.9, 0.99))
    assert not any("nearest class mean" in row["statement"] for row in found)


def test_of_a_run(tiny_run):
    measures = evaluation.measures(tiny_run)
    said = neural_collapse.statements([measures], [measures], {}, "a", N, (10, 10))
    train, test = (evaluation.coarse_nc1(tiny_run, split) for split in ("train", "test"))
    of = {statement.text: statement.cases for statement in said}
    (ratio,) = of["Test images collapse less than training images"][0].values
    assert ratio == pytest.approx(np.log2(test / train), rel=1e-5)
    (alike,) = (cases for text, cases in of.items() if "within a factor of two" in text)
    assert alike[0].values == [0]


@pytest.mark.parametrize(
    ("fine", "coarse", "expected"),
    [
        ((0.2, 0.1), (0.5, 0.3), "the fine labels"),
        ((0.5, 0.3), (0.2, 0.1), "the coarse labels"),
        ((0.5, 0.1), (0.2, 0.3), "neither, since the seeds overlap"),
        ((0.8, 0.82), (0.75, 0.79), "the fine labels"),  # NC1 itself says the opposite
    ],
)
def test_the_smaller_nc1(fine, coarse, expected):
    def of(ends):
        return [
            [{"split": "train", "nc1": 9}, {"split": "train", "nc1": x}, {"split": "test", "nc1": 1}]
            for x in ends
        ]

    assert (
        neural_collapse.smaller_at_the_end(
            {"fine": of(fine), "coarse": of(coarse)}, {"fine": 10, "coarse": 5}
        )
        == expected
    )
    page = (Path(__file__).parents[1] / "notebooks" / "01_neural_collapse.md").read_text("utf-8")
    assert f"\n- {expected}\n" in page
