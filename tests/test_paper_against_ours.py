"""Claims: the verdict is the stated rule, every number is recomputed here from its run in another way."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import t, ttest_1samp

import nclib
from nclib.chapters import collapse_as_loss, paper_against_ours
from nclib.chapters.long_runs import planned_runs
from nclib.chapters.paper_against_ours import Found, verdict
from nclib.config import recipe_config
from nclib.paths import WORKFLOW
from nclib.runs import detection
from nclib.runs.evaluation import METHOD_NAMES, measures
from nclib.runs.sweep_table import folder_name, read_sweep

pytestmark = pytest.mark.numeric

ROOT = Path(__file__).parent.parent
ALL = {claim.title: claim for claim in paper_against_ours.read_claims()}
LAST_DIGIT = 1e-4  # that tables show of an accuracy; rounding is at most half of it


def found(
    low: float,
    high: float,
    null: float = 0.5,
    p: float | None = 0.01,
    seeds: int = 5,
    reference: float | None = None,
) -> Found:
    return Found((low + high) / 2, low, high, null, seeds, p, reference=reference)


class TestVerdict:
    @pytest.mark.parametrize(
        ("what", "bound", "margin", "expected"),
        [
            (None, 0.93, 0, "not run yet"),
            (found(0.94, 0.96), 0.93, 0, "same"),
            (found(0.92, 0.96), 0.93, 0, "weaker"),
            (found(0.92, 0.96), 0.93, 0.02, "same"),
            (found(0.7, 0.8), 0.93, 0.02, "weaker"),
            (found(0.7, 0.8), None, 0, "same direction"),
            (found(0.49, 0.9), None, 0, "not seen"),
            (found(0.4, 0.49), None, 0, "opposite"),
            (found(0.4, 0.49, p=0.06), None, 0, "not seen"),
            (found(0.6, 0.9, p=0.06), None, 0, "above, not significant"),
            (found(0.51, 0.6, p=0.06, reference=0.7), None, 0, "above, not significant"),
            (found(0.5, 0.9, p=0.06), None, 0, "not seen"),
            (found(0.4, 0.6, p=0.5), None, 0, "not seen"),
            (found(0.99, 0.99, p=0.06), 0.93, 0.02, "above, not significant"),
            (found(0.99, 0.99, p=None, seeds=1), 0.93, 0.02, "one seed: above"),
            (found(0.92, 0.92, p=None, seeds=1), 0.93, 0.02, "one seed: within the margin"),
            (found(0.92, 0.95, p=None, seeds=2), 0.93, 0.02, "two seeds: within the margin"),
            (found(0.96, 0.96, p=None, seeds=1), 0.95, 0, "one seed: above"),
            (found(0.9, 0.9, p=None, seeds=1), 0.93, 0.02, "one seed: below"),
            (found(0.6, 0.6, p=None, seeds=1), None, 0, "one seed: above"),
            (found(0.5, 0.5, p=None, seeds=1), None, 0, "one seed: below"),
            (found(0.6, 0.9, seeds=1), None, 0, "one seed: above"),
            (found(0.6, 0.8, p=None, seeds=2), None, 0, "two seeds: above"),
            (found(0.4, 0.8, p=None, seeds=2), None, 0, "two seeds: below"),
            (found(0.7, 0.8, reference=0.6), None, 0, "same direction"),
            (found(0.7, 0.8, reference=0.75), None, 0, "above chance only"),
            (found(0.7, 0.8, reference=0.9), None, 0, "above chance only"),
            (found(0.7, 0.8, reference=0.4), None, 0, "same direction"),
            (found(0.4, 0.49, reference=0.3), None, 0, "opposite"),
            (found(0.94, 0.96, reference=0.99), 0.93, 0, "same"),
            (found(0.6, 0.6, p=None, seeds=1, reference=0.7), None, 0, "one seed: below"),
            (found(0.6, 0.9, p=0.06, seeds=1), None, 0, "above, not significant"),
            (found(0.6, 0.6, p=None), None, 0, "no interval: above"),
            (found(15, 15, p=None)._replace(count=True), 15, 0.5, "same"),
            (found(5, 5, p=None)._replace(count=True), 15, 0.5, "run in part"),
        ],
    )
    def test_is_the_rule(self, what, bound, margin, expected):
        assert verdict(what, bound, margin) == expected

    def test_page_states_every_verdict(self):
        page = (ROOT / "book" / "paper-against-ours.md").read_text(encoding="utf-8")
        stated = re.findall(r"^\* \*\*([a-z][a-z :,]+)\*\*:", page, re.MULTILINE)
        assert stated == list(paper_against_ours.VERDICTS)

    def test_p_values_are_adjusted_within_a_source(self):
        claims = [ALL["NC1, variability"], ALL["NC3, self-duality"], ALL["Fifteen seeds"]]
        p_values = [0.03, 0.04, 0.03]
        measured = [(c, found(0.6, 0.9, p=p)) for c, p in zip(claims, p_values, strict=True)]
        measured.append((claims[0], found(0.6, 0.6, p=None, seeds=1)))
        done = paper_against_ours.adjusted([*measured, (claims[1], None)])
        assert [what.p for _, what in done[:4]] == pytest.approx([0.06, 0.06, 0.03, None])
        assert [verdict(what) for _, what in done[:3]] == [
            "above, not significant",
            "above, not significant",
            "same direction",
        ]
        assert done[4] == (claims[1], None)


class TestFile:
    def test_titles_differ(self):
        assert len(ALL) == len(paper_against_ours.read_claims())

    def test_sources_and_chapters_exist(self):
        bibliography = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
        for claim in ALL.values():
            assert f"{{{claim.source}," in bibliography
            assert (ROOT / "notebooks" / f"{claim.chapter}.md").is_file(), claim.title

    def test_every_measure_exists_and_pairs_are_complete(self):
        for claim in ALL.values():
            if claim.against:
                assert claim.measure in paper_against_ours.PAIRED
                assert len(claim.against) == 1 + len(claim.others)
            else:
                assert claim.measure in {*paper_against_ours.MEASURES, ""}

    def test_own_settings_are_planned(self):
        runs = read_sweep(WORKFLOW / "paper.yaml").runs
        planned = {folder_name(name).rpartition("-seed")[0] for name, _ in runs}
        for claim in ALL.values():
            assert not claim.own or claim.own.rstrip("*") in planned, claim.title

    def test_others_are_released_or_planned_or_live_or_recipes(self):
        names = {run.folder.name for run in nclib.released_runs()} | set(planned_runs().values())
        known = {name.rpartition("-seed")[0] for name in names}
        for name in {name for claim in ALL.values() for name in claim.others}:
            if name not in known and not name.startswith("digits"):
                recipe_config(name)

    def test_margins_belong_to_numbers(self):
        assert all(claim.margin == 0 for claim in ALL.values() if claim.bound is None)


@pytest.fixture(scope="module")
def narrow():
    return nclib.released_runs("fashion-narrow-cross-entropy-seed*")


def detected(labels: str) -> tuple[list, np.ndarray]:
    """Released runs without three classes, and the AUROC of each for these by the softmax score."""
    runs = nclib.released_runs(f"fashion-narrow-{labels}without-7-8-9-seed*")
    return runs, np.array([paper_against_ours.held_out_auroc(run, "softmax") for run in runs])


class TestMeasures:
    def test_interval_is_students(self, narrow):
        values = [run.results["reconstruction"]["kmeans"]["train"] for run in narrow]
        got = paper_against_ours.found_again(narrow, "")
        half = t.ppf(0.975, 4) * np.std(values, ddof=1) / np.sqrt(5)
        assert [got.value, got.high - got.value] == pytest.approx([np.mean(values), half])
        assert got.seeds == 5
        assert got.p == pytest.approx(ttest_1samp(values, got.null).pvalue)
        assert got.size / got.deviation == pytest.approx((got.value - got.null) / np.std(values, ddof=1))

    def test_one_seed_has_no_interval(self, narrow):
        got = paper_against_ours.found_again(narrow[:1], "")
        assert got.low == got.value == got.high
        assert got.p is None

    def test_two_seeds_have_a_range(self, narrow):
        values = [run.results["reconstruction"]["kmeans"]["train"] for run in narrow[:2]]
        got = paper_against_ours.found_again(narrow[:2], "")
        assert [got.low, got.high] == sorted(values)
        assert got.p is None

    def test_references(self, narrow):
        pixels = narrow[0].results["pixels"]["kmeans"]
        assert paper_against_ours.found_again(narrow, "").reference == pixels
        start = [row["explained_variance"] for run in narrow for row in measures(run) if row["epoch"] == 0]
        images = np.array(narrow[0].results["pixel_distances"]["train"])
        of_pixels = self.explained(images)
        got = paper_against_ours.explained(narrow, "train").reference
        assert got == pytest.approx(max(of_pixels, *start[::2]), rel=1e-3)

    def test_runs_without_the_method_are_no_evidence(self):
        mse = nclib.released_runs("fashion-narrow-mse-seed*")
        assert mse
        assert paper_against_ours.probe_on_found(mse, "") is None

    def test_fall_is_the_geometric_mean_from_the_terminal_phase_on(self):
        runs = nclib.released_runs("fashion-terminal-seed*")
        ratios, shares = [], []
        for run in runs:
            right = {r["epoch"] for r in run.history if r.get("train_accuracy", 0) >= 0.999}
            rows = [r for r in run.results["measures"] if r["split"] == "train" and r["epoch"] in right]
            assert len(rows) > 2
            ratios.append(rows[0]["nc1"] / median(row["nc1"] for row in rows[1:]))
            shares.append(1 - rows[-1]["nc4"])
        got = paper_against_ours.fall(runs, "nc1")
        assert got.value == pytest.approx(np.prod(ratios) ** (1 / len(runs)))
        assert got.low < got.value < got.high and got.null == 1
        assert paper_against_ours.alike(runs, "").value == pytest.approx(np.mean(shares))

    def test_fall_of_several_measures_is_that_of_the_least(self):
        runs = nclib.released_runs("fashion-terminal-seed0")
        each = [
            paper_against_ours.fall(runs, f"nc2_{name}_{of}").value
            for name, of in product(("equinorm", "equiangular", "maxangle"), ("means", "weights"))
        ]
        assert paper_against_ours.fall(runs, "nc2").value == pytest.approx(min(each))
        assert min(each) < max(each)

    def test_runs_that_end_with_the_terminal_phase_have_no_fall(self, narrow):
        assert paper_against_ours.fall(narrow, "nc1") is None  # 98 % of train
        assert paper_against_ours.alike(narrow, "") is None

    def test_least_fall_is_that_of_the_term_that_falls_least(self, narrow):
        rows = [row for row in narrow[0].results["measures"] if row["split"] == "train"]
        least = min(rows[0][term] / rows[-1][term] for term in paper_against_ours.NC_TERMS)
        assert paper_against_ours.least_fall(narrow[:1], "").value == pytest.approx(least)

    def test_worst_gain_is_of_the_lowest_and_has_no_interval(self):
        (runs, a), (plain, b) = detected("fine-"), detected("")
        found = paper_against_ours.worst_gain(runs, plain[::-1], "softmax")
        assert found.value == found.low == found.high == pytest.approx(min(a) - min(b))
        assert found.p is None and found.seeds == 5
        assert paper_against_ours.verdict(found).startswith("no interval: ")

    def test_share_of_normal_is_of_networks_of_one_seed(self, narrow):
        """Four runs of seeds 0 to 3 and four of 4 to 1: three pairs."""
        found = paper_against_ours.share_of_normal(narrow[:4], narrow[:0:-1], "")
        shares = [
            run.results["reconstruction"]["tsne-kmeans"]["probe"] / run.history[-1]["test_accuracy"]
            for run in narrow[1:4]
        ]
        assert len(set(shares)) == found.seeds == 3
        half = t.ppf(0.975, 2) * np.std(shares, ddof=1) / 3**0.5
        assert [found.value, found.low, found.high] == pytest.approx(
            [np.mean(shares), np.mean(shares) - half, np.mean(shares) + half]
        )
        assert paper_against_ours.share_of_normal(narrow[:1], narrow[1:], "") is None

    def test_explained_is_between_over_total_variance(self, narrow):
        expected = self.explained(np.array(narrow[0].results["distances_train"]))
        assert paper_against_ours.explained(narrow[:1], "train").value == pytest.approx(expected, rel=1e-3)

    @staticmethod
    def explained(d: np.ndarray) -> float:
        """From mean squared distances; classes have equally many images."""
        shares = []
        for c in range(5):
            within = (d[c, c] + d[c + 5, c + 5]) / 2  # twice the mean variance
            between = (d[c, c + 5] - within) / 4  # of the means, around the mean of both
            shares.append(between / (between + within / 2))
        return float(np.mean(shares))

    def test_settings_count_learning_rates_and_weight_decays_of_the_grid(self, narrow):
        assert paper_against_ours.settings(narrow, "").value == 1  # all have 0.1 and 5e-4
        mse = nclib.released_runs("fashion-narrow-mse-seed0")
        assert paper_against_ours.settings(mse, "").value == 0

    def test_siblings_and_others_are_compared_by_brute_force(self, tiny_run):
        f = tiny_run.features("train")
        x = f.h.double()
        d = np.empty((10, 10))
        for i, j in np.ndindex(10, 10):
            squares = torch.cdist(x[f.fine == i], x[f.fine == j]) ** 2
            d[i, j] = squares.sum() / (squares.numel() - (i == j) * len(squares))
        relative = np.array([[2 * d[i, j] / (d[i, i] + d[j, j]) for j in range(10)] for i in range(10)])
        same = np.equal.outer(np.arange(10) % 5, np.arange(10) % 5)
        siblings, others = relative[same & ~np.eye(10, dtype=bool)].mean(), relative[~same].mean()
        found = paper_against_ours.labels_apart([tiny_run], "")
        assert found.value == pytest.approx(others / siblings, rel=1e-6)

    def test_earlier_looks_at_a_tenth_of_the_epochs(self, monkeypatch):
        def run(nc1: float) -> SimpleNamespace:
            config = SimpleNamespace(seed=0, epochs=10)
            return SimpleNamespace(config=config, measured_epochs=[0, 1, 10], nc1=[nc1, nc1 / 10, nc1 / 100])

        at = {0: 0, 1: 1, 10: 2, -1: 2}
        monkeypatch.setattr(collapse_as_loss, "coarse_nc1", lambda run, epoch=-1: run.nc1[at[epoch]])
        one, plain = run(2.0), run(5.0)
        plain.nc1[1] = 3.0
        assert paper_against_ours.earlier([one], [plain], "").value == pytest.approx(3.0 / 0.2)

    def test_without_a_common_seed_nothing_is_compared(self, narrow):
        for measure in paper_against_ours.PAIRED.values():
            assert measure(narrow[:1], narrow[1:2], "softmax" if "gain" in measure.__name__ else "") is None

    def test_paired_by_seed(self, narrow):
        same = paper_against_ours.earlier(narrow[:3], narrow[::-1], "")
        assert [same.value, same.low, same.high] == pytest.approx([1, 1, 1])
        assert same.seeds == 3
        assert same.p is None  # equal values have no t

    def test_auroc_of_a_live_run_is_that_of_the_released_rows(self, session_home, monkeypatch):
        monkeypatch.setattr(detection, "missing_files", lambda name: [name])
        run = nclib.get_run("digits", width=32, epochs=2, held_out=[7, 9])
        rows = nclib.runs.detection.detection(run).set_index(["outliers", "score", "labels"])["auroc"]
        for score, labels in (("softmax", "none"), ("gmm", "labels of training")):
            assert paper_against_ours.held_out_auroc(run, score) == pytest.approx(
                rows["held-out classes", score, labels]
            )

    def test_auroc_of_a_released_run_is_read(self):
        (run,) = nclib.released_runs("fashion-narrow-without-7-8-9-seed0")
        rows = pd.DataFrame(run.results["detection"]).set_index(["outliers", "score", "labels"])["auroc"]
        assert (
            paper_against_ours.held_out_auroc(run, "softmax") == rows["held-out classes", "softmax", "none"]
        )


class TestCompare:
    def test_a_row_for_each_experiment(self):
        claim = ALL["Clustering finds the classes"]
        table = paper_against_ours.compare([claim], live={})
        assert table["data"].tolist() == [claim.own, *claim.others]
        assert table["setting"].tolist() == ["source's"] + ["another"] * len(claim.others)
        assert set(table["tier"]) == {"paper", "laptop"}

    def test_what_was_not_run_says_so(self, released):
        table = paper_against_ours.compare(ALL.values(), live={})
        assert set(table["verdict"]) == {"not run yet", "not tested"}
        assert set(table["ours"]) == {"-"}

    def test_live_runs_are_quick_and_carry_their_commit(self, tiny_run):
        claim = replace(ALL["A loss of collapse measures"], own="", others=("digits",))
        table = paper_against_ours.compare([claim], live={"digits": [tiny_run]}).set_index("data")
        row = table.loc["digits"]
        assert row["tier"] == "quick"
        assert row["commit"].startswith(tiny_run.provenance["commit"][:7])
        first, *_, last = [r for r in measures(tiny_run) if r["split"] == "train"]
        least = min(first[term] / last[term] for term in paper_against_ours.NC_TERMS)
        assert row["ours"] == f"{least:.3g}"

    def test_tally_counts_every_row(self):
        table = paper_against_ours.compare(
            [ALL["Nine settings"], ALL["A theorem"], ALL["Fifteen seeds"]], live={}
        )
        assert int(paper_against_ours.tally(table).to_numpy().sum()) == len(table) == 4

    def test_tally_keeps_what_is_not_significant_apart(self):
        verdicts = ["not seen", "above, not significant", "not seen"]
        table = pd.DataFrame({"verdict": verdicts, "setting": ["another"] * 3})
        assert paper_against_ours.tally(table)["another"].to_dict() == {
            "above, not significant": 1,
            "not seen": 2,
        }

    def test_every_method_has_its_own_verdict(self, monkeypatch):
        claim = ALL["Reconstructed labels, 93 %"]
        (run,) = nclib.released_runs(f"{claim.own}-seed0")
        monkeypatch.setattr(paper_against_ours, "experiment_runs", lambda *_: [run])
        table = paper_against_ours.probe_by_method(claim).loc[claim.own]
        for method, title in METHOD_NAMES.items():
            accuracy = run.results["reconstruction"][method]["probe"]
            right = np.arange(10_000) < accuracy * 10_000  # of each test image, whether it is
            row = table.loc[title]
            shown = row["above 0.93 - 0.02 by"], row["standard error over images"]
            above, error = map(float, shown)
            assert above == pytest.approx(accuracy - 0.91, abs=LAST_DIGIT)
            assert error == pytest.approx(right.std() / 100, abs=LAST_DIGIT)
            where = "below" if accuracy <= 0.91 else "within the margin" if accuracy <= 0.93 else "above"
            assert row["verdict by this method"] == f"one seed: {where}"

    def test_methods_of_what_was_not_run(self, released):
        assert paper_against_ours.probe_by_method(ALL["Reconstructed labels, 93 %"]).empty

    def test_gains_in_words(self):
        (runs, a), (plain, b) = detected("fine-"), detected("")
        text = " ".join(paper_against_ours.gains_in_words(runs, plain).split())
        assert f"of the softmax score by {(a - b).mean():+.3g} (" in text
        assert f"of its lowest over seeds by {a.min() - b.min():+.3g}, of a Gaussian mixture by" in text
        assert text.endswith("5 seeds.")

    def test_long_cells_are_shown_in_full(self):
        page = paper_against_ours.shown(paper_against_ours.statements(ALL.values(), "yang2023collapsed")).data
        assert ALL["Classes inside a super-class"].test in page.replace("&#x27;", "'")


def test_what_falls_in_every_run_is_counted():
    runs = nclib.released_runs("fashion-narrow-cross-entropy-seed*")
    rows = [[r for r in run.results["measures"] if r["split"] == "train"] for run in runs]
    words = paper_against_ours.fallen_in_words(runs)
    assert words.startswith("Lower at the end than at initialisation, of 5 released runs:\n  NC1: 5\n")
    counts = dict(re.findall(r"^  (.+): (\d)$", words, re.MULTILINE))
    names = {"nc1": "NC1", "nc2_equinorm_weights": "NC2 equinorm, classifier", "nc3": "NC3", "nc4": "NC4"}
    for key, name in names.items():
        assert int(counts[name]) == sum(of[-1][key] < of[0][key] for of in rows)
    assert len(counts) == 9
