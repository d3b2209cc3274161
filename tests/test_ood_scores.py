"""Scores against closed forms and brute force, detection against counting pairs, images by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf
from torch.nn import functional as F

from nclib.measures.ood_scores import NEIGHBOURS, SCORES, detection_of, noise_like, outlier_scores, resized
from nclib.networks.features import FeatureSet

pytestmark = pytest.mark.numeric


def feature_set(h, labels, seed=0):
    """Features with these coarse labels, and a random head."""
    h, labels = torch.as_tensor(h).float(), torch.as_tensor(labels)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(int(labels.max()) + 1, h.shape[1], generator=generator)
    return FeatureSet(h, labels, labels, weight, torch.randn(len(weight), generator=generator))


def mixture(sizes=(30_000, 10_000), dim=4, shared=False, seed=0):
    """Gaussian classes with full covariances, of their own or shared: h, labels, means, covariances."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    means = 3 * rng.normal(size=(len(sizes), dim))
    roots = rng.normal(size=(1 if shared else len(sizes), dim, dim)) + 2 * np.eye(dim)
    roots = np.broadcast_to(roots, (len(sizes), dim, dim))
    h = means[labels] + np.einsum("nij,nj->ni", roots[labels], rng.normal(size=(len(labels), dim)))
    return h, labels, means, roots @ roots.transpose(0, 2, 1)


def collapsed(spread=1e-3, n=600, dim=20, seed=0):
    """Three far coarse classes of two close fine ones, after a ReLU; four features are dead: h, fine."""
    rng = np.random.default_rng(seed)
    fine = rng.permutation(np.arange(n) % 6)
    means = 1 + rng.random((3, dim))
    h = means[fine % 3] + spread * (rng.normal(size=(6, dim))[fine] + 0.1 * rng.normal(size=(n, dim)))
    h[:, -4:] = 0
    return h, fine


class TestLogitScores:
    @pytest.fixture
    def train(self):
        weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
        return FeatureSet(torch.randn(9, 2), torch.arange(9) % 3, torch.arange(9) % 3, weight, torch.zeros(3))

    def test_by_hand(self, train):
        logits = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0], [-3.0, 4.0, 0.0]])
        scores = outlier_scores(train, logits[:, :2])
        total = np.exp(logits).sum(axis=1)
        np.testing.assert_allclose(scores["softmax"], 1 - np.exp(logits.max(axis=1)) / total, rtol=1e-12)
        np.testing.assert_allclose(scores["energy"], -np.log(total), rtol=1e-12)
        np.testing.assert_allclose(scores["norm"], [-(5**0.5), 0, -5], rtol=1e-12)

    def test_confident_samples_do_not_tie(self, train):
        # 1 - p is zero in float64 here; the rest is e^-50 and so on
        scores = outlier_scores(train, [[50.0, 0.0], [60.0, 0.0], [70.0, 0.0]])["softmax"]
        np.testing.assert_allclose(scores, 2 * np.exp([-50.0, -60.0, -70.0]), rtol=1e-12)


