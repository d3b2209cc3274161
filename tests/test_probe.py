"""The linear probe finds what is linear, however small, and nothing else."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy.stats import norm

from nclib.measures.probe import linear_probe

pytestmark = pytest.mark.numeric


def pairs(n=4_000, dim=32, gap=1e-3, noise=1e-4, seed=0, scale=1.0):
    """Ten classes in five coarse ones at distance of order one, twins ``gap`` apart, turned."""
    rng = np.random.default_rng(seed)
    y = rng.integers(10, size=n)
    h = noise * rng.normal(size=(n, dim))
    h[np.arange(n), y % 5] += 1
    h[:, 9] += gap * (y // 5)
    turn = np.linalg.qr(np.random.default_rng(99).normal(size=(dim, dim)))[0]
    return (scale * h @ turn + 1).astype(np.float32), y


class TestFit:
    def test_finds_structure_a_thousandth_of_the_coarse_one(self):
        probe = linear_probe(*pairs())
        assert probe.accuracy(*pairs(seed=1)) > 0.995

    def test_reaches_the_bayes_rate_of_two_gaussians(self):
        rng = np.random.default_rng(0)
        y = np.arange(40_000) % 2
        h = rng.normal(size=(40_000, 4)) + np.outer(y, [1.5, 0, 0, 0])
        probe = linear_probe(h[:20_000], y[:20_000])
        assert probe.accuracy(h[20_000:], y[20_000:]) == pytest.approx(norm.cdf(0.75), abs=0.01)

    def test_labels_without_relation_stay_at_chance(self):
        rng = np.random.default_rng(0)
        h, y = rng.normal(size=(8_000, 10)), rng.integers(5, size=8_000)
        assert linear_probe(h[:4_000], y[:4_000]).accuracy(h[4_000:], y[4_000:]) < 0.25

    @pytest.mark.parametrize("scale", [1e-4, 1e4])
    def test_unit_of_the_features_does_not_matter(self, scale):
        h, y = pairs(n=600)
        moved = linear_probe(scale * h.astype(np.float64), y)
        test = pairs(n=600, seed=1)[0].astype(np.float64)
        agree = moved.predict(scale * test) == linear_probe(h, y).predict(test)
        assert agree.mean() > 0.998

    def test_constant_features_are_harmless(self):
        h, y = pairs(n=600)
        dead = np.concatenate([h, np.zeros((600, 3), np.float32)], axis=1)
        probe = linear_probe(dead, y)
        dead[:, -1] = 100.0  # a unit that was silent in training says nothing
        np.testing.assert_array_equal(probe.predict(dead), linear_probe(h, y).predict(h))

    def test_converges_without_a_warning_where_classes_are_separable(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            linear_probe(*pairs(n=1_000, gap=0.5, noise=1e-6))

    @pytest.mark.parametrize("value", [1.0, 0.1])
    def test_needs_features_that_differ(self, value):
        with pytest.raises(ValueError, match="all 40 are equal"):
            linear_probe(np.full((40, 3), value), np.arange(40) % 2)

    def test_needs_two_classes(self):
        with pytest.raises(ValueError, match="a probe needs two classes; all 3 labels are 0"):
            linear_probe(np.eye(3), [0, 0, 0])

    def test_refuses_what_is_not_finite(self):
        with pytest.raises(ValueError, match="row 1 "):
            linear_probe(np.array([[0.0], [np.inf]]), [0, 1])


class TestAccuracy:
    def test_per_class_is_counted_class_by_class(self):
        h, y = pairs(n=2_000, noise=6e-4)
        probe = linear_probe(torch.from_numpy(h), torch.from_numpy(y))
        hits = probe.predict(h) == y
        expected = [hits[y == c].mean() for c in range(10)]
        np.testing.assert_allclose(probe.per_class_accuracy(h, y), expected)
        assert probe.accuracy(h, y) == pytest.approx(hits.mean())
        assert 0.6 < hits.mean() < 0.95

    def test_absent_class_is_not_a_number(self):
        h, y = pairs(n=500)
        there = y != 3
        accuracy = linear_probe(h, y).per_class_accuracy(h[there], y[there])
        assert np.isnan(accuracy).tolist() == [c == 3 for c in range(10)]

    def test_labels_may_have_gaps(self):
        h, y = pairs(n=500, gap=0.5)
        assert linear_probe(h, 3 * y).accuracy(h, 3 * y) == 1
