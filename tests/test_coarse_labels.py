"""Chapter 2's statements say what its measures hold."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import nclib
from nclib.chapters import coarse_labels, conclusions
from nclib.data.datasets import load
from nclib.runs import evaluation


def test_what_nc1_sees_is_that_of_the_features(tiny_run):
    """By pseudo-inverses of the features themselves, in chapter 2 of one super-class after the other."""
    row = coarse_labels.directions_table({"a": [tiny_run]}).loc[("a", "test")]
    f = tiny_run.features("test")
    h, fine, coarse = f.h.double().numpy(), f.fine.numpy(), f.coarse.numpy()
    mu = np.stack([h[coarse == c].mean(axis=0) for c in range(coarse.max() + 1)])
    projection = np.linalg.pinv(mu - mu.mean(axis=0)) @ (mu - mu.mean(axis=0))  # (D, D)
    left = h - mu[coarse]
    offsets = np.stack([left[fine == c].mean(axis=0) for c in range(fine.max() + 1)])
    for title, x in {"variance, end": left, "fine offsets, end": offsets}.items():
        assert row[title] == f"{np.square(x @ projection).sum() / np.square(x).sum():.2f}"
    between = offsets[fine]  # (N, D)
    along = np.square(between @ projection).sum() / np.square(left @ projection).sum()
    rest = np.eye(len(projection)) - projection
    across = np.square(between @ rest).sum() / np.square(left @ rest).sum()
    assert coarse_labels.explained_along(tiny_run, "test") == pytest.approx((along, across), rel=1e-9)
    assert [row["explained along, end"], row["explained across, end"]] == [f"{along:.2f}", f"{across:.2f}"]


@pytest.mark.parametrize(("offsets", "expected"), [((0.9, 0.2), "observed"), ((0.4, 0.38), "not observed")])
def test_statements_on_directions_compare_both_ends_and_both_places(tiny_run, monkeypatch, offsets, expected):
    monkeypatch.setattr(coarse_labels, "_offsets_seen", lambda run, split, epoch=-1: offsets[epoch])
    monkeypatch.setattr(coarse_labels, "explained_along", lambda run, split: (0.1, sum(offsets) - 0.69))
    rows = conclusions.show(*coarse_labels.directions_statements({"a": [tiny_run]})).rows
    assert [row["verdict"] for row in rows] == [expected] * 2 + [
        "observed" if sum(offsets) > 1 else "not observed"
    ] * 2
    assert [row["n"] for row in rows[:2]] == [len(tiny_run.features(split).h) for split in ("test", "train")]


def test_structure_is_that_of_the_test_features_at_the_end(tiny_run):
    f = tiny_run.features("test")
    table = coarse_labels.structure_table(tiny_run)
    assert table["super-class"].tolist() == [c for c in range(5) for _ in range(2)]
    for c in range(10):
        row = table.loc[tiny_run.grouping.fine_names[c]]
        share, ratio = (measure(f.h, f.fine, f.coarse) for measure in (nclib.explained_variance, nclib.msdr))
        assert row.tolist() == [c % 5, round(float(share[c % 5]), 2), round(float(ratio[c]), 2)]


def test_ten_labels_are_joined_modulo_five(tiny_run):
    run = SimpleNamespace(grouping=SimpleNamespace(fine_to_coarse=torch.arange(10), num_coarse=10))
    assert coarse_labels._joined(run).tolist() == [0, 1, 2, 3, 4] * 2
    assert coarse_labels._joined(tiny_run) is tiny_run.grouping.fine_to_coarse


def test_the_figure_of_directions_has_what_the_table_has(tiny_run):
    axes = coarse_labels.directions_figure({"a": [tiny_run]}, "A title")
    row = coarse_labels.directions_table({"a": [tiny_run]}).loc[("a", "train")]
    assert len(axes.figure.axes) == 4
    for panel, title in zip(axes.figure.axes[:2], ("variance", "fine offsets"), strict=True):
        (line,) = panel.lines
        shares = line.get_ydata()
        assert list(line.get_xdata()) == tiny_run.measured_epochs
        assert [row[f"{title}, {when}"] for when in ("initialisation", "end")] == [
            f"{share:.2f}" for share in (shares[0], shares[-1])
        ]


def measured(nc1, explained, rng):
    """Measures of a run at five epochs, of which the third lies halfway."""
    return [
        {"epoch": epoch, "split": split, "nc1": a * (1 + 0.01 * x), "explained_variance": b + 0.01 * y}
        for epoch, a, b in zip((0, 3, 10, 17, 20), nc1, explained, strict=True)
        for split, (x, y) in zip(("train", "test"), rng.standard_normal((2, 2)), strict=True)
    ]


def verdicts(nc1=(8, 4, 2, 1, 0.05), explained=(0.1, 0.5, 0.6, 0.5, 0.4), elsewhere=0.1):
    rng = np.random.default_rng(0)
    measures = {"a": [measured(nc1, explained, rng) for _ in range(5)]}
    said = coarse_labels.statements(measures, {"a": {"train": 100, "test": 50}}, {"a": elsewhere})
    return [row["verdict"] for row in conclusions.show(*said).rows]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ["holds"] * 6),
        ({"explained": (0.0,) * 5},
         ["holds", "does not hold", *["undecided"] * 2, *["does not hold"] * 2]),  # no fall of 0.05
        ({"explained": (0.5, 0.4, 0.3, 0.3, 0.4)}, ["holds", "holds", *["does not hold"] * 4]),
        ({"nc1": (8, 8, 8, 8, 7)}, ["does not hold", *["holds"] * 5]),
        ({"elsewhere": 0.5}, ["holds", "does not hold", *["holds"] * 4]),  # more in the pixels
        ({"explained": (-0.1, 0.2, 0.2, 0.1, 0.0), "elsewhere": -0.1},  # above them, below 0.05
         ["holds", "does not hold", *["holds"] * 4]),
        ({"explained": (0.1, 0.5, 0.42, 0.4, 0.4)},  # a fall of 0.02
         ["holds"] * 4 + ["does not hold"] * 2),
    ],
)  # fmt: skip
def test_the_measures_decide(changed, expected):
    assert verdicts(**changed) == expected


def test_of_a_run(tiny_run):
    rows = evaluation.measures(tiny_run)
    said = coarse_labels.statements({"a": [rows]}, {"a": {"train": 1437, "test": 360}}, {"a": 0.2})
    end = evaluation.mean_explained_variance(tiny_run, "test")
    assert said[1].cases[0].values == [pytest.approx(end - 0.2)]
    start = evaluation.mean_explained_variance(tiny_run, "test", 0)
    assert said[2].cases[0].values == [pytest.approx(end - start)]
    assert [[case.n for case in each.cases] for each in said] == [[1437], [360], [360, 1437], [360, 1437]]
    on_train = evaluation.mean_explained_variance(tiny_run) - evaluation.mean_explained_variance(
        tiny_run, "train", 0
    )
    assert said[2].cases[1].values == [pytest.approx(on_train)]


def test_elsewhere_is_the_most_of_pixels_and_initialisation(tiny_run):
    images = load("digits").test
    x = images.images.flatten(1).double() / 255
    squares = torch.cdist(x, x) ** 2
    d = np.empty((10, 10))  # mean square distance over distinct pairs
    for i, j in np.ndindex(10, 10):
        between = squares[images.labels == i][:, images.labels == j]
        d[i, j] = between.sum() / (between.numel() - (i == j) * len(between))
    shares = []
    for c in range(5):  # joined with c + 5
        within = (d[c, c] + d[c + 5, c + 5]) / 2  # twice the mean variance
        gap = (d[c, c + 5] - within) / 4  # of the means, around the mean of both
        shares.append(gap / (gap + within / 2))
    start = evaluation.mean_explained_variance(tiny_run, "test", 0)
    expected = max(np.mean(shares), start)  # pixels are float32 there: errors near 1e-7 of a share
    assert coarse_labels.explained_elsewhere([tiny_run], "test") == pytest.approx(expected, rel=1e-5)
