"""What is left condition by condition: against the public measures, and on features whose answer is known."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import nclib
from nclib.chapters import conclusions, figures, when_structure_appears
from nclib.config import recipe_config
from nclib.data.datasets import load
from nclib.data.grouping import Grouping, make_grouping
from nclib.runs import evaluation
from nclib.runs.publish import release

pytestmark = pytest.mark.numeric

FOUR = Grouping(torch.tensor([0, 1, 0, 1]), ("a", "b", "c", "d"), ("a + c", "b + d"))


@pytest.fixture
def shelf(released, tiny_run, monkeypatch):
    """``tiny_run`` as a released run that states a share of its own."""
    stated = {"reconstruction": {"kmeans": {"train": 0.25, "test": 0.2}}}
    monkeypatch.setattr(evaluation, "results", lambda run, methods: stated)
    return release(tiny_run, "tiny", with_features=False, with_tsne=False)


class TestRemains:
    def test_classes_that_are_apart_are_found(self):
        fine = torch.arange(80) % 4
        h = 5 * torch.eye(4)[fine] + 0.01 * torch.randn(80, 4, generator=torch.Generator().manual_seed(0))
        left = when_structure_appears.remains(h, fine, FOUR)
        assert left["found"] == 1
        assert left["msdr"] > 1000
        assert left["explained_variance"] > 0.999

    def test_one_cloud_a_label_has_no_structure(self):
        fine = torch.arange(4000) % 4
        h = 5 * torch.eye(2)[fine % 2] + torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
        left = when_structure_appears.remains(h, fine, FOUR)
        assert left["msdr"] == pytest.approx(1, abs=0.02)
        assert left["found"] < 0.55
        assert abs(left["explained_variance"]) < 0.01  # 2,000 a class: its deviation is some 1e-3

    def test_measures_are_the_public_ones(self, tiny_run):
        f = tiny_run.features("train")
        left = when_structure_appears.remains(f.h, f.fine, tiny_run.grouping)
        nc1 = nclib.collapse_metrics(f.h, f.coarse, f.weight, f.bias)["nc1"]
        assert left["nc1"] == pytest.approx(nc1, rel=1e-6)
        assert left["msdr"] == pytest.approx(float(nclib.msdr(f.h, f.fine, f.coarse).mean()), rel=1e-6)
        assert (
            left["found"]
            == evaluation.results(tiny_run, methods=("kmeans",))["reconstruction"]["kmeans"]["train"]
        )


class TestEnds:
    def test_a_row_for_each_run(self, tiny_run):
        table = when_structure_appears.ends({"a": [tiny_run], "b": [tiny_run, tiny_run]})
        assert table["case"].tolist() == ["a", "b", "b"]
        assert table["accuracy"][0] == tiny_run.history[-1]["train_accuracy"]
        assert set(table["lr"]) == {tiny_run.config.lr}

    def test_released_run_states_its_own(self, tiny_run, shelf):
        cases = nclib.released_cases({"tiny": {"width": 32, "epochs": 3, "deterministic": True}}, "digits")
        (row,) = when_structure_appears.ends(cases).to_dict("records")
        (live,) = when_structure_appears.ends({"tiny": [tiny_run]}).to_dict("records")
        assert row["found"] == 0.25  # as released
        assert (row["nc1"], row["msdr"]) == pytest.approx((live["nc1"], live["msdr"]), rel=1e-6)


class TestReleasedCases:
    def test_finds_the_seeds_of_a_case(self, shelf):
        tiny = {"width": 32, "epochs": 3, "deterministic": True}
        cases = {"same": tiny, "other seed": tiny | {"seed": 7}, "other rate": tiny | {"lr": 0.5}}
        found = nclib.released_cases(cases, "digits")
        assert list(found) == ["same", "other seed"]
        assert found["same"][0].config.seed == 0

    def test_fewer_than_two_cases_are_left_out(self, shelf, tiny_run):
        tiny = {"width": 32, "epochs": 3, "deterministic": True}
        live, cases = {"a": [tiny_run]}, {"a": tiny, "b": tiny | {"lr": 0.5}}
        assert set(when_structure_appears.with_released("here", live, cases, "digits")["data"]) == {"here"}
        cases["b"] = tiny
        assert set(when_structure_appears.with_released("here", live, cases, "digits")["data"]) == {
            "here",
            "digits",
        }


def test_scaled_cases_are_whole_and_never_zero():
    config = nclib.recipe_config("digits", width=8)
    cases = when_structure_appears.scaled(config, "width", ("1/16", "1/3", "1", "2"))
    assert cases == {"1/16": {"width": 1}, "1/3": {"width": 3}, "1": {"width": 8}, "2": {"width": 16}}


def test_seeds_are_counted_by_case():
    rows = [("here", "a", 0), ("here", "a", 1), ("here", "b", 0), ("there", "a", 3), ("there", "a", 3)]
    table = pd.DataFrame(rows, columns=["data", "case", "seed"])
    assert when_structure_appears.seeds_stated(table) == "1 to 2 of here, 1 of there"


@pytest.mark.slow
def test_runs_of_sorts_runs_by_question(home):
    questions = {"width": {"8": {"width": 8}, "16": {}}, "noise": {"0": {}, "0.5": {"label_noise": 0.5}}}
    found = when_structure_appears.question_runs(questions, "digits", [0], width=16, epochs=1)
    assert {q: list(cases) for q, cases in found.items()} == {
        q: list(cases) for q, cases in questions.items()
    }
    assert found["width"]["8"][0].config.width == 8
    assert found["width"]["16"][0].config == found["noise"]["0"][0].config
    assert found["noise"]["0.5"][0].config.label_noise == 0.5


class TestByLayer:
    def test_last_layer_is_the_end_of_the_run(self, tiny_run):
        table = when_structure_appears.by_layer([tiny_run]).set_index(["network", "case"])
        assert list(table.loc["trained"].index) == ["pixels", "hidden 1", "hidden 2"]
        (end,) = when_structure_appears.ends({"": [tiny_run]}).to_dict("records")
        for measure in ("found", "msdr", "explained_variance", "nc1"):
            assert table.loc[("trained", "hidden 2"), measure] == pytest.approx(end[measure], rel=1e-5)

    def test_pixels_know_no_network(self, tiny_run):
        table = when_structure_appears.by_layer([tiny_run], "test").set_index(["network", "case"])
        columns = ["found", "msdr", "explained_variance", "nc1"]
        trained, initial = (table.loc[(name, "pixels"), columns] for name in ("trained", "at initialisation"))
        assert trained.equals(initial)
        test = load("digits").test
        h = test.images.flatten(1).double()
        expected = nclib.msdr(h, test.labels, test.labels % 5).mean()
        assert table.loc[("trained", "pixels"), "msdr"] == pytest.approx(float(expected), rel=1e-5)


def test_prediction_offers_every_change():
    page = (Path(__file__).parent.parent / "notebooks" / "08_when_structure_appears.md").read_text("utf-8")
    box = page.partition(":::{prediction} costliest-change")[2].partition("\n:::")[0]
    asked = box.replace("\n", " ").partition("Take a guess")[0]
    changes = list(when_structure_appears.CHANGES)
    assert re.findall(r"^- (.+)$", box, re.MULTILINE) == changes
    assert [change for change in changes if change not in asked] == []


def test_settings_are_told_apart(tiny_run):
    table = when_structure_appears.found_by_setting({"digits": {"one": [tiny_run]}, "none": {}}, "spectral")
    f = tiny_run.features("train")
    found = nclib.match_labels(nclib.reconstruct_labels(f.h, f.coarse, 2, "spectral"), f.fine).accuracy
    assert table.loc[("digits", "0.1"), "0.0005"] == f"{found:.3f}"


def test_grid_is_the_papers():
    assert len(when_structure_appears.GRID) == 9
    assert {case["lr"] for case in when_structure_appears.GRID.values()} == {1e-1, 1e-2, 1e-3}
    assert {case["weight_decay"] for case in when_structure_appears.GRID.values()} == {5e-3, 5e-4, 5e-5}


class TestTrajectories:
    def test_released_run_is_measured_at_every_epoch(self, tiny_run, shelf):
        released = nclib.released_runs("tiny")
        table = when_structure_appears.trajectories({"data": released})
        assert table["epoch"].tolist() == [e for e in tiny_run.measured_epochs for _ in range(2)]
        f = tiny_run.features("train")
        train = table[table["split"] == "train"].iloc[-1]
        explained = float(nclib.explained_variance(f.h, f.fine, f.coarse).mean())
        assert train["explained_variance"] == pytest.approx(explained, rel=1e-6)
        assert train["accuracy"] == tiny_run.history[-1]["train_accuracy"]
        pseudo = nclib.reconstruct_labels(f.h, f.coarse, 2, "kmeans")
        assert train["kmeans"] == nclib.match_labels(pseudo, f.fine).accuracy

    def test_where_only_the_end_was_clustered_the_end_is_drawn(self, shelf):
        (released,) = nclib.released_runs("tiny")
        for row in released.results["measures"]:
            del row["kmeans"]
        table = when_structure_appears.trajectories({"data": [released]})
        assert table["kmeans"].dropna().tolist() == [0.25, 0.2]  # as released

    def table(self) -> pd.DataFrame:
        """Two kinds of a data set; without augmentation the explained variance falls from 0.5 to 0.1."""
        rows = []
        for kind, values in {"x-unaugmented": (0.5, 0.1), "x-laptop": (0.4, 0.3)}.items():
            for epoch, value in enumerate(values, 1):
                for split in ("train", "test"):
                    row = {"data": "X", "experiment": kind, "seed": 0, "augmentation": "some", "epoch": epoch}
                    row |= {"split": split, "accuracy": 1.0, "nc1": 0.1, "explained_variance": value}
                    row |= {
                        "width": 16,
                        "n": 100,
                        "kmeans": value + 0.5,
                        "terminal": 2 if kind == "x-laptop" else np.nan,
                        "drop": np.nan,
                        "settled": np.nan,
                    }
                    rows.append(row)
        return pd.DataFrame(rows)

    def test_ends_hold_the_peak_and_the_end(self):
        ends = when_structure_appears.trajectory_ends(self.table()).loc[("X", "x-unaugmented", 0)]
        assert ends["explained variance at its peak, test"] == 0.5 and ends["peak of shared epochs at"] == 1
        assert ends["explained variance, test"] == 0.1
        text = when_structure_appears.contrast_table(when_structure_appears.trajectory_ends(self.table()))
        assert text.loc["99.9 % train accuracy from"].tolist() == ["never", "epoch 2"]

    def test_peaks_have_as_many_chances(self):
        """The run that was measured once more, and was higher there, is not asked about that epoch."""
        table = self.table().replace({"epoch": {2: 4}})
        more = table[table["experiment"] == "x-laptop"].iloc[:2].assign(epoch=2, explained_variance=0.9)
        table = pd.concat([table, more]).sort_values(["experiment", "epoch"], kind="stable")
        ends = when_structure_appears.trajectory_ends(table).loc[("X", "x-laptop", 0)]
        assert ends["explained variance at its peak, test"] == 0.4 and ends["peak of shared epochs at"] == 1
        assert ends["explained variance halfway, test"] == 0.9

    def verdicts(self, table: pd.DataFrame, asked=None) -> dict[str, list[str]]:
        ends = when_structure_appears.trajectory_ends(table)
        rows = conclusions.show(*when_structure_appears.statements(ends, asked or {})).rows
        found: dict[str, list[str]] = {}
        for row in rows:
            found.setdefault(row["statement"], []).append(row["verdict"])
        return found

    def test_statements_change_with_the_runs(self):
        more, explains, rises, falls = self.verdicts(self.table()).items()
        assert "reconstructs more" in more[0] and more[1] == ["observed"] * 2  # 0.8 against 0.6
        assert explains[1] == ["observed"] * 2
        assert rises[1] == ["not observed"] * 4  # the first epoch is the peak
        assert falls[1] == ["observed"] * 4  # by 0.4, and by 0.1
        flat = self.verdicts(self.table().assign(explained_variance=0.0, kmeans=0.5))
        assert {v for verdicts in flat.values() for v in verdicts} == {"not observed"}

    def test_terminal_runs_join_when_they_are_released(self):
        table = self.table()
        names = {"x-unaugmented": "x-terminal", "x-laptop": "x-terminal-augmented"}
        later = table.assign(experiment=table["experiment"].map(names), width=table["width"] * 2)
        both = self.verdicts(pd.concat([table, later]))
        assert [len(verdicts) for verdicts in both.values()] == [4, 4, 8, 8]
        ends = when_structure_appears.trajectory_ends(pd.concat([table, later]))
        pairs = when_structure_appears.confounds(ends)
        assert (
            pairs.loc[("x-terminal", "x-terminal-augmented"), "runs at 99.9 % of train"] == "0 of 1 / 1 of 1"
        )
        assert pairs.loc[("x-unaugmented", "x-laptop"), "width"] == "16 / 16"

    def test_augmentation_is_judged_split_by_split(self):
        """It helps on test only."""
        table = self.table()
        train, plain = table["split"] == "train", table["experiment"] == "x-unaugmented"
        table.loc[train & plain, ["explained_variance", "kmeans"]] += 0.5
        more, explains, *_ = self.verdicts(table).values()
        assert more == explains == ["not observed", "observed"]

    def test_n_is_that_of_the_fewest_images(self):
        """On the way a part of train is measured, at the end all of it."""
        table = self.table()
        table.loc[(table["split"] == "train") & (table["epoch"] == 1), "n"] = 10
        ends = when_structure_appears.trajectory_ends(table)
        more, _, rises, _ = when_structure_appears.statements(ends, {})
        assert [case.n for case in more.cases] == [100, 100]
        assert [case.n for case in rises.cases] == [10, 100] * 2
        assert (
            when_structure_appears.contrast_table(ends).loc["train images on the way"].tolist() == ["10"] * 2
        )

    @pytest.mark.parametrize(("end", "verdict"), [(0.3, "observed"), (0.15, "not observed")])
    def test_whether_the_share_rises_again_once_all_is_fitted(self, end, verdict):
        """99.9 % are reached at epoch 2 of 4, the last rate at 3, at a share of 0.2; test falls on."""
        first = self.table()[:2]  # of the run without augmentation, train and test
        epochs = [
            first.assign(epoch=e, explained_variance=[train, 0.5 - e / 10])
            for e, train in enumerate((0.5, 0.4, 0.2, end), 1)
        ]
        table = pd.concat(epochs, ignore_index=True)
        found = self.verdicts(table.assign(terminal=2, settled=3))
        assert [v for text, v in found.items() if text.startswith("Once 99.9 %")] == [[verdict]]
        for settled in (4, np.nan):  # nothing comes after, or the rate never stays
            never = self.verdicts(table.assign(terminal=2, settled=settled))
            assert not any(text.startswith("Once 99.9 %") for text in never)

    def test_a_run_does_not_decide_the_statement_that_it_suggested(self):
        first = self.table()[:2].assign(experiment="cifar10-paper", terminal=1, settled=1)
        table = pd.concat([first, first.assign(epoch=2)], ignore_index=True)
        assert not any(text.startswith("Once 99.9 %") for text in self.verdicts(table))
        other = self.verdicts(table.assign(seed=1))
        assert any(text.startswith("Once 99.9 %") for text in other)

    @pytest.mark.parametrize(
        ("schedule", "begin", "settled"),
        [
            ("terminal", 18, 30),  # at 24 no epoch has had the last rate
            ("terminal", 30, 30),
            ("constant", 3, 6),
            ("terminal", 99, None),
            ("one-cycle", 3, None),
        ],
    )
    def test_the_rate_stays_after_its_last_drop(self, schedule, begin, settled):
        config = recipe_config("fashion-terminal", schedule=schedule)  # 60 epochs, drops after 12 and 24
        run = SimpleNamespace(config=config, measured_epochs=[0, 6, 18, 24, 30, 60])
        found = when_structure_appears._settled(run, begin)
        assert np.isnan(found) if settled is None else found == settled

    @pytest.mark.parametrize(
        ("values", "verdict"),
        [((0.5, 0.4, 0.1, 0.05), "observed"), ((0.5, 0.4, 0.35, 0.05), "not observed")],
    )
    def test_where_in_training_the_fall_lies(self, values, verdict):
        """The rate drops after epoch 2.4, and 99.9 % are reached at epoch 3 of 4."""
        first = self.table()[:2]  # of the run without augmentation, train and test
        epochs = [first.assign(epoch=e, explained_variance=v) for e, v in enumerate(values, 1)]
        table = pd.concat(epochs, ignore_index=True)
        table = table.assign(terminal=3, drop=2.4)
        ends = when_structure_appears.trajectory_ends(table)
        row = ends.iloc[0]
        assert row["explained variance before the rate drops, test"] == values[1]
        assert row["explained variance at 99.9 %, test"] == values[2]
        (found,) = (v for text, v in self.verdicts(table).items() if text.startswith("Most of the fall"))
        assert found == [verdict]
        never = when_structure_appears.contrast_table(when_structure_appears.trajectory_ends(self.table()))
        assert never.loc["explained variance before the rate drops, test"].tolist() == ["never", "never"]

    def test_changes_are_taken_seed_by_seed(self, tiny_run, monkeypatch):
        same = {"1": [tiny_run], "3": [tiny_run]}
        found = self.verdicts(self.table(), {"digits": {"epochs": same}})
        assert found["Each of these changes leaves fewer fine labels for k-means to reconstruct"] == [
            "not observed"
        ]
        change, (question, before, after) = next(iter(when_structure_appears.CHANGES.items()))
        rows = [(before, 2, 0.9), (before, 0, 0.5), (before, 1, 0.6), (before, 7, 0.1)]
        rows += [(after, 1, 0.2), (after, 2, 0.3), (after, 0, 0.4), (after, 8, 0.1)]
        several = pd.DataFrame(rows, columns=["case", "seed", "found"])
        monkeypatch.setattr(when_structure_appears, "ends", lambda cases: several)
        questions = {question: {before: [tiny_run], after: [tiny_run]}}
        (case,) = when_structure_appears._changed("digits", questions)
        assert case.name == f"digits: {change}"
        assert case.values == pytest.approx([0.5 - 0.4, 0.6 - 0.2, 0.9 - 0.3])

    def test_gains_are_taken_seed_by_seed(self):
        rows = [("unaugmented", 2, 0.1), ("unaugmented", 0, 0.2), ("unaugmented", 5, 0.9)]
        rows += [("laptop", 0, 0.5), ("laptop", 1, 0.0), ("laptop", 2, 0.8)]
        ends = pd.DataFrame(
            [
                {"data": "x", "experiment": f"x-{kind}", "seed": seed}
                | {f"found, {split}": value for split in ("train", "test")}
                | {f"{split} images": 60 for split in ("train", "test")}
                for kind, seed, value in rows
            ]
        ).set_index(["data", "experiment", "seed"])
        for case in when_structure_appears._gains(ends, "found"):
            assert sorted(case.values) == pytest.approx([0.5 - 0.2, 0.8 - 0.1])

    def test_figure_draws_runs_and_marks_the_terminal_phase(self):
        axes = when_structure_appears.trajectory_figure(self.table(), "A title")
        explained, nc1, *_ = axes.figure.axes
        lines = [line for line in explained.lines if line.get_linestyle() != ":"]
        assert [line.get_ydata().tolist() for line in lines] == [[0.5, 0.1]] * 2 + [[0.4, 0.3]] * 2
        assert explained.get_title() == "explained variance"
        (mark,) = (line for line in nc1.lines if line.get_linestyle() == ":")
        assert list(mark.get_xdata()) == [2, 2]
        assert "x-laptop, seed 0: explained variance 0.30, k-means 0.80" in figures.alt_text(axes)


def test_joined_classes_by_name():
    grouping = make_grouping("semantic", "digits", load("digits").train)
    assert (
        when_structure_appears.joined(grouping)
        == "zero + six, one + seven, two + three, four + nine, five + eight"
    )
