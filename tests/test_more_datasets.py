"""Which experiments there are runs of, and what the others need."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from conftest import TINY

from nclib.chapters import conclusions, more_datasets
from nclib.runs.publish import release
from nclib.runs.released import released_runs

EXPERIMENTS = {"here": ("digits", TINY), "there": ("svhn-laptop", {"lr": 0.2})}


@pytest.fixture
def experiments():
    return EXPERIMENTS


def test_found_has_the_runs_of_an_experiment_whatever_their_seed(released, tiny_run, experiments):
    assert more_datasets.found(experiments) == {}
    release(tiny_run, "tiny", with_features=False, with_tsne=False)
    (runs,) = more_datasets.found(experiments).values()
    assert [run.config for run in runs] == [tiny_run.config]


def test_missing_names_the_command(released, tiny_run, experiments, monkeypatch, tmp_path):
    monkeypatch.setenv("NCLIB_DATA", str(tmp_path))
    release(tiny_run, "tiny", with_features=False, with_tsne=False)
    table = more_datasets.missing(experiments)
    assert table.index.tolist() == ["there"]
    assert table.loc["there", "command"] == "nclib train svhn-laptop --set lr=0.2"
    assert table.loc["there", "data set"] == "svhn, not on this machine"


def test_nothing_is_missing_if_all_is_there(released, tiny_run, experiments):
    release(tiny_run, "tiny", with_features=False, with_tsne=False)
    assert more_datasets.missing({"here": experiments["here"]}).empty


def test_experiments_are_found_by_their_configuration():
    names = {
        experiment: {run.folder.name.rpartition("-seed")[0] for run in runs}
        for experiment, runs in more_datasets.found().items()
    }
    expected = {
        "FashionMNIST": {"fashion-laptop"},
        "FashionMNIST, unaugmented": {"fashion-unaugmented"},
        "CIFAR-10": {"cifar10-laptop"},
        "CIFAR-10, unaugmented": {"cifar10-unaugmented"},
    }
    assert {experiment: names[experiment] for experiment in expected} == expected
    assert set(more_datasets.missing().index) == set(more_datasets.EXPERIMENTS) - set(names)


def test_experiments_are_compared_seed_by_seed():
    def runs(name: str, seeds: tuple[int, ...]) -> list[SimpleNamespace]:
        moments = SimpleNamespace(counts=torch.tensor([40, 60]))
        return [
            SimpleNamespace(
                key=f"{name}{s}", config=SimpleNamespace(seed=s), moments=lambda split, epoch=-1: moments
            )
            for s in seeds
        ]

    runs_of = {"one": runs("a", (4, 0, 2)), "two": runs("b", (2, 3, 4))}
    effects = {"one": [0.7, 0.1, 0.9], "two": [0.3, 0.2, 0.6]}
    cases = more_datasets._paired(runs_of, effects, {"one": "two", "two": "none"}, float)
    assert [(case.name, case.n) for case in cases] == [("one", 100)]
    assert cases[0].values == pytest.approx([0.9 - 0.3, 0.7 - 0.6])  # of seeds 2 and 4


def test_labels_of_a_run_without_features_come_from_one_with_them(released, tiny_run):
    release(tiny_run, "a-bare", with_features=False, with_tsne=False)
    (bare,) = released_runs("a-bare")
    assert more_datasets.labels_of_test(bare) is None
    release(tiny_run, "b-whole", with_features=True, with_tsne=False)
    assert more_datasets.labels_of_test(bare).equal(tiny_run.features("test").fine)


def test_statements_change_with_the_runs(tiny_run, monkeypatch):
    """Structure in every run, then none: no accuracy above pixels."""
    monkeypatch.setattr(more_datasets, "AUGMENTED", {"with": "without"})
    monkeypatch.setattr(more_datasets, "GROUPED", {})

    def verdicts(found: float) -> list[list[str]]:
        result = {"reconstruction": {"kmeans": {"train": found, "test": found}}}
        result |= {"pixels": {"kmeans": 0.6}, "chance": 0.5}
        poor = result | {"reconstruction": {"kmeans": {"train": 0.5, "test": 0.5}}}
        runs = {"with": [tiny_run], "without": [tiny_run]}
        made = more_datasets.statements({"with": [result], "without": [poor]}, runs)
        rows = conclusions.show(*made).rows
        return [[r["verdict"] for r in rows if r["statement"] == s.text] for s in made]

    yes, no = "observed", "not observed"
    assert verdicts(0.9) == [[yes, no], [yes, yes]]
    assert verdicts(0.5) == [[no, no], [no, no]]
