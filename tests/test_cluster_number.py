"""Numbers of clusters: clouds whose number is known, and each criterion against its definition."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from sklearn.cluster import KMeans

import nclib
from nclib.measures import cluster_number

pytestmark = pytest.mark.numeric


def clouds(k: int, each: int = 40, dim: int = 5, seed: int = 0) -> np.ndarray:
    """k round clouds, far apart."""
    random = np.random.default_rng(seed)
    centres = 20 * np.eye(max(k, dim))[:k, :dim]
    return np.repeat(centres, each, axis=0) + random.standard_normal((k * each, dim))


class TestChooseK:
    @pytest.mark.parametrize("method", cluster_number.CRITERIA)
    def test_clouds_that_are_apart(self, method):
        true = [2, 4, 3]
        h = np.concatenate([clouds(k, seed=k) for k in true])
        coarse = np.repeat([0, 1, 2], [40 * k for k in true])
        shuffled = np.random.default_rng(0).permutation(len(h))
        assert nclib.choose_k(h[shuffled], coarse[shuffled], method).tolist() == true

    @pytest.mark.parametrize(("method", "chosen"), [("prediction-strength", 1), ("gap", 1)])
    def test_one_cloud(self, method, chosen):
        assert nclib.choose_k(clouds(1, each=200), np.zeros(200, int), method).tolist() == [chosen]

    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    @pytest.mark.parametrize("points", [1, 2])
    def test_so_many_points_are_so_many_clusters(self, points):
        h = np.eye(3)[np.arange(60) // 2 % points]
        assert nclib.choose_k(h, np.arange(60) % 2).tolist() == [points, points]

    def test_silhouette_cannot_say_one(self):
        assert nclib.choose_k(clouds(1, each=200), np.zeros(200, int), "silhouette")[0] >= 2

    @pytest.mark.parametrize("method", cluster_number.CRITERIA)
    def test_position_rotation_and_scale_do_not_matter(self, method):
        h, coarse = clouds(3), np.zeros(120, int)
        turn = np.linalg.qr(np.random.default_rng(1).standard_normal((5, 5)))[0]
        moved = 1e-3 * (h @ turn + 100)
        assert nclib.choose_k(moved, coarse, method) == nclib.choose_k(h, coarse, method)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [({"method": "elbow"}, "unknown method 'elbow'"), ({"most": 1}, "most=1"), ({"most": 50}, "most=50")],
    )
    def test_refuses(self, settings, message):
        with pytest.raises(ValueError, match=message):
            nclib.choose_k(clouds(2), np.zeros(80, int), **settings)

    @pytest.mark.parametrize(
        ("samples", "most", "message"),
        [
            (7, 2, "most=2 needs 8 samples a class; class 0 has 7$"),
            (9, 3, "needs 12 .* has 9: choose most=2$"),
        ],
    )
    def test_says_how_many_samples_are_needed(self, samples, most, message):
        with pytest.raises(ValueError, match=message):
            nclib.choose_k(clouds(1, samples), np.zeros(samples, int), most=most)

    def test_says_which_label_is_missing(self):
        with pytest.raises(ValueError, match="label 1 has no samples"):
            nclib.choose_k(clouds(2), 2 * (np.arange(80) % 2))


def test_weakest_counts_pairs():
    random = np.random.default_rng(0)
    own, other = random.integers(3, size=60), random.integers(3, size=60)
    shares = []
    for c in range(3):
        pairs = list(combinations(np.flatnonzero(own == c), 2))
        shares.append(sum(other[i] == other[j] for i, j in pairs) / len(pairs))
    assert cluster_number._weakest(own, other, 4) == 0  # the fourth is empty
    assert cluster_number._weakest(own, other, 3) == pytest.approx(min(shares))


def test_prediction_strength_of_clouds_falls_beyond_their_number():
    strength = cluster_number.prediction_strength(clouds(3), most=5)
    assert strength[0] == strength[2] == 1
    assert strength[3:].max() < cluster_number.STABLE


def test_gap_of_a_uniform_sample_is_none():
    """Against samples of its own kind the gap is noise: of the size of its standard error."""
    x = np.random.default_rng(3).uniform(size=(300, 2))
    gap, error = cluster_number.gap_statistic(x, most=4)
    assert (np.abs(gap) < 4 * error).all()


def test_log_scatter_is_the_sum_of_squares():
    x = clouds(2)
    fit = KMeans(2, n_init=10, random_state=0).fit(x)
    squares = sum(((x[fit.labels_ == c] - x[fit.labels_ == c].mean(0)) ** 2).sum() for c in (0, 1))
    expected = np.log([((x - x.mean(0)) ** 2).sum(), squares])
    assert cluster_number._log_scatter(x, 2, seed=0) == pytest.approx(expected)