class TestClassScores:
    def test_mahalanobis_distance_of_a_known_covariance(self):
        h, labels, means, (shared, _) = mixture(shared=True)
        x = np.concatenate([means + 1, 3 * means, means[::-1] - 2])
        gaps = x[:, None] - means  # (N, C, D)
        expected = np.einsum("ncd,de,nce->nc", gaps, np.linalg.inv(shared), gaps).min(axis=1)
        np.testing.assert_allclose(outlier_scores(feature_set(h, labels), x)["gaussian"], expected, rtol=0.03)

    def test_one_covariance_averages_over_samples(self):
        h = np.array([[-1.0, 0], [1, 0], [0, -1], [0, 1], [9, 0], [11, 0], [10, -2], [10, 2]])
        train = feature_set(h, [0, 0, 0, 0, 1, 1, 1, 1])  # variances 1/2 and 5/4 by hand, before shrinkage
        pooled, amount = ledoit_wolf(h - np.repeat([[0, 0], [10, 0]], 4, axis=0), assume_centered=True)
        np.testing.assert_allclose(np.diag(pooled), (1 - amount) * np.array([0.5, 1.25]) + amount * 0.875)
        scores = outlier_scores(train, [[2.0, 0], [0, 3], [10, 3]])["gaussian"]
        expected = [4 / pooled[0, 0], 9 / pooled[1, 1], 9 / pooled[1, 1]]
        np.testing.assert_allclose(scores, expected, rtol=1e-9)

    def test_log_density_of_a_known_mixture(self):
        h, labels, means, covariances = mixture()
        x = np.concatenate([means, means + 1, 3 * means])
        pairs = zip([0.75, 0.25], means, covariances, strict=True)
        density = sum(w * multivariate_normal(m, c).pdf(x) for w, m, c in pairs)
        scores = outlier_scores(feature_set(h, labels), x)["gmm"]
        np.testing.assert_allclose(scores, -np.log(density), rtol=0.03)

    def test_nearest_mean_by_brute_force(self):
        h, fine = collapsed()
        train = feature_set(h, fine)
        exact = train.h.double().numpy()
        means = np.stack([exact[fine == c].mean(axis=0) for c in range(6)])
        expected = [min(np.linalg.norm(x - m) for m in means) for x in exact]
        np.testing.assert_allclose(outlier_scores(train, train.h)["nearest-mean"], expected, rtol=1e-9)

    def test_neighbours_by_brute_force(self):
        h, fine = collapsed()
        x = np.random.default_rng(1).normal(size=(7, h.shape[1]))
        scores = outlier_scores(feature_set(h, fine), x)["knn"]
        unit, x = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (np.float64(np.float32(h)), x))
        expected = [np.sort(np.linalg.norm(unit - each, axis=1))[NEIGHBOURS - 1] for each in x]
        np.testing.assert_allclose(scores, expected, rtol=1e-9)

    @pytest.mark.parametrize("name", ["knn", "neco"])
    def test_only_directions_count_however_small(self, name):
        """Exact powers of two; float32 holds them."""
        h, fine = collapsed()
        x = np.float32(np.random.default_rng(1).normal(size=(7, h.shape[1])))
        near, far = (outlier_scores(feature_set(s * h, fine), s * x)[name] for s in (1.0, 2.0**-60))
        np.testing.assert_allclose(far, near, rtol=1e-9)

    def test_few_training_features_are_all_neighbours(self):
        h, _ = collapsed(n=12)
        scores = outlier_scores(feature_set(h, np.arange(12) % 2), -h[:1])["knn"]
        unit = F.normalize(torch.tensor(h))
        assert scores[0] == pytest.approx(float((unit + unit[0]).norm(dim=1).max()), rel=1e-6)

    def test_neco_inside_beside_and_outside_the_subspace(self):
        rng = np.random.default_rng(0)
        labels = np.arange(300) % 3
        h = np.zeros((300, 5))
        h[:, :3] = 10 * np.eye(3)[labels]  # a simplex in the plane across (1, 1, 1)
        h[:, 3] = 0.01 * rng.permutation(np.repeat([-1, 1], 150))
        centre = h.mean(axis=0)
        beside = np.array([1.0, 1, 1, 0, 0])
        inside = np.array([1.0, -1, 0, 0, 0])
        half = inside + 2**0.5 * np.eye(5)[3]  # the third component, one more than C - 1
        scores = outlier_scores(feature_set(h, labels), centre + np.stack([inside, half, beside]))["neco"]
        np.testing.assert_allclose(scores, [-1, -(0.5**0.5), 0], atol=1e-3)

    @pytest.mark.parametrize("name", ["nearest-mean", "gaussian", "gmm"])
    def test_fine_labels_find_a_held_out_fine_class(self, name):
        h, fine = collapsed()
        kept = fine != 5
        scores = outlier_scores(feature_set(h[kept], fine[kept] % 3), h, fine[kept])[name]
        assert detection_of(scores[kept], scores[~kept])["auroc"] > 0.99

    @pytest.mark.parametrize("name", SCORES)
    def test_names_of_labels_do_not_matter(self, name):
        h, fine = collapsed()
        train = feature_set(h, fine % 3)
        renamed = np.array([7, 0, 3, 9, 4, 12])[fine]  # with gaps
        expected = outlier_scores(train, h, fine)[name]
        np.testing.assert_allclose(outlier_scores(train, h, renamed)[name], expected, rtol=1e-6)

    @pytest.mark.parametrize("name", ["gaussian", "gmm", "nearest-mean", "neco"])
    def test_rotation_and_shift_do_not_matter(self, name):
        h, labels, *_ = mixture((300, 100))
        rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))[0]
        moved = h @ rotation + 5
        scores, turned = (outlier_scores(feature_set(x, labels), x)[name] for x in (h, moved))
        np.testing.assert_allclose(turned, scores, rtol=1e-3, atol=1e-3)


