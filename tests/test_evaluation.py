"""The numbers of the chapters, on a tiny run; and on features whose answer is known."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

import nclib
from nclib.chapters import (
    benchmarks,
    collapse_as_loss,
    distance_heatmaps,
    neural_collapse,
    numerical_honesty,
    ood_detection,
    statistics,
    tables,
    tsne,
)
from nclib.data.grouping import Grouping
from nclib.measures.moments import Moments
from nclib.networks.features import FeatureSet
from nclib.runs import evaluation

pytestmark = pytest.mark.numeric


def features(labels: np.ndarray, spread: float = 0.01, seed: int = 0) -> FeatureSet:
    """Ten fine classes at corners of their own, joined by five."""
    fine = torch.as_tensor(labels)
    h = 3 * torch.eye(10)[fine] + spread * torch.randn(
        len(fine), 10, generator=torch.Generator().manual_seed(seed)
    )
    return FeatureSet(h, fine, fine % 5, torch.zeros(5, 10), torch.zeros(5))


@pytest.fixture(scope="module")
def found(tiny_run) -> dict:
    return evaluation.results(tiny_run, methods=("kmeans",))  # t-SNE: see test_clusters_that_are_apart


class TestResults:
    def test_is_plain_json(self, found):
        assert json.loads(json.dumps(found)) == found

    def test_accuracies_lie_between_chance_and_one(self, found):
        method = found["reconstruction"]["kmeans"]
        accuracies = [method["train"], method["test"], found["pixels"]["kmeans"], found["probe"]]
        assert all(found["chance"] < a <= 1 for a in accuracies)
        assert found["seconds"] > 0

    def test_probe_per_class_averages_to_the_probe(self, found, tiny_run):
        counts = torch.bincount(tiny_run.features("test").fine).double()
        mean = (torch.tensor(found["probe_per_class"]) * counts).sum() / counts.sum()
        assert found["probe"] == pytest.approx(float(mean))

    def test_confusion_counts_every_sample_and_its_diagonal_is_the_accuracy(self, found, tiny_run):
        method, fine = found["reconstruction"]["kmeans"], tiny_run.features("train").fine
        counts = np.array(method["confusion"])
        assert counts.shape == (10, 10)
        assert counts.sum(1).tolist() == torch.bincount(fine).tolist()
        assert counts.trace() / counts.sum() == pytest.approx(method["train"])

    def test_labels_never_leave_their_super_class(self, found):
        counts = np.array(found["reconstruction"]["kmeans"]["confusion"])
        true, given = np.nonzero(counts)
        assert (true % 5 == given % 5).all()

    def test_released_run_answers_itself(self):
        """But for chance, which early releases state of one draw."""
        f, g = (features(np.arange(n) % 10) for n in (400, 100))
        moments = {split: Moments.of(of.h, of.fine) for split, of in (("train", f), ("test", g))}
        grouping = Grouping(torch.arange(10) % 5, tuple("abcdefghij"), tuple("abcde"))
        carried = {"probe": 0.5, "chance": 0.4}
        run = SimpleNamespace(results=carried, moments=moments.__getitem__, grouping=grouping)
        found = evaluation.results(run)
        assert found == {"probe": 0.5} | {
            key: evaluation.chance_accuracy([n] * 10, list(range(5)) * 2, 2)
            for key, n in (("chance", 40), ("chance_test", 10))
        }
        assert found["chance"] < found["chance_test"]  # fewer images: the naming gains more

    @pytest.mark.parametrize("method", ["kmeans", "tsne-kmeans"])
    def test_clusters_that_are_apart(self, method):
        f, g = (features(np.arange(n) % 10, seed=n) for n in (150, 100))
        result = evaluation._reconstruction(f, g, [2] * 5, method)
        assert (result["train"], result["test"], result["probe"]) == (1, 1, 1)
        assert np.array_equal(result["confusion"], 15 * np.eye(10))


class TestChance:
    def test_of_pairs_is_a_half_and_what_the_best_naming_adds(self):
        # of a pair with n images x are named right or, with the clusters exchanged, n - x; x is binomial
        for sizes in ((3, 4), (36, 36), (500, 300)):
            n = sum(sizes)
            x = np.arange(n + 1)
            expected = (scipy.stats.binom.pmf(x, n, 0.5) * np.maximum(x, n - x)).sum() / n
            found = evaluation.chance_accuracy(sizes, (0, 0), 2)
            assert found == pytest.approx(expected, rel=1e-9)  # scipy's probabilities, a sum of up to 801

    def test_is_the_mean_of_matched_random_labels(self):
        sizes, group = [30, 20, 10, 25, 25], [0, 0, 0, 1, 1]
        fine = np.repeat(np.arange(5), sizes)
        rng, coarse = np.random.default_rng(1), np.array(group)[fine]
        drawn = [
            nclib.match_labels(4 * coarse + rng.integers(4, size=110), fine).accuracy for _ in range(300)
        ]
        error = np.std(drawn) * np.sqrt(1 / 300 + 1 / evaluation.DRAWS)
        assert evaluation.chance_accuracy(sizes, group, 4) == pytest.approx(np.mean(drawn), abs=4 * error)

    def test_of_one_cluster_each_is_the_larger_class(self):
        assert evaluation.chance_accuracy([30] * 5 + [10] * 5, list(range(5)) * 2, 1) == pytest.approx(0.75)

    def test_of_uneven_super_classes(self):
        group = [0] * 7 + [1] * 3
        # a seventh of 70 % of the samples and a third of the others, and a little for the best naming
        assert evaluation.chance_accuracy([300] * 10, group, [7, 3]) == pytest.approx(
            0.7 / 7 + 0.3 / 3, abs=0.05
        )


class TestMeasures:
    def test_last_is_that_of_the_features(self, tiny_run):
        rows = evaluation.measures(tiny_run)
        f = tiny_run.features("test")
        expected = nclib.collapse_metrics(f.h, f.coarse, f.weight, f.bias)
        expected["msdr"] = float(nclib.msdr(f.h, f.fine, f.coarse).mean())
        expected["explained_variance"] = float(nclib.explained_variance(f.h, f.fine, f.coarse).mean())
        train = tiny_run.features("train")  # NC4 compares with the means of train
        means = torch.stack([train.h[train.coarse == c].double().mean(0) for c in range(5)])
        decided, nearest = f.logits().argmax(1), torch.cdist(f.h.double(), means).argmin(1)
        expected["nc4"] = float((decided != nearest).double().mean())
        expected["accuracy"] = float((decided == f.coarse).double().mean())
        last = rows[-1]
        assert (last["epoch"], last["split"]) == (3, "test")
        for name in set(last) - {"epoch", "split"}:
            assert last[name] == pytest.approx(expected[name], rel=1e-6), name

    def test_one_for_each_epoch_and_split(self, tiny_run):
        rows = evaluation.measures(tiny_run)
        assert [(row["epoch"], row["split"]) for row in rows] == [
            (epoch, split) for epoch in range(4) for split in ("train", "test")
        ]


class TestTerminalEpoch:
    def run(self, *accuracies: float) -> SimpleNamespace:
        """Measured at every second epoch."""
        history = [{"epoch": 2 * i, "train_accuracy": a} for i, a in enumerate(accuracies)]
        return SimpleNamespace(history=[*history, {"epoch": 99, "running_accuracy": 1.0}])

    def test_is_the_last_run_to_arrive(self):
        early, late = self.run(0.1, 0.999, 0.9), self.run(0.1, 0.9989, 1.0)
        assert evaluation.terminal_epoch([early]) == 2
        assert evaluation.terminal_epoch([early, late]) == 4

    def test_none_if_one_never_does(self):
        assert evaluation.terminal_epoch([self.run(1.0), self.run(0.998)]) is None


class TestStages:
    def run(self, *accuracies: float) -> SimpleNamespace:
        history = [{"epoch": i, "train_accuracy": a} for i, a in enumerate(accuracies)]
        return SimpleNamespace(history=history, measured_epochs=list(range(len(history))))

    def test_the_first_accurate_one_lies_between(self):
        found = distance_heatmaps.stages(self.run(0.1, 0.9, 1.0, 1.0, 1.0))
        assert found == {"initialisation": 0, "before the end": 2, "end": 4}

    @pytest.mark.parametrize("last", [1.0, 0.5])
    def test_else_the_one_before_the_last(self, last):
        assert distance_heatmaps.stages(self.run(0.1, 0.9, 0.95, last))["before the end"] == 2


class TestDistances:
    def test_titles_and_matrices(self, tiny_run):
        found = distance_heatmaps.distances_over_training(tiny_run, "test")
        accuracy = {r["epoch"]: f"{100 * r['train_accuracy']:.1f} %" for r in tiny_run.history}
        assert list(found) == ["pixels", f"initialisation\ncoarse accuracy {accuracy[0]}",
                               f"epoch 2\ncoarse accuracy {accuracy[2]}",
                               f"epoch 3\ncoarse accuracy {accuracy[3]}"]  # fmt: skip
        f = tiny_run.features("test")
        *_, last = found.values()
        assert torch.allclose(last, nclib.class_distances(f.h, f.fine))

    def test_contrasts_of_a_known_matrix(self):
        d = torch.tensor([[1.0, 9, 3, 9], [9, 2, 9, 4], [3, 9, 1, 9], [9, 4, 9, 2]])
        found = distance_heatmaps.contrasts(d, torch.tensor([0, 1, 0, 1]))
        assert found == pytest.approx({"siblings": 2.5, "others": 6, "difference": 2 / 9, "msdr": 2.5})

    def test_table_states_the_end(self, tiny_run):
        row = distance_heatmaps.siblings_table({"digits": [tiny_run, tiny_run]}).loc["digits"]
        assert row["MSDR, end"] == f"{evaluation.mean_msdr(tiny_run, 'test'):.2f}"
        assert "±" not in row["siblings, pixels"]


class TestNeighbourTable:
    def test_cells_are_means_over_seeds(self):
        seeds = [
            {"k": 10, "test": {"n": 1000, "chance": 0.5, "features": [0.9, purity],
                               "all": {"features": purity, "untrained": 0.6, "pixels": 0.7}}}
            for purity in (0.5, 0.6)
        ]  # fmt: skip
        row = tsne.neighbour_table({"a": seeds}, {"a": ("cat", "dog")}).loc["a"]
        assert row["features"].startswith("0.550 (0.500 to 0.600)")
        assert row["pixels"] == "0.700"
        assert row["class of lowest agreement, features"] == "dog: 0.550"

    def test_least_agreeing_super_class(self):
        f = features(np.arange(300) % 10)
        mixed = f.coarse == 2
        h = f.h.clone()
        h[mixed] = torch.randn(int(mixed.sum()), 10, generator=torch.Generator().manual_seed(0))
        mixed_up = FeatureSet(h, f.fine, f.coarse, f.weight, f.bias)
        assert tsne.least_agreeing_super_class(mixed_up) == 2
        assert tsne.of_super_class(mixed_up, 2).fine.unique().tolist() == [2, 7]


class TestEmbeddings:
    def test_spaces_are_drawn_each_from_itself(self, tiny_run, monkeypatch):
        monkeypatch.setattr(tsne, "tsne", lambda h: h[:, :2].numpy())
        first = features(np.arange(60) % 10)
        second = FeatureSet(first.h + 7, first.fine, first.coarse, first.weight, first.bias)
        axes = tsne.spaces_figure({"features": first, "pixels": second}, 1, tiny_run.grouping)
        for panel, f in zip(axes.figure.axes, (first, second), strict=True):
            drawn = [np.asarray(points.get_offsets()) for points in panel.collections]
            expected = [f.h[f.fine == fine, :2].numpy() for fine in (1, 6)]
            assert all(np.allclose(*both) for both in zip(drawn, expected, strict=True))

    def test_grid_is_of_all_starts(self, monkeypatch):
        monkeypatch.setattr(tsne, "tsne", lambda h, *settings: settings)
        grid = tsne.tsne_grid(features(np.arange(20) % 10), (5, 30))
        assert len(grid) == 6
        assert grid["random, seed 1", 30] == (30, 1, "random")


class TestTables:
    def test_over_seeds(self):
        assert statistics.over_seeds([0.5]) == statistics.over_seeds([0.5, 0.5]) == "0.500"
        assert statistics.over_seeds([0.25, 0.5, 0.9]) == "0.550 (0.250 to 0.900)"
        assert statistics.over_seeds([float("nan")] * 2) == "-"

    def test_collapse_table_states_the_accuracy(self, tiny_run):
        table = tables.collapse_table({"digits": [tiny_run]})
        assert table.loc["digits", "coarse accuracy, test"] == f"{tiny_run.history[-1]['test_accuracy']:.3f}"

    def test_neural_collapse_table_states_both_ends(self, tiny_run):
        measures = evaluation.measures(tiny_run)
        table = neural_collapse.neural_collapse_table({"digits": [measures]}, split="test")
        rows = [row for row in measures if row["split"] == "test"]
        for at, when in ((0, "initialisation"), (-1, "end")):
            assert table.loc["NC3", ("digits", when)] == f"{rows[at]['nc3']:.3f}"
            assert table.loc["accuracy", ("digits", when)] == f"{rows[at]['accuracy']:.3f}"
        assert len(table) == len(neural_collapse.COLLAPSE_NAMES)

    def test_rounding_table_is_of_one_depth(self):
        seeds = [
            pd.DataFrame({"factor": [1, 9], "format": "bf16", "nc1": 0.1, "msdr": [m, 9], "found": [1, 0]})
            for m in (1.5, 2.5)
        ]
        row = numerical_honesty.rounding_table({"digits": seeds}).loc[("digits", "bf16")]
        assert row["MSDR"] == "2.0000 (1.5000 to 2.5000)"
        assert row["reconstruction accuracy, k-means"] == "1.0000"

    def test_reconstruction_table(self, found):
        both = found | {part: dict.fromkeys(evaluation.METHODS, found[part]["kmeans"]) for part in
                        ("reconstruction", "pixels")}  # fmt: skip
        table = tables.reconstruction_table({"digits": [both, both]})
        a = f"{found['reconstruction']['kmeans']['test']:.3f}"
        assert table.loc[("digits", "k-means"), "reconstruction accuracy, test"] == a
        assert set(table["seeds"]) == {2}

    def test_a_method_of_some_seeds_says_of_how_many(self, found):
        extra = {
            part: found[part] | {"spectral": found[part]["kmeans"]} for part in ("reconstruction", "pixels")
        }
        table = tables.reconstruction_table({"digits": [found, found | extra]})
        assert table["seeds"].to_dict() == {("digits", "k-means"): 2, ("digits", "spectral"): 1}

    def test_settings_table(self, tiny_run):
        column = tables.settings_table({"digits": [tiny_run]})["digits"]
        assert (column["width"], column["super-classes"]) == (tiny_run.config.width, "mod5, 5")

    def test_provenance_of_seeds_from_several_machines(self, tiny_run):
        other = copy.copy(tiny_run)
        other.provenance = tiny_run.provenance | {"device": "another", "torch": "2.0", "seconds": 0.0}
        column = tables.provenance_table({"digits": [tiny_run, other, tiny_run]})["digits"]
        assert column["device"] == f"{tiny_run.provenance['device']}; another"
        assert column["torch"] == f"{tiny_run.provenance['torch']}, 2.0"
        assert column["commit"] == tables.short_commit(tiny_run.provenance["commit"])

    def test_provenance_table(self, tiny_run):
        column = tables.provenance_table({"digits": [tiny_run]})["digits"]
        assert column["n train / test"] == "1,437 / 360"
        assert column["network"] == "MLP of width 32"


def test_tsne_inside_is_that_of_each_super_class():
    f = features(np.arange(60) % 10)
    points = evaluation.tsne_inside(f)
    rows = f.coarse == 3
    assert points.shape == (60, 2)
    assert np.array_equal(points[rows.numpy()], nclib.tsne(f.h[rows]))


class TestIntervals:
    def test_is_students(self):
        values = [0.1, 0.4, 0.3, 0.9]
        low, high = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert statistics.interval(values) == pytest.approx(((low + high) / 2, (high - low) / 2))

    def test_covers_the_mean_nineteen_times_in_twenty(self):
        rng = np.random.default_rng(0)
        found = [statistics.interval(rng.normal(3, 1, size=5)) for _ in range(4000)]
        covered = np.mean([abs(mean - 3) < half for mean, half in found])
        assert covered == pytest.approx(0.95, abs=0.012)  # three and a half standard errors

    def test_pairs_are_of_one_seed(self):
        runs, others = (
            [SimpleNamespace(config=SimpleNamespace(seed=seed), name=f"{name}{seed}") for seed in seeds]
            for name, seeds in (("a", (3, 0, 2, 5)), ("b", (1, 2, 5, 3)))
        )
        pairs = statistics.paired_by_seed(runs, others)
        assert [(one.name, other.name) for one, other in pairs] == [("a2", "b2"), ("a3", "b3"), ("a5", "b5")]
        assert statistics.paired_by_seed(runs, []) == []

    def test_equal_values_have_a_point(self):
        values = [0.1] * 3  # whose mean is rounded
        assert statistics.interval(values)[1] == 0
        assert statistics.error_bar(values, statistics.SHARE)[1:] == (0, 0)
        assert statistics.with_interval([1.0] * 3, statistics.SHARE) == "1.000 ± 0"

    def test_a_bar_ends_at_what_is_possible(self):
        values = [0.9, 0.95, 1.0]
        whole = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert whole.high > 1
        mean, below, above = statistics.error_bar(values, statistics.SHARE)
        assert (mean - below, mean + above) == pytest.approx((whole.low, 1))
        mean, below, above = statistics.error_bar(values, statistics.UNLIMITED)
        assert (mean - below, mean + above) == pytest.approx((whole.low, whole.high))

    def test_cutting_loses_no_possible_mean(self):
        """Draws of a skewed share: the cut interval covers its mean exactly where the whole one does."""
        rng, cut = np.random.default_rng(0), 0
        for values in rng.beta(8, 1, size=(1000, 3)):  # of mean 8 / 9
            mean, half = statistics.interval(values)
            at, below, above = statistics.error_bar(values, statistics.SHARE)
            assert 0 <= at - below <= at + above <= 1 + 1e-15
            assert (at - below < 8 / 9 < at + above) == (abs(mean - 8 / 9) < half)
            cut += above < half
        assert 100 < cut < 900  # both kinds

    def test_the_bar_of_two_is_their_range(self):
        assert statistics.error_bar([0.9, 0.7], statistics.SHARE) == pytest.approx((0.8, 0.1, 0.1))
        assert np.isnan(statistics.error_bar([0.9], statistics.SHARE)[1:]).all()

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_values_that_are_not_finite_have_none(self, value):
        assert np.isnan(statistics.interval([value, 0.1, 0.2])[1])
        assert np.isnan(statistics.error_bar([value, 0.1, 0.2], statistics.NOT_NEGATIVE)[1:]).all()
        assert "± 0" not in statistics.with_interval([value, 0.1, 0.2], statistics.NOT_NEGATIVE)

    @pytest.mark.parametrize(
        ("values", "limits", "text"),
        [
            ([0.25], statistics.SHARE, "0.250"),
            ([0.1, 0.2], statistics.SHARE, "0.150 (0.100 to 0.200)"),
            ([0.4, 0.5, 0.6], statistics.SHARE, "0.500 ± 0.25"),
            ([0.9, 0.95, 1.0], statistics.SHARE, "0.950 [0.826, 1.000]"),  # 4.303 * 0.05 / 3^0.5 below
            ([0.9, 0.95, 1.0], statistics.NOT_NEGATIVE, "0.950 ± 0.12"),
            ([0.0, 0.05, 0.1], statistics.NOT_NEGATIVE, "0.050 [0.000, 0.174]"),
            ([0.0, 0.05, 0.1], statistics.UP_TO_ONE, "0.050 ± 0.12"),
            ([0.0, 0.5, 1.0], statistics.SHARE, "0.500 [0.000, 1.000]"),
        ],
    )
    def test_in_words(self, values, limits, text):
        assert statistics.with_interval(values, limits) == text

    def test_what_is_written_is_possible(self):
        """Rounded, too: 0.9852 ± 0.0148 would be 0.985 ± 0.015, and 0.99 ± 0.0101 be 0.990 ± 0.01."""
        for values in np.random.default_rng(0).beta(20, 1, size=(1000, 3)):
            mean, *rest = re.findall(r"[\d.]+", statistics.with_interval(values, statistics.SHARE))
            high = float(rest[-1]) + (float(mean) if len(rest) == 1 else 0)
            assert round(high, 6) <= 1  # up to rounding of float64


def detection_rows():
    rows = [
        {"outliers": "noise", "trained on": "coarse", "labels": labels, "score": score, "n": 7, "fpr95": 0.5,
         "auroc": auroc + 0.01 * seed}
        for score, labels, auroc in [("knn", "none", 0.8), ("gmm", "found", 0.6), ("gmm", "true", 0.9)]
        for seed in range(3)
    ]  # fmt: skip
    return pd.DataFrame(rows)


class TestDetectionTables:
    def test_cells_are_means_over_seeds(self):
        table = ood_detection.detection_table(detection_rows())
        assert table.loc[("coarse", "Gaussian mixture", "found"), "noise"] == "0.610 ± 0.025"
        assert table.columns.name == "AUROC" and len(table) == 3

    def test_best_is_that_of_the_means(self):
        (best,) = ood_detection.best_scores(detection_rows()).reset_index().to_dict("records")
        assert (best["best score"], best["labels"], best["worst seed"]) == (
            "Gaussian mixture",
            "true",
            "0.900",
        )


def test_end_table_states_the_measures(tiny_run):
    table = collapse_as_loss.end_table({"tiny": [tiny_run, tiny_run]})
    assert table.loc["accuracy on super-classes, test", "tiny"].startswith(
        f"{tiny_run.history[-1]['test_accuracy']:.3f}"
    )
    assert table.loc["NC1", "tiny"] == f"{evaluation.coarse_nc1(tiny_run):.2g}"
    assert table.loc["seeds", "tiny"] == 2


def test_by_experiment_joins_seeds_in_order():
    runs = [
        SimpleNamespace(folder=Path(f"{name}-seed{seed}"), config=SimpleNamespace(seed=seed))
        for name, seed in [("b", 0), ("a-seed-of", 10), ("a-seed-of", 2)]
    ]
    assert tables.by_experiment(runs) == {"a-seed-of": [runs[2], runs[1]], "b": [runs[0]]}


def test_benchmark_table_writes_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks, "BENCHMARKS", tmp_path)
    (tmp_path / "x.json").write_text('{"rows": [{"a": 1.25, "b": null}, {"a": 2, "b": 12345}]}')
    table = benchmarks.benchmark_table("x", {"a": ("A", "{:.1f}"), "b": ("B", "{:,}")})
    assert table["B"].to_dict() == {"1.2": "-", "2.0": "12,345"}


def test_every_benchmark_of_the_book_is_there():
    for name, columns, more_than in (
        ("measures", benchmarks.MEASURES_COLUMNS, 3),
        ("many_seeds", benchmarks.SEEDS_COLUMNS, 3),
        ("distances", benchmarks.DISTANCES_COLUMNS, 3),
        ("phase_diagram", benchmarks.NETWORKS_COLUMNS, 1),
        ("sweep", benchmarks.SWEEP_COLUMNS, 3),
    ):
        assert len(benchmarks.benchmark_table(name, columns)) > more_than
        assert "commit" in benchmarks.benchmark_provenance(name)
