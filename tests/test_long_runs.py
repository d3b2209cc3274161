"""The page of long runs: released trajectories, tabled and drawn; what is missing is said."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nclib.chapters import conclusions, long_runs
from nclib.chapters.figures import alt_text
from nclib.config import recipe_config
from nclib.data.grouping import Grouping
from nclib.measures.moments import Moments


def run(seed: int, joined: bool = True, terminal: int | None = 4):
    """A stand-in for a released run, measured at epochs 0, 2 and 4; explained variance peaks at 2."""
    rows = []
    for epoch, explained in ((0, 0.1), (2, 0.5 + seed / 10), (4, 0.3)):
        for split in ("train", "test"):
            row = {"epoch": epoch, "split": split, "accuracy": 0.2 + epoch / 5, "nc1": 10.0 / (epoch + 1)}
            row |= {"kmeans": 0.5 + explained / 2}
            rows.append(row | ({"explained_variance": explained} if joined else {}))
    names = tuple("abcd")
    group = torch.tensor([0, 1, 0, 1]) if joined else torch.arange(4)
    found = {"train": 0.9, "test": 0.8, "probe": 0.7 + seed / 10}
    return SimpleNamespace(
        folder=SimpleNamespace(name=f"x-seed{seed}"),
        config=recipe_config(
            "cifar10-laptop",
            epochs=4,
            seed=seed,
            schedule="step",
            width=4,
            augment="none",
            grouping="mod5" if joined else "none",
        ),
        grouping=Grouping(group, names, names[: int(group.max()) + 1]),
        record={"released": {"device": "another machine"}},
        history=[
            {"epoch": e, "train_accuracy": 1.0 if e == terminal else 0.5, "test_accuracy": 0.9}
            for e in (0, 2, 4)
        ],
        provenance={
            "seconds": 7200.0 * (1 + seed),
            "threads": 1,
            "device": "a machine",
            "commit": "abc" * 10,
        },
        moments=lambda split, epoch=-1: SimpleNamespace(counts=torch.tensor([50] * 4)),
        results={"measures": rows, "reconstruction": {"kmeans": found}, "probe": 0.95, "chance": 0.5},
    )


def test_probes_are_compared_seed_by_seed():
    runs = [run(seed) for seed in (2, 0, 1)]  # probes of 0.9, 0.7 and 0.8
    (case,) = long_runs._below({"x": {0: 0.75, 2: 0.6, 5: 0.1}}, {"x": runs})
    assert case.values == pytest.approx([0.9 - 0.6, 0.7 - 0.75])


def test_rise_and_fall_has_start_peak_and_end():
    table = long_runs.rise_and_fall_table({"x": [run(0), run(1)], "ten labels": [run(0, joined=False)]})
    assert list(table.index) == ["x"]
    row = table.loc["x"]
    assert row["explained, start"] == "0.10"
    assert row["explained, peak"] == "0.55 (0.50 to 0.60)"
    assert row["explained, end"] == "0.30"
    assert row["k-means, peak"] == "0.78 (0.75 to 0.80)"
    assert row["peak at epoch"] == "2"
    assert row["first measured at 99.9 % of train"] == "4 of 4"
    missed = long_runs.rise_and_fall_table({"x": [run(0), run(1, terminal=None)]})
    assert missed.loc["x", "first measured at 99.9 % of train"] == "4 of 4; not reached by 1"
    never = long_runs.rise_and_fall_table({"x": [run(0, terminal=None)]})
    assert never.loc["x", "first measured at 99.9 % of train"] == "not reached"


def test_end_has_a_row_for_each_method_that_was_released():
    table = long_runs.end_of_training_table({"x": [run(0), run(1)], "ten": [run(0, joined=False)]})
    assert list(table.index) == [("x", "k-means"), ("ten", "none: trained on fine labels")]
    assert list(table["probe on pseudo-labels"]) == ["0.750 (0.700 to 0.800)", "-"]
    assert list(table["accuracy of the network, test"]) == ["0.900", "0.900"]
    assert list(table["chance, test"]) == ["0.540", "1.000"]  # pairs of 100 images; one class each


def clustered(seed: int):
    """``run`` that was clustered after t-SNE too, with the neighbours of its test images."""
    made = run(seed)
    made.results["reconstruction"]["tsne-kmeans"] = {"train": 0.95, "test": 0.9 + seed / 100, "probe": 0.8}
    near = {"features": 0.93, "untrained": 0.6, "pixels": 0.7}
    made.results["neighbours"] = {split: {"all": near} for split in ("train", "test")}
    return made


def test_near_and_far_goes_from_the_cloud_to_the_neighbours():
    runs = {"x": [clustered(0), clustered(1)], "ten": [run(0, joined=False)], "without t-SNE": [run(0)]}
    table = long_runs.near_and_far_table(runs)
    assert list(table.index) == [("x", "train"), ("x", "test")]
    assert table.loc[("x", "test")].tolist() == [
        "1.000", "2", "0.300", "0.800", "0.905 (0.900 to 0.910)", "0.930", "0.600", "0.540",
    ]  # fmt: skip


def test_a_run_is_told_from_its_start_over_its_peak_to_its_end():
    told = long_runs.told(clustered(0))
    assert told.startswith("x-seed0: ResNet-18 of width 4, 4 epochs")
    assert "explain 10% and 10% at initialisation, 50% and 50% at epoch 2, 30% and 30% at epoch 4" in told
    assert "k-means finds 90% and 80% at the end, t-SNE and k-means 95% and 90%, guessing 54% and 54%" in told


@pytest.mark.parametrize(("joined", "panels"), [(True, 4), (False, 3)])
def test_figure_draws_each_run_and_split(joined, panels):
    axes = long_runs.trajectory_figure([run(0, joined), run(1, joined)], "title")
    assert len(axes.figure.axes) == panels
    for panel in axes.figure.axes:
        assert len(panel.get_lines()) == 4
        assert list(panel.get_lines()[0].get_xdata()) == [0, 2, 4]
    assert "99.9% of train from epoch 4 on" in alt_text(axes)


@pytest.mark.parametrize("runs", [{}, {"ten labels": [run(0, joined=False)]}])
def test_without_runs_tables_are_empty(runs):
    assert list(long_runs.rise_and_fall_table(runs).index) == []
    assert len(long_runs.end_of_training_table(runs)) == len(runs)


def test_table_says_what_has_not_run(monkeypatch):
    of_sweeps = {"a": [run(0), run(1)], "b": [None, None]}
    monkeypatch.setattr(long_runs, "runs_of_sweeps", lambda: of_sweeps)
    table = long_runs.sweeps_table()
    assert table.loc["a"].to_dict() == {
        "released": "2 of 2",
        "hours": "3 (2 to 4)",
        "threads": "1",
        "device": "a machine",
        "clustered on": "another machine",
        "commit": "abcabcabca",
    }
    assert list(table.index) == ["a"]
    assert long_runs.not_run_yet() == "Not run yet: b"
    monkeypatch.setattr(long_runs, "released_runs", lambda pattern: [run(2)] if pattern == "b-seed*" else [])
    assert long_runs.not_run_yet() == "Not run yet: more seeds of b"


def test_the_factorial_is_listed_as_one_and_shown_elsewhere(monkeypatch):
    cells = {f"{long_runs.FACTORIAL}-{setting}": [run(0), None] for setting in "ab"}
    monkeypatch.setattr(long_runs, "runs_of_sweeps", lambda: {"x": [run(0)]} | cells)
    table = long_runs.sweeps_table()
    assert list(table.index) == ["x", long_runs.FACTORIAL]
    assert table.loc[long_runs.FACTORIAL, "released"] == "2 of 4"
    assert list(long_runs.released_experiments()) == ["x"]


def test_runs_without_a_trajectory_are_in_the_table_of_ends_only(monkeypatch):
    short = run(0)
    for row in short.results["measures"]:
        del row["kmeans"]
    monkeypatch.setattr(long_runs, "runs_of_sweeps", lambda: {"x": [run(0), None], "y": [short], "z": [None]})
    everything = long_runs.released_experiments()
    assert {name: len(runs) for name, runs in everything.items()} == {"x": 1, "y": 1}
    assert list(long_runs.with_trajectory(everything)) == ["x"]
    assert list(long_runs.end_of_training_table(everything).index.unique(0)) == ["x", "y"]


def test_statements_change_with_the_runs():
    def verdicts(pseudo: float, normal: float) -> list[str]:
        runs = {"x": [run(0)], "the same on fine labels": [run(0, joined=False)]}
        of_x = runs["x"][0]
        of_x.moments = lambda split, epoch=-1: SimpleNamespace(counts=torch.tensor([50, 50]))
        of_x.results["reconstruction"]["tsne-kmeans"] = {"probe": pseudo, "train": 0.95, "test": 0.81}
        runs["the same on fine labels"][0].history[-1]["test_accuracy"] = normal
        *rows, train, test = conclusions.show(*long_runs.statements(runs)).rows  # k-means has 0.9 and 0.8
        assert (train["data"], train["verdict"]) == ("x, train", "observed")
        assert (test["data"], test["verdict"]) == ("x, test", "not observed")
        assert [row["data"] for row in rows] == ["x, k-means", "x, t-SNE + k-means"] * 2
        assert {row["verdict"] for row in rows[::2]} == {"not observed"}  # 0.70
        return [row["verdict"] for row in rows[1::2]]

    assert verdicts(0.94, 0.95) == ["observed", "observed"]  # the probe on true labels has 0.95
    assert verdicts(0.94, 0.97) == ["observed", "not observed"]
    assert verdicts(0.70, 0.97) == ["not observed", "not observed"]
    assert long_runs.statements({"ten labels": [run(0, joined=False)]}) == []


def measured_run(gaps: list[float], seed: int = 0):
    """A stand-in for a run: two super-classes of two classes that lie ``gap`` apart at epochs 0, 1, ..."""
    rng, group = np.random.default_rng(seed), torch.tensor([0, 0, 1, 1])
    labels = torch.arange(400) % 4
    moments = []
    for gap in gaps:
        h = torch.from_numpy(rng.normal(size=(400, 3)))
        h[:, 0] += 10.0 * group[labels] + gap * (labels % 2)
        moments.append(Moments.of(h, labels))
    return SimpleNamespace(
        grouping=Grouping(group, tuple("abcd"), tuple("xy")),
        measured_epochs=list(range(len(gaps))),
        history=[{"epoch": e, "train_accuracy": 1.0 if e >= 2 else 0.5} for e in range(len(gaps))],
        moments=lambda split, epoch: moments[epoch],
    )


def test_milestones_are_start_peak_terminal_phase_and_end():
    table = long_runs.milestones_table({"x": [measured_run([0.0, 4.0, 2.0, 1.0])]})
    assert list(table["epoch"]) == ["0", "1", "2", "3"]
    for gap, share in zip([4.0, 2.0, 1.0], table["explained, test"][1:], strict=True):
        # between: gap^2 / 4 of a total that adds 3 from noise; a share of 200 samples is off by 0.05 at most
        assert abs(float(share) - gap**2 / (gap**2 + 12)) < 0.1
    assert list(table["p"][1:3]) == ["< 1e-06"] * 2


def test_milestones_see_nothing_where_there_is_nothing():
    """Least p of 40 draws, two super-classes and one split each; the median is near one half."""
    tables = [long_runs.milestones_table({"x": [measured_run([0.0], seed)]}) for seed in range(40)]
    p = [float(table["p"].iloc[0]) for table in tables]
    assert np.median(p) > 0.25 and min(p) > 1e-4


def null_p_values(widths, gap: float = 5.0) -> dict[str, list[float]]:
    """Two super-classes of two Gaussian classes ``gap`` apart; deviations (2, 6) by super-class."""
    rng, group = np.random.default_rng(0), torch.tensor([0, 0, 1, 1])
    fine = torch.arange(400) % 4
    h = torch.from_numpy(rng.normal(size=(400, 6)) * np.array(widths)[group[fine]])
    h[:, 0] += gap * (fine % 2) + 20.0 * group[fine]
    return long_runs.null_p_values(h, fine, group, 150, rng)


def test_p_values_of_features_without_gaps():
    alike, differ = (null_p_values(w) for w in ([[1] * 6] * 2, [[1, 0, 0, 0, 0, 0], [0, 3, 3, 3, 3, 3]]))
    for kind in (long_runs.PERMUTED, long_runs.RESAMPLED):
        assert len(alike[kind]) == 300
        # four standard errors of 300 draws; samples drawn again vary around the same features
        assert np.mean(np.array(alike[kind]) <= 0.05) < 0.05 + 4 * (0.05 * 0.95 / 300) ** 0.5
        assert np.mean(np.array(differ[kind]) <= 0.05) > 0.1


def test_level_table_counts(monkeypatch):
    p = {long_runs.PERMUTED: [0.01, 0.05, 0.5, 1.0], long_runs.RESAMPLED: [0.5, 0.5, 0.04, 0.9]}
    monkeypatch.setattr(long_runs, "null_p_values", lambda *_: p)
    one = run(0)
    one.folder = SimpleNamespace(name="x-seed0")
    one.features = lambda split: SimpleNamespace(h=torch.zeros(4, 2), fine=torch.arange(4))
    row = long_runs.level_table([one]).loc["x-seed0"]
    assert row.to_dict() == {"p-values": "4", long_runs.PERMUTED: "0.500", long_runs.RESAMPLED: "0.250"}


def test_milestones_say_what_was_not_reached():
    table = long_runs.milestones_table({"x": [measured_run([0.0, 1.0])], "y": [measured_run([1.0] * 4)]})
    assert table.loc[("x", "99.9% of train"), "seeds"] == "0 of 1"
    assert table.loc[("x", "99.9% of train"), "explained, test"] == "-"