class TestDegenerateFeatures:
    @pytest.mark.parametrize("spread", [0, 1e-6, 1e-3])
    @pytest.mark.parametrize("level", ["coarse", "fine"])
    def test_collapse_and_dead_features_stay_finite(self, spread, level):
        h, fine = collapsed(spread)
        train = feature_set(h, fine % 3)
        awake = h + np.eye(20)[19]  # a dead feature that wakes
        for x in (h, awake, 0 * h):
            scores = outlier_scores(train, x, fine if level == "fine" else None)
            assert all(np.isfinite(s).all() and s.dtype == np.float64 for s in scores.values())

    @pytest.mark.parametrize("name", ["nearest-mean", "gaussian", "gmm", "knn", "neco"])
    def test_a_dead_feature_that_wakes_is_unusual(self, name):
        h, fine = collapsed()
        train = feature_set(h, fine % 3)
        inside, outside = (outlier_scores(train, x)[name] for x in (h, h + 0.1 * np.eye(20)[19]))
        assert detection_of(inside, outside)["auroc"] == 1

    @pytest.mark.parametrize("value", [0, 1])
    def test_features_that_are_all_the_same(self, value):
        train = feature_set(np.full((60, 3), value), np.arange(60) % 2)
        scores = outlier_scores(train, value + np.array([[0, 0, 0], [0, 0, 1000.0]]))
        assert all(np.isfinite(s).all() for s in scores.values())
        assert scores["gaussian"][0] < scores["gaussian"][1]

    def test_fewer_samples_than_features(self):
        h = np.random.default_rng(0).normal(size=(20, 50))
        train = feature_set(h, np.arange(20) % 2)
        scores = outlier_scores(train, np.concatenate([h, 5 * h]))
        for name in ("gaussian", "gmm"):
            assert detection_of(scores[name][:20], scores[name][20:])["auroc"] == 1

    def test_a_class_needs_two_samples(self):
        with pytest.raises(ValueError, match="class 7 has 1"):
            outlier_scores(feature_set(np.eye(3), [0, 0, 0]), np.eye(3), [0, 0, 7])

    def test_labels_belong_to_the_training_features(self):
        with pytest.raises(ValueError, match="one per sample"):
            outlier_scores(feature_set(np.eye(4), [0, 0, 1, 1]), np.eye(4), [0, 1])

    def test_training_features_come_with_their_head(self):
        with pytest.raises(TypeError, match="train must be a FeatureSet, with its head; got ndarray"):
            outlier_scores(np.eye(4), np.eye(4))

    def test_one_name_is_one_score(self):
        h, fine = collapsed()
        train = feature_set(h, fine % 3)
        assert list(outlier_scores(train, h, scores="knn")) == ["knn"]

    def test_repeated_calls_agree_and_leave_the_input(self):
        h, fine = collapsed()
        train = feature_set(h, fine % 3)
        before = train.h.clone()
        first, second = outlier_scores(train, h), outlier_scores(train, h)
        assert list(first) == list(SCORES)
        assert all((first[name] == second[name]).all() for name in SCORES)
        assert torch.equal(train.h, before)


scores_with_ties = st.lists(st.integers(-3, 3), min_size=1, max_size=60)


