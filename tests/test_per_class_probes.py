"""Per-class probes against MSDR: statistics against enumeration, scipy and simulation."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import linregress, permutation_test, t

import nclib
from nclib.chapters import conclusions, per_class_probes
from nclib.networks.features import FeatureSet

pytestmark = pytest.mark.numeric


def twins(n=400, gap=(4.0, 0.0), seed=0):
    """Four classes in two labels: siblings ``gap`` apart in units of their width, labels far apart."""
    rng = np.random.default_rng(seed)
    fine = torch.arange(n) % 4
    h = torch.tensor(rng.normal(size=(n, 3)), dtype=torch.float32)
    coarse = fine % 2
    h[:, 0] += 100 * coarse
    h[:, 1] += (fine // 2) * torch.tensor(gap)[coarse]
    weight = torch.tensor([[-1.0, 0, 0], [1.0, 0, 0]])
    return FeatureSet(h, fine, coarse, weight, torch.tensor([50.0, -50.0]))


class TestInsideAccuracy:
    def test_is_the_bayes_rate_of_two_gaussians(self):
        from scipy.stats import norm

        # both bounds are five standard deviations over 60 seeds
        found = per_class_probes.inside_accuracy(twins(n=32_000, gap=(2.0, 0.0)))
        np.testing.assert_allclose(found[[0, 2]], norm.cdf(1.0), atol=0.02)  # siblings two widths apart
        np.testing.assert_allclose(found[[1, 3]].mean(), 0.5, atol=0.025)  # the same cloud twice

    def test_sees_no_error_between_labels(self):
        f = twins()
        together = f.h - 100 * f.coarse[:, None] * torch.tensor([1.0, 0, 0])  # labels lie on each other
        found = per_class_probes.inside_accuracy(FeatureSet(together, f.fine, f.coarse, f.weight, f.bias))
        np.testing.assert_allclose(found, per_class_probes.inside_accuracy(f), atol=0.01)  # one of a hundred

    def test_class_without_siblings_is_right(self):
        f = twins()
        alone = FeatureSet(f.h, f.coarse, f.coarse, f.weight, f.bias)
        assert per_class_probes.inside_accuracy(alone).tolist() == [1, 1]


class TestCoarseAccuracy:
    def test_counts_what_the_last_layer_says(self):
        f = twins()
        moved = f.h.clone()
        moved[f.fine == 3] -= torch.tensor([100.0, 0, 0])  # class 3 looks like label 0
        wrong = FeatureSet(moved, f.fine, f.coarse, f.weight, f.bias)
        assert per_class_probes.coarse_accuracy(f).tolist() == [1, 1, 1, 1]
        assert per_class_probes.coarse_accuracy(wrong).tolist() == [1, 1, 1, 0]


class TestPerClass:
    def test_columns_are_the_measures(self, tiny_run):
        rows = per_class_probes.per_class(tiny_run)
        train, test = tiny_run.features("train"), tiny_run.features("test")
        assert rows["class"].tolist() == list(tiny_run.grouping.fine_names)
        expected = nclib.msdr(test.h, test.fine, test.coarse)
        np.testing.assert_allclose(rows["msdr_test"], expected, rtol=1e-6)
        widths = [test.h[test.fine == c].double().var(dim=0).sum() for c in range(len(rows))]
        np.testing.assert_allclose(rows["variance_test"], widths, rtol=1e-6)
        probe = nclib.linear_probe(train.h, train.fine).per_class_accuracy(test.h, test.fine)
        np.testing.assert_allclose(rows["probe"], probe)
        counts = np.bincount(test.fine)
        coarse = (rows["coarse"] * counts).sum() / counts.sum()
        assert coarse == pytest.approx(tiny_run.history[-1]["test_accuracy"])

    def test_released_run_without_features(self):
        (run,) = nclib.released_runs("fashion-narrow-cross-entropy-seed0")
        rows = per_class_probes.per_class(run)
        assert rows["probe"].tolist() == run.results["probe_per_class"]
        assert rows[["inside", "coarse"]].isna().all(axis=None)

    def test_needs_siblings(self):
        (run,) = nclib.released_runs("fashion-narrow-fine-without-7-8-9-seed0")
        with pytest.raises(ValueError, match="0 classes have siblings"):
            per_class_probes.per_class(run)


class TestOverSeeds:
    def test_is_the_mean_of_each_class_in_its_order(self):
        tables = [
            pd.DataFrame(
                {"class": ["b", "a"], "super-class": [1, 0], "seed": seed, "probe": [seed, 2 * seed]}
            )
            for seed in (1, 3)
        ]
        means = per_class_probes.averaged_over_seeds(tables)
        assert means.to_dict("list") == {"class": ["b", "a"], "super-class": [1, 0], "probe": [2, 4]}


class TestPermutationP:
    X = np.array([1.0, 1.3, 2.4, 0.9, 3.1, 2.0])
    Y = np.array([0.2, 0.5, 0.9, 0.1, 0.8, 0.3])

    def test_pairs_against_enumeration(self):
        label = np.array([0, 1, 2, 0, 1, 2])
        pairs = self.Y.reshape(2, 3).T  # siblings are three apart
        beyond = []
        for order, swaps in product(permutations(range(3)), product([1, -1], repeat=3)):
            y = np.array([pairs[one][::swap] for one, swap in zip(order, swaps, strict=True)]).T.ravel()
            beyond.append(abs(np.corrcoef(self.X, y)[0, 1]))
        exact = np.mean(np.array(beyond) >= abs(np.corrcoef(self.X, self.Y)[0, 1]) - 1e-12)
        found = per_class_probes.permutation_p(self.X, self.Y, label, permutations=100_000)
        assert found == pytest.approx(exact, abs=0.005)  # five standard errors

    def test_single_classes_against_scipy(self):
        exact = permutation_test(
            (self.X,),
            lambda x: abs(np.corrcoef(x, self.Y)[0, 1]),  # scipy's two-sided p would double the smaller tail
            permutation_type="pairings",
            alternative="greater",
            n_resamples=np.inf,
        ).pvalue
        found = per_class_probes.permutation_p(self.X, self.Y, np.arange(6), permutations=100_000)
        assert found == pytest.approx(exact, abs=0.004)  # five standard errors

    def test_labels_of_different_sizes_keep_their_classes(self):
        y = np.array([5.0, 0, 0, 0])
        label = np.array([7, 3, 3, 3])  # nothing can change places that differs
        assert per_class_probes.permutation_p([1, 2, 3, 4], y, label) == 1

    @pytest.mark.parametrize("x", [[1, 2, np.nan, 4], [1, 2, np.inf, 4], [1, 2, 3]])
    def test_permutations_refuse_what_is_no_number_a_class(self, x):
        with pytest.raises(ValueError, match="one finite number a class"):
            per_class_probes.permutation_p(x, [1, 2, 3, 4], [0, 0, 1, 1])

    def test_right_one_time_in_twenty_where_siblings_share(self):
        rng = np.random.default_rng(0)
        label, rejected = np.repeat(np.arange(6), 2), {"restricted": 0, "classes": 0}
        for _ in range(400):
            x, y = (np.repeat(rng.normal(size=6), 2) + 0.2 * rng.normal(size=12) for _ in range(2))
            rejected["restricted"] += per_class_probes.permutation_p(x, y, label, 199) <= 0.05
            rejected["classes"] += per_class_probes.permutation_p(x, y, np.arange(12), 199) <= 0.05
        assert rejected["restricted"] / 400 < 0.08  # 0.05, and three standard errors
        assert rejected["classes"] / 400 > 0.1  # what keeping labels together is for


class TestCorrelation:
    def test_against_the_formulas(self):
        x, y = TestPermutationP.X, TestPermutationP.Y
        found = per_class_probes.correlation(x, y, np.arange(6))
        r = np.corrcoef(x, y)[0, 1]
        half = 1.959964 / np.sqrt(6 - 3)
        assert found.r == pytest.approx(r)
        assert [found.low, found.high] == pytest.approx(np.tanh([np.arctanh(r) - half, np.arctanh(r) + half]))
        assert found.p == pytest.approx(2 * t.sf(r * np.sqrt(4 / (1 - r**2)), 4))
        ranks = [values.argsort().argsort() for values in (x, y)]
        assert found.rho == pytest.approx(np.corrcoef(*ranks)[0, 1])

    @pytest.mark.parametrize("y", [[1, 2, 3], [1, 2, 3, np.nan]])
    def test_refuses_too_little(self, y):
        with pytest.raises(ValueError, match="4 or more classes"):
            per_class_probes.correlation(np.arange(len(y)), y, np.arange(len(y)))


class TestRegressionBand:
    def test_at_zero_it_is_the_interval_of_the_intercept(self):
        x, y = TestPermutationP.X, TestPermutationP.Y
        line = linregress(x, y)
        (height,), (half,) = per_class_probes.regression_band(x, y, [0.0])
        assert height == pytest.approx(line.intercept)
        assert half == pytest.approx(t.ppf(0.975, 4) * line.intercept_stderr)

    def test_covers_the_true_line_as_often_as_it_says(self):
        rng = np.random.default_rng(0)
        x, at, inside = rng.uniform(size=10), 0.9, 0
        for _ in range(2_000):
            height, half = per_class_probes.regression_band(x, 1 + 2 * x + rng.normal(size=10), [at])
            inside += abs(height[0] - (1 + 2 * at)) < half[0]
        assert inside / 2_000 == pytest.approx(0.95, abs=0.015)


class TestCorrelationTable:
    def table(self, seed: int) -> pd.DataFrame:
        msdr = np.array([1.0, 2.0, 3.0, 4.0])
        return pd.DataFrame(
            {
                "class": list("abcd"),
                "super-class": [0, 1, 0, 1],
                "seed": seed,
                "msdr_train": msdr,
                "inside": np.nan,
            }
        ).assign(
            variance_train=-msdr,
            variance_test=msdr,
            msdr_test=-msdr,
            probe=0.1 * msdr + np.array([0.0, 0.01, 0.0, 0.01]) * (-1) ** seed,
        )

    def test_correlates_means_and_leaves_out_what_is_missing(self):
        compared = per_class_probes.correlations(
            {"two": [self.table(0), self.table(1)]}, ("probe", "inside"), ("train", "test")
        )
        table = per_class_probes.correlation_table(compared)
        assert table.index.tolist() == [("two", "probe, all classes", s) for s in ("train", "test")]
        assert table["r"].tolist() == ["1.00 (1.00 to 1.00)", "-1.00 (-1.00 to -1.00)"]
        assert table["rank correlation, variance alone"].tolist() == ["1.00", "-1.00"]
        assert table["seeds"].tolist() == [2, 2]


class TestStatements:
    """Ten classes in five pairs, nine seeds: accuracies follow MSDR, or something else."""

    def verdicts(self, follows="msdr", inside="msdr", coarse="noise"):
        rng, tables = np.random.default_rng(0), []
        fixed = {"msdr": np.arange(10.0), "variance": rng.permutation(10), "noise": rng.permutation(10)}
        for seed in range(9):
            noisy = {name: values + 0.3 * rng.standard_normal(10) for name, values in fixed.items()}
            tables.append(
                pd.DataFrame(
                    {"class": list("abcdefghij"), "super-class": np.arange(10) // 2, "seed": seed}
                    | {
                        "msdr_train": fixed["msdr"],
                        "msdr_test": fixed["msdr"][::-1],
                        "variance_train": -fixed["variance"],
                    }
                    | {"probe": noisy[follows], "inside": noisy[inside], "coarse": noisy[coarse]}
                )
            )
        rows = conclusions.show(*per_class_probes.statements({"a": tables})).rows
        assert {row["n"] for row in rows} == {10}
        return [row["verdict"] for row in rows]

    def test_msdr_is_what_counts(self):
        assert self.verdicts() == ["holds"] * 4 + ["does not hold"]  # on test it goes the other way

    def test_variance_is_what_counts(self):
        assert self.verdicts(follows="variance")[1:3] == ["undecided", "does not hold"]

    def test_super_classes_are_what_counts(self):
        assert self.verdicts(inside="noise", coarse="msdr")[3:] == ["does not hold", "holds"]
