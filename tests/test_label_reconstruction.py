"""Chapter 5's statements say what its results hold."""

from __future__ import annotations

import numpy as np
import pytest

import nclib
from nclib.chapters import conclusions, tables
from nclib.chapters import label_reconstruction as chapter
from nclib.runs import baselines
from nclib.runs.baselines import untrained
from nclib.runs.evaluation import METHOD_NAMES, fine_per_coarse

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
    """Of every statement, those of its cases."""
    rng = np.random.default_rng(0)
    results = {"a": [result(found, pixels, 0.93, rng) for _ in range(5)]}
    said = chapter.statements(
        results, {"a": 100}, "a", [dict.fromkeys(FEATURES, initial)] * 5, [all_labels] * 5
    )
    rows = conclusions.show(*said).rows
    return [[row["verdict"] for row in rows if row["statement"] == each.text] for each in said]


HOLDS = [["holds"] * cases for cases in (1, 3, 3, 2, 1, 1)]


def test_structure_supports_every_statement():
    assert verdicts() == HOLDS


def test_guessing_supports_none():
    """Labels at random: nothing is recovered, no method is worst, no probe is near the other."""
    nothing = dict.fromkeys(FEATURES, 0.52)
    found = verdicts(found=nothing)
    assert {verdict for at in (0, 1, 2, 4, 5) for verdict in found[at]} == {"does not hold"}
    assert found[3] == ["undecided"] * 2


@pytest.mark.parametrize(
    ("changed", "at"),
    [({"pixels": dict.fromkeys(PIXELS, 0.97)}, 1), ({"initial": 0.98}, 2), ({"all_labels": 0.99}, 5)],
)
def test_a_better_reference_changes_its_sentence_only(changed, at):
    expected = [*HOLDS]
    expected[at] = ["does not hold"] * len(HOLDS[at])
    assert verdicts(**changed) == expected


def test_methods_are_judged_one_by_one():
    """k-means gains what t-SNE + k-means loses."""
    assert verdicts(pixels=PIXELS | {"tsne-kmeans": 0.98})[1] == ["holds", "holds", "does not hold"]


def test_a_method_is_judged_by_the_seeds_that_have_it():
    rng = np.random.default_rng(0)
    old, new = (result(of, PIXELS, 0.9, rng) for of in ({"tsne-kmeans": 0.9, "kmeans": 0.8}, FEATURES))
    compared = chapter.statements({"a": [old, new, new]}, {"a": 99}, "b", [], [])[1]
    assert {case.name: len(case.values) for case in compared.cases} == {
        "a, k-means": 3,
        "a, spectral": 2,
        "a, t-SNE + k-means": 3,
    }


def test_n_counts_images():
    rng = np.random.default_rng(0)
    start = [dict.fromkeys(FEATURES, 0.5)]
    said = chapter.statements({"a": [result(FEATURES, PIXELS, 0.9, rng)]}, {"a": 99}, "a", start, [])
    assert [{case.n for case in each.cases} for each in said] == [{400}] * 4 + [{99}]


def test_features_at_initialisation(tiny_run, monkeypatch):
    quick = ["kmeans", "spectral"]  # t-SNE takes seconds
    monkeypatch.setattr(chapter, "METHOD_NAMES", {method: METHOD_NAMES[method] for method in quick})
    f = untrained(tiny_run, "train")
    found = chapter.initial_accuracy(tiny_run)
    assert list(found) == quick
    for method in quick:
        pseudo = nclib.reconstruct_labels(f.h, f.coarse, fine_per_coarse(tiny_run), method)
        assert found[method] == nclib.match_labels(pseudo, f.fine).accuracy


def test_the_images_that_the_page_opens_on_are_observed():
    found = {m: {"features": at, "untrained": 0.6, "pixels": 0.7} for m, at in FEATURES.items()}
    opened = chapter.Opened("here", found, 0.5, 40)
    rng = np.random.default_rng(0)
    start = [dict.fromkeys(FEATURES, 0.5)]
    said = chapter.statements({"a": [result(FEATURES, PIXELS, 0.9, rng)]}, {"a": 99}, "a", start, [], opened)
    cases = {each.text: [c for c in each.cases if c.name.startswith("here")] for each in said}
    references = (("pixels", 0.7), ("untrained", 0.6))
    values = [[pytest.approx(v) for v in case.values] for of in cases.values() for case in of]
    over = {space: [[pytest.approx(v - at)] for v in FEATURES.values()] for space, at in references}
    assert values == [[0.45], *over["pixels"], *over["untrained"], [0.1], [0.15]]
    assert {case.n for of in cases.values() for case in of} == {40}


def test_spaces_are_clustered_each_by_itself(tiny_run):
    found = chapter.by_space(baselines.spaces(tiny_run, "test"), fine_per_coarse(tiny_run))
    assert list(found) == list(METHOD_NAMES)
    f = untrained(tiny_run, "test")
    pseudo = nclib.reconstruct_labels(f.h, f.coarse, 2, "kmeans")
    assert found["kmeans"]["untrained"] == nclib.match_labels(pseudo, f.fine).accuracy
    table = chapter.spaces_table(found)
    assert table.loc["k-means", "features at initialisation"] == f"{found['kmeans']['untrained']:.3f}"


def test_a_page_opens_on_the_run_that_it_is_asked_for():
    """Where it was released with what the page needs, else on CIFAR-10's."""
    asked = tables.opening_run({"recipe": "fashion-laptop", "seed": 0})
    assert asked.config.dataset == "fashion"
    for other in ({"recipe": "digits", "seed": 0}, {"recipe": "cifar100-laptop"}):
        assert tables.opening_run(other).folder.name == "cifar10-laptop-seed0"


def test_long_runs_are_compared_with_their_own_start():
    """Of those that were clustered at initialisation, on test; the seeds that were not are left out."""
    rng = np.random.default_rng(0)
    clustered, bare = (result(FEATURES, PIXELS, 0.9, rng) for _ in range(2))
    clustered["measures"] = [
        {"split": split, "epoch": epoch, "kmeans": at}
        for epoch, at in ((0, 0.7), (8, 0.8))
        for split in ("train", "test")
    ]
    early = bare | {"measures": [{"split": split, "epoch": 0} for split in ("train", "test")]}
    runs = {"long": [clustered, early], "short": [bare]}
    said = chapter.statements(runs, {"long": 99, "short": 88}, "short", [], [])
    (compared,) = (each for each in said if each.text.startswith("Training on coarse labels"))
    (case,) = compared.cases
    assert (case.name, case.n) == ("long, test, k-means", 99)
    assert case.values == [clustered["reconstruction"]["kmeans"]["test"] - 0.7]
