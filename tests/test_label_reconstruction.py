"""Chapter 5's statements say what its results hold."""

from __future__ import annotations

import numpy as np
import pytest

import nclib
from nclib.chapters import conclusions
from nclib.chapters import label_reconstruction as chapter
from nclib.runs.baselines import untrained
from nclib.runs.evaluation import fine_per_coarse

FEATURES = {"kmeans": 0.80, "spectral": 0.90, "tsne-kmeans": 0.95}
PIXELS = {"kmeans": 0.60, "spectral": 0.62, "tsne-kmeans": 0.64}


def result(found, pixels, probe, rng):
    def of(value):
        near = value + 0.01 * rng.standard_normal()
        return {"train": near, "test": near, "probe": near - 0.02, "confusion": np.full((4, 4), 25)}

    return {
        "reconstruction": {method: of(value) for method, value in found.items()},
        "pixels": pixels,
        "probe": probe,
        "chance": 0.52,
    }


def verdicts(found=FEATURES, pixels=PIXELS, initial=0.6, all_labels=0.92):
    rng = np.random.default_rng(0)
    results = {"a": [result(found, pixels, 0.93, rng) for _ in range(5)]}
    said = chapter.statements(results, {"a": 100}, "a", [initial] * 5, [all_labels] * 5)
    return [row["verdict"] for row in conclusions.show(*said).rows]


def test_structure_supports_every_statement():
    assert verdicts() == ["holds"] * 6


def test_guessing_supports_none():
    """Labels at random: nothing is recovered, no method is worst, no probe is near the other."""
    nothing = dict.fromkeys(FEATURES, 0.52)
    found = verdicts(found=nothing)
    assert found[:3] == ["does not hold"] * 3
    assert found[3] == "undecided"
    assert found[4:] == ["does not hold"] * 2


@pytest.mark.parametrize(
    ("changed", "at"),
    [({"pixels": dict.fromkeys(PIXELS, 0.97)}, 1), ({"initial": 0.9}, 2), ({"all_labels": 0.99}, 5)],
)
def test_a_better_reference_changes_its_sentence_only(changed, at):
    expected = ["holds"] * 6
    expected[at] = "does not hold"
    assert verdicts(**changed) == expected


def test_n_counts_images():
    rng = np.random.default_rng(0)
    said = chapter.statements({"a": [result(FEATURES, PIXELS, 0.9, rng)]}, {"a": 99}, "a", [0.5], [])
    assert [[case.n for case in each.cases] for each in said] == [[400], [400, 400], [400], [99]]


def test_features_at_initialisation(tiny_run):
    f = untrained(tiny_run, "train")
    pseudo = nclib.reconstruct_labels(f.h, f.coarse, fine_per_coarse(tiny_run), "kmeans")
    assert chapter.initial_accuracy(tiny_run) == nclib.match_labels(pseudo, f.fine).accuracy