class TestDetection:
    @settings(max_examples=200, deadline=None)
    @given(inside=scores_with_ties, outside=scores_with_ties)
    def test_counting(self, inside, outside):
        found = detection_of(inside, outside)
        wins = [(o > i) + (o == i) / 2 for i in inside for o in outside]
        assert found["auroc"] == pytest.approx(np.mean(wins))
        passes = [t for t in inside if 100 * sum(i <= t for i in inside) >= 95 * len(inside)]
        assert found["fpr95"] == pytest.approx(np.mean([o <= min(passes) for o in outside]))

    @pytest.mark.parametrize("n", [20, 60, 180, 1000, 1700])
    def test_exactly_a_twentieth_is_refused(self, n):
        inside = np.arange(n)
        assert detection_of(inside, inside)["fpr95"] == pytest.approx(0.95, abs=1e-12)

    def test_extremes(self):
        assert detection_of([0, 1], [2, 3]) == {"auroc": 1, "fpr95": 0}
        assert detection_of([2, 3], [0, 1]) == {"auroc": 0, "fpr95": 1}
        assert detection_of([1, 1], [1, 1, 1]) == {"auroc": 0.5, "fpr95": 1}

    def test_refusals(self):
        with pytest.raises(ValueError, match="got 2 inside and 0 outside"):
            detection_of([1, 2], [])
        with pytest.raises(ValueError, match="scores must be finite; row 0"):
            detection_of([1, 2], [np.nan])

    def test_closed_form_of_two_gaussians(self):
        rng = np.random.default_rng(0)
        found = detection_of(rng.normal(size=100_000), 2 + rng.normal(size=100_000))
        cdf = torch.special.ndtr
        assert found["auroc"] == pytest.approx(float(cdf(torch.tensor(math.sqrt(2)))), abs=0.005)
        assert found["fpr95"] == pytest.approx(float(cdf(torch.tensor(1.6449 - 2))), abs=0.01)


class TestImages:
    def test_noise_has_the_mean_and_spread_of_each_channel(self):
        generator = torch.Generator().manual_seed(0)
        images = (
            torch.randn(200, 3, 16, 16, generator=generator) * 10
            + torch.tensor([70, 128, 180])[:, None, None]
        )
        noise = noise_like(images.to(torch.uint8), seed=1)
        assert noise.dtype == torch.uint8 and noise.shape == images.shape
        for channel, mean in enumerate([70, 128, 180]):
            pixels = noise[:, channel].double()
            # uint8 cuts off half a level; 51,200 pixels twice: standard errors 0.06 and 0.04
            assert float(pixels.mean()) == pytest.approx(mean - 0.5, abs=0.3)
            assert float(pixels.std()) == pytest.approx(10, abs=0.2)
            neighbours = torch.corrcoef(torch.stack([pixels[..., :-1].flatten(), pixels[..., 1:].flatten()]))
            assert abs(float(neighbours[0, 1])) < 0.02

    def test_noise_follows_its_seed(self):
        images = torch.arange(256, dtype=torch.uint8).reshape(4, 1, 8, 8)
        assert torch.equal(noise_like(images, 3), noise_like(images, 3))
        assert not torch.equal(noise_like(images, 3), noise_like(images, 4))

    def test_nothing_to_do(self):
        images = torch.arange(96, dtype=torch.uint8).reshape(2, 3, 4, 4)
        assert torch.equal(resized(images, (3, 4, 4)), images)

    def test_channels_are_averaged_or_repeated(self):
        colour = torch.tensor([30, 60, 120], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(2, 3, 4, 4)
        assert torch.equal(resized(colour, (1, 4, 4)), torch.full((2, 1, 4, 4), 70, dtype=torch.uint8))
        grey = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4)
        assert torch.equal(resized(grey, (3, 4, 4)), grey.expand(1, 3, 4, 4))

    def test_sizes(self):
        ramp = 8 * torch.arange(32).expand(1, 1, 32, 32).to(torch.uint8)
        small = resized(ramp, (1, 8, 8))[0, 0, 0].tolist()
        assert small[1:-1] == [8 * (4 * i + 1.5) for i in range(1, 7)]  # centre of four columns
        stripes = torch.tensor([0, 200, 200, 0], dtype=torch.uint8).repeat(8).expand(1, 1, 32, 32)
        assert (resized(stripes, (1, 8, 8)).int() - 100).abs().max() < 30  # bilinear points see 200 alone
        flat = torch.full((5, 1, 8, 8), 200, dtype=torch.uint8)
        for shape in ((1, 28, 28), (3, 32, 32), (1, 5, 7)):
            assert torch.equal(resized(flat, shape), torch.full((5, *shape), 200, dtype=torch.uint8))
