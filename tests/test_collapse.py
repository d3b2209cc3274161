"""Neural-collapse measures against the textbook formulas, the exact frame, their invariances."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nclib.measures import arrays, collapse
from nclib.measures.collapse import (
    collapse_metrics,
    collapse_of,
    nearest_mean_disagreement,
    share_along_means,
    variability,
)
from nclib.measures.moments import ClassMoments, Moments

pytestmark = pytest.mark.numeric

KEYS = {
    "nc1",
    "nc2_equinorm_means",
    "nc2_equinorm_weights",
    "nc2_equiangular_means",
    "nc2_equiangular_weights",
    "nc2_maxangle_means",
    "nc2_maxangle_weights",
    "nc3",
    "nc4",
}


def simplex(classes, dim):
    """Exact simplex equiangular tight frame (C, D), turned at random."""
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(dim, dim)))[0]
    return (np.eye(classes) - 1 / classes) @ turn[:classes]


def features(classes=5, dim=8, n=40, noise=0.7, seed=0):
    """Noisy classes of unequal sizes and a random classifier: h, y, weight, bias in float64."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(classes), n + 3 * np.arange(classes)))
    h = rng.normal(size=(classes, dim))[y] + noise * rng.normal(size=(len(y), dim))
    return h, y, rng.normal(size=(classes, dim)), rng.normal(size=classes)


def textbook(h, y, weight, bias):
    """The table of Papyan, Han and Donoho, term by term, with covariances and a pseudo-inverse."""
    classes = range(len(weight))
    mu = np.stack([h[y == c].mean(0) for c in classes])
    m = mu - mu.mean(0)
    sigma_w = sum(np.outer(x - mu[c], x - mu[c]) for x, c in zip(h, y, strict=True)) / len(h)
    sigma_b = sum(np.outer(row, row) for row in m) / len(mu)
    nearest = [min(classes, key=lambda c: np.linalg.norm(x - mu[c])) for x in h]
    out = {
        "nc1": np.trace(sigma_w @ np.linalg.pinv(sigma_b, rcond=1e-10)) / len(mu),
        "nc3": np.sum((weight / np.linalg.norm(weight) - m / np.linalg.norm(m)) ** 2),
        "nc4": np.mean([np.argmax(weight @ x + bias) for x in h] != np.array(nearest)),
    }
    for name, rows in (("means", m), ("weights", weight)):
        norms = [np.linalg.norm(row) for row in rows]
        cosines = np.array(
            [rows[i] @ rows[j] / norms[i] / norms[j] for i in classes for j in classes if i != j]
        )
        out[f"nc2_equinorm_{name}"] = np.std(norms) / np.mean(norms)
        out[f"nc2_equiangular_{name}"] = np.std(cosines)
        out[f"nc2_maxangle_{name}"] = np.mean(np.abs(cosines + 1 / (len(mu) - 1)))
    return out


class TestMetrics:
    @pytest.mark.parametrize(("classes", "dim"), [(2, 8), (5, 8), (8, 8), (9, 4), (40, 6)])
    def test_textbook(self, classes, dim):
        sample = features(classes, dim)
        measured = collapse_metrics(*sample)
        assert measured.keys() == KEYS
        assert measured == pytest.approx(textbook(*sample), rel=1e-9, abs=1e-12)

    @pytest.mark.parametrize("classes", [2, 3, 10, 100])
    def test_zero_at_the_exact_frame(self, classes):
        frame = simplex(classes, 128)
        y = np.arange(4 * classes) % classes
        measured = collapse_metrics(5 * frame[y] + 3, y, 2 * frame, -6 * frame.sum(1))
        assert max(abs(value) for value in measured.values()) < 1e-12

    @settings(max_examples=15, deadline=None)
    @given(classes=st.integers(2, 12), scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
    def test_zero_at_the_frame_scaled_shifted_and_imbalanced(self, classes, scale, shift):
        frame = simplex(classes, 16)
        y = np.repeat(np.arange(classes), 1 + np.arange(classes) ** 2)
        h = scale * (frame[y] + shift)
        measured = collapse_metrics(h, y, frame, -shift * scale * frame.sum(1))
        assert max(abs(value) for value in measured.values()) < 1e-9

    def test_each_measure_sees_its_own_fault(self):
        frame = simplex(4, 8)
        y = np.arange(40) % 4
        longer, tilted = frame.copy(), frame.copy()
        longer[0] *= 2
        tilted[0] = frame[0] + 0.5 * np.linalg.norm(frame[0]) * simplex(5, 8)[4]
        assert collapse_metrics(frame[y], y, longer)["nc2_equinorm_weights"] > 0.1
        assert collapse_metrics(frame[y], y, longer)["nc2_equiangular_weights"] < 1e-12
        assert collapse_metrics(frame[y], y, tilted)["nc2_equiangular_weights"] > 0.01
        assert collapse_metrics(frame[y], y, frame[[1, 0, 2, 3]])["nc3"] > 0.1
        assert collapse_metrics(frame[y], y, frame[[1, 0, 2, 3]])["nc4"] == 0.5
        assert collapse_metrics(frame[y], y, frame, [9, 0, 0, 0])["nc4"] == 0.75

    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 999), scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
    def test_rotation_translation_scale_and_order_change_nothing(self, seed, scale, shift):
        h, y, weight, bias = features(seed=seed)
        rng = np.random.default_rng(seed)
        turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
        names, order = rng.permutation(5), rng.permutation(len(y))
        moved = scale * (h @ turn) + shift
        turned = weight @ turn / scale
        back = bias - shift * turned.sum(1)
        relabelled = collapse_metrics(
            moved[order], names[y][order], turned[names.argsort()], back[names.argsort()]
        )
        expected = collapse_metrics(h, y, weight, bias)
        assert relabelled == pytest.approx(expected, rel=1e-8, abs=1e-10)

    def test_from_stored_moments(self):
        h, y, weight, bias = features()
        full = collapse_metrics(h, y, weight, bias)
        moments = Moments.of(h, y)
        assert collapse_of(moments, weight) == {k: v for k, v in full.items() if k != "nc4"}
        assert collapse_of(moments).keys() == {"nc1", *(k for k in KEYS if k.endswith("_means"))}

    def test_blocks_of_rows(self, monkeypatch):
        sample = features(9, 4)
        expected = collapse_metrics(*sample)
        monkeypatch.setattr(collapse, "CHUNK", 20)
        assert collapse_metrics(*sample) == pytest.approx(expected, rel=1e-12)

    def test_torch_numpy_and_lists_agree(self):
        sample = features()
        tensors = [torch.tensor(array) for array in sample]
        lists = [array.tolist() for array in sample]
        assert collapse_metrics(*tensors) == collapse_metrics(*sample) == collapse_metrics(*lists)


class TestVariants:
    def test_nc1_of_all_classes_together(self):
        sample = features()
        whole = collapse_metrics(*sample, per_class=False)["nc1"]
        assert whole == pytest.approx(5 * collapse_metrics(*sample)["nc1"], rel=1e-14)

    def test_unbiased_deviations(self):
        sample = features()
        measured, biased = collapse_metrics(*sample, correction=1), collapse_metrics(*sample)
        for name in ("means", "weights"):
            for key, count in (("equinorm", 5), ("equiangular", 20)):
                ratio = measured[f"nc2_{key}_{name}"] / biased[f"nc2_{key}_{name}"]
                assert ratio == pytest.approx((count / (count - 1)) ** 0.5, rel=1e-12)

    def test_nc4_without_bias_and_with_other_means(self):
        h, y, weight, bias = features()
        means = np.random.default_rng(3).normal(size=(5, 8))
        nearest = ((h[:, None] - means) ** 2).sum(2).argmin(1)
        for given_bias, logits in ((bias, h @ weight.T + bias), (None, h @ weight.T)):
            expected = textbook(h, y, weight, bias) | {"nc4": np.mean(logits.argmax(1) != nearest)}
            measured = collapse_metrics(h, y, weight, given_bias, means=means)
            assert measured == pytest.approx(expected, rel=1e-9)


class TestNearestMean:
    """Features of float32 are decided as those of float64 are."""

    @pytest.mark.parametrize("offset", [0.0, 1e4])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_equals_float64(self, offset, dtype):
        h, y, weight, bias = features(noise=3)
        h = torch.from_numpy(h + offset).to(dtype)
        means = Moments.of(h, y).means
        measured = nearest_mean_disagreement(h, means, weight, bias)
        assert measured == nearest_mean_disagreement(h.double(), means, weight, bias)
        assert measured == nearest_mean_disagreement(h, means.float().numpy(), weight, bias)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_parts_in_threads(self, monkeypatch, dtype):
        h, y, weight, bias = features(noise=3)
        h = torch.from_numpy(h).to(dtype)
        expected = textbook(h.double().numpy(), y, weight, bias)["nc4"]
        monkeypatch.setattr(arrays, "PART", 100)
        before = torch.get_num_threads()
        torch.set_num_threads(3)
        measured = nearest_mean_disagreement(h, Moments.of(h, y).means, weight, bias)
        torch.set_num_threads(before)
        assert measured == expected

    def test_ties_that_only_float64_breaks(self):
        h = torch.ones(4, 3)
        weight = np.array([[1.0, 0, 0], [1.0 + 1e-12, 0, 0]])
        means = torch.tensor([[0.0, 0, 0], [2.0 + 1e-12, 2, 2]], dtype=torch.float64)
        assert nearest_mean_disagreement(h, means, weight) == 1
        assert nearest_mean_disagreement(h, means, weight[::-1].copy()) == 0

    def test_numbers_beyond_float32(self):
        h = torch.tensor([[1e30, 0.0], [0.0, 1e30]])
        means = h.double()
        assert nearest_mean_disagreement(h, means, np.eye(2)) == 0
        assert nearest_mean_disagreement(h, means, np.eye(2)[::-1].copy() * 1e50) == 1


class TestClosePairs:
    """Five pairs of classes, a hundred times closer to their twins than to the others."""

    def pairs(self):
        rng = np.random.default_rng(0)
        centres = np.repeat(simplex(5, 512), 2, axis=0)
        centres[1::2] += 0.01 * np.linalg.qr(rng.normal(size=(512, 5)))[0].T
        y = np.arange(4_000) % 10
        return (centres[y] + 1e-4 * rng.normal(size=(4_000, 512))).astype(np.float32), y

    def by_pseudo_inverse(self, h, y):
        mu = np.stack([h[y == c].mean(0) for c in range(10)])
        z, m = h - mu[y], mu - mu.mean(0)
        inverse = torch.linalg.pinv(torch.from_numpy(m.T @ m / 10)).numpy()
        return np.trace(z.T @ z / len(z) @ inverse) / 10

    def test_float64_where_a_float32_pseudo_inverse_fails(self):
        h, y = self.pairs()
        exact = self.by_pseudo_inverse(h.astype(np.float64), y)
        assert variability(Moments.of(h, y)) == pytest.approx(exact, rel=1e-6)
        assert self.by_pseudo_inverse(h, y) < exact / 100

    @pytest.mark.parametrize("distance", [1.0, 0.1, 0.01, 0.001])
    def test_many_digits_as_reference(self, distance):
        """Rational means and covariance, the pseudo-inverse as a solution in 50 digits."""
        rng = np.random.default_rng(0)
        means = np.repeat(rng.integers(-64, 64, size=(3, 6)) / 64, 2, axis=0)
        means[1::2] += distance * rng.integers(-8, 8, size=(3, 6)) / 8
        noise = distance / 16 * rng.integers(-8, 8, size=(40, 6)) / 8
        y = np.repeat(np.arange(6), 80)
        h = means[y] + np.tile(np.concatenate([noise, -noise]), (6, 1))
        with mpmath.workdps(50):
            samples = mpmath.matrix(h.tolist())
            mu = mpmath.matrix(6, 6)
            for row, c in enumerate(y):
                mu[int(c), :] += samples[row, :] / 80
            centre = sum((mu[c, :] for c in range(6)), mpmath.zeros(1, 6)) / 6
            m = mpmath.matrix([[mu[c, k] - centre[k] for k in range(6)] for c in range(6)])
            within = mpmath.matrix(6, 6)
            for row, c in enumerate(y):
                z = samples[row, :] - mu[int(c), :]
                within += z.T * z / len(y)
            basis = m[
                :5, :
            ]  # rows span those of m; with m = T basis, Sigma_B^+ = B' (B B' T'T B B' / 6)^-1 B
            mix = mpmath.matrix([[mpmath.mpf(i == j) for j in range(5)] for i in range(5)] + [[-1] * 5])
            gram = basis * basis.T
            inverse = (gram * (mix.T * mix) * gram / 6) ** -1
            product = within * basis.T * inverse * basis
            exact = float(sum(product[k, k] for k in range(6)) / 6)
        # rounding grows with the condition of the Gram matrix of the means: 9e7 at distance 0.001
        values = np.linalg.svd(means - means.mean(axis=0), compute_uv=False)
        bound = 4 * np.finfo(float).eps * (values[0] / values[4]) ** 2
        assert variability(Moments.of(h, y)) == pytest.approx(exact, rel=bound)

    def test_collapse_on_pairs_differs_from_collapse_on_coarse_classes(self):
        h, y = self.pairs()
        fine = Moments.of(h, y)
        coarse = variability(fine.grouped(np.arange(10) // 2))
        assert coarse == pytest.approx(variability(Moments.of(h, y // 2)), rel=1e-9)
        assert coarse < variability(fine) / 5


class TestAlongMeans:
    @pytest.mark.parametrize("dim", [3, 8, 20])  # fewer than the classes, and more
    def test_share_is_that_of_a_projection(self, dim):
        rng = np.random.default_rng(0)
        y = np.arange(60) % 5
        h = rng.normal(size=(5, dim))[y] + rng.normal(size=(60, dim)) * rng.uniform(0.1, 3, dim) + 100
        mu = np.stack([h[y == c].mean(axis=0) for c in range(5)])
        axes = np.linalg.svd(mu - mu.mean(axis=0))[2][:4]
        z = h - mu[y]
        expected = np.square(z @ axes.T).sum() / np.square(z).sum()
        assert share_along_means(Moments.of(h, y)) == pytest.approx(expected, rel=1e-9)
        assert (expected == pytest.approx(1)) == (dim == 3)

    def test_variance_in_other_directions_is_not_seen(self):
        """Wide clouds across the means leave NC1 at zero."""
        frame, y = simplex(5, 8), np.arange(100) % 5
        across = np.linalg.svd(frame)[2][4:]  # (4, 8), orthogonal to all means
        spread = np.random.default_rng(0).normal(size=(20, 4)).repeat(5, axis=0)  # alike in every class
        moments = Moments.of(frame[y] + 10 * (spread - spread.mean(axis=0)) @ across, y)
        assert moments.scatter.min() > 100 and variability(moments) < 1e-20
        assert share_along_means(moments) < 1e-20

    def test_coinciding_means_and_points_have_none(self):
        h, y = np.repeat([[1.0, 2.0], [3.0, 5.0]], 2, axis=0), [0, 1, 0, 1]
        assert share_along_means(Moments.of(h, y)) == 0
        assert np.isnan(share_along_means(Moments.of(h, [0, 0, 1, 1])))


class TestEdges:
    def test_coinciding_means_leave_nothing_to_compare_with(self):
        h = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        assert variability(Moments.of(h, [0, 0, 1, 1])) == np.inf

    def test_nearest_mean_far_from_the_origin(self):
        h = np.array([[2.0**40], [2.0**40 + 1], [2.0**40 + 2]])
        means = torch.tensor([[2.0**40], [2.0**40 + 2]], dtype=torch.float64)
        never_the_first = nearest_mean_disagreement(h, means, np.zeros((2, 1)), [0.0, 1.0])
        assert never_the_first == pytest.approx(2 / 3)

    def test_single_class(self):
        with pytest.raises(ValueError, match="single class"):
            collapse_of(Moments.of(np.eye(3), [0, 0, 0]))

    def test_moments_that_are_not_finished(self):
        with pytest.raises(TypeError, match=r"expected Moments; got ClassMoments.*\.summary\(\)"):
            collapse_of(ClassMoments.of(np.eye(2), [0, 1]))

    @pytest.mark.parametrize(
        ("weight", "bias", "message"),
        [
            (np.ones((5, 7)), None, r"\(5, 8\); got \(5, 7\)"),
            (np.ones((5, 8)), np.ones(4), r"shape \(5,\); got \(4,\)"),
            (np.ones((8, 5)), None, r"weight must be \(C, D\), one row a class, here \(5, 8\); got \(8, 5\)"),
            (np.ones((4, 8)), None, "class count 4"),
            (np.ones((6, 8)), None, "class 5 has 0"),
            (np.full((5, 8), np.nan), None, "classifier weights must be finite; row 0"),
        ],
    )
    def test_refuses_another_classifier(self, weight, bias, message):
        h, y, _, _ = features()
        with pytest.raises(ValueError, match=message):
            collapse_metrics(h, y, weight, bias)
