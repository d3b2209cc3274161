"""Measures of other papers: the exact frame, sums over pairs in float64, invariances."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from test_collapse import features, simplex

from nclib.measures import collapse_variants
from nclib.measures.moments import ClassMoments, Moments, centred

pytestmark = pytest.mark.numeric


def blobs(seed=0):
    h, y, weight, _ = features(seed=seed)
    return h, y, weight, Moments.of(h, y)


def collapsed(classes=5, dim=8):
    """Moments at the exact frame, shifted and scaled, and the frame."""
    frame, y = simplex(classes, dim), np.arange(4 * classes) % classes
    return ClassMoments.of(5 * frame[y] + 3, y), frame


def over_pairs(count, value):
    return np.mean([value(i, j) for i, j in combinations(range(count), 2)])


class TestClassDistanceVariance:
    def test_sum_over_pairs(self):
        h, y, _, moments = blobs()
        mu = [h[y == c].mean(0) for c in range(5)]
        var = [((h[y == c] - mu[c]) ** 2).sum(1).mean() for c in range(5)]
        expected = over_pairs(5, lambda i, j: (var[i] + var[j]) / 2 / ((mu[i] - mu[j]) ** 2).sum())
        assert collapse_variants.class_distance_variance(moments) == pytest.approx(expected, rel=1e-12)

    def test_zero_at_collapse(self):
        assert collapse_variants.class_distance_variance(collapsed()[0].summary()) < 1e-28

    def test_blocks_of_rows(self, monkeypatch):
        moments = blobs()[3]
        whole = collapse_variants.class_distance_variance(moments)
        monkeypatch.setattr("nclib.measures.collapse.CHUNK", 10)
        assert collapse_variants.class_distance_variance(moments) == pytest.approx(whole, rel=1e-14)

    def test_rotation_shift_and_scale_change_nothing(self):
        h, y, _, moments = blobs()
        turn = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0]
        moved = collapse_variants.class_distance_variance(Moments.of(3 * h @ turn - 7, y))
        assert moved == pytest.approx(collapse_variants.class_distance_variance(moments), rel=1e-11)


class TestSimplexError:
    @pytest.mark.parametrize("classes", [2, 5, 100])
    def test_zero_at_the_frame_in_any_unit(self, classes):
        frame = torch.from_numpy(simplex(classes, 128))
        assert collapse_variants.simplex_error(frame) < 1e-14 * classes
        assert collapse_variants.simplex_error(4 * frame, 9 * frame) < 1e-14 * classes

    @pytest.mark.parametrize("dim", [3, 8])
    def test_definition(self, dim, monkeypatch):
        rng = np.random.default_rng(0)
        left, right = rng.normal(size=(2, 5, dim))
        gram = left @ right.T
        frame = (np.eye(5) - 1 / 5) / 2
        expected = np.linalg.norm(gram / np.linalg.norm(gram) - frame)
        monkeypatch.setattr(collapse_variants, "CHUNK", 10)
        measured = collapse_variants.simplex_error(torch.from_numpy(left), torch.from_numpy(right))
        assert measured == pytest.approx(expected, rel=1e-13)

    def test_rotation_and_scale_change_nothing(self):
        vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 8)))
        turn = torch.from_numpy(np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0])
        expected = collapse_variants.simplex_error(vectors)
        assert collapse_variants.simplex_error(3 * vectors @ turn) == pytest.approx(expected, rel=1e-13)


class TestUniformity:
    @pytest.mark.parametrize(
        ("kernel", "s", "energy"),
        [
            ("inverse", 1, lambda d: 1 / d),
            ("log", 1, lambda d: -np.log(d)),
            ("riesz", 2.5, lambda d: d**-2.5),
            ("riesz", -1, lambda d: -d),
        ],
    )
    def test_sum_over_pairs_and_value_at_the_frame(self, kernel, s, energy):
        vectors = np.random.default_rng(0).normal(size=(5, 8))
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        expected = over_pairs(5, lambda i, j: energy(np.linalg.norm(units[i] - units[j])))
        assert collapse_variants.uniformity(3 * vectors, kernel, s) == pytest.approx(expected, rel=1e-12)
        least = collapse_variants.uniformity(simplex(5, 8), kernel, s)
        assert least == pytest.approx(energy((2 * 5 / 4) ** 0.5), rel=1e-12)
        assert least < expected

    @pytest.mark.parametrize(
        ("kernel", "s", "message"), [("dot", 1, "unknown kernel"), ("riesz", 0, "other than 0")]
    )
    def test_refuses(self, kernel, s, message):
        with pytest.raises(ValueError, match=message):
            collapse_variants.uniformity(np.eye(3), kernel, s)


class TestDualitySpread:
    @pytest.mark.parametrize("correction", [0, 1])
    def test_definition(self, correction):
        _, _, weight, moments = blobs()
        m = centred(moments.means).numpy()
        dots = [w @ v for w, v in zip(weight, m, strict=True)]
        cosines = [w @ v / np.linalg.norm(w) / np.linalg.norm(v) for w, v in zip(weight, m, strict=True)]
        for cosine, values in ((False, dots), (True, cosines)):
            spread = collapse_variants.duality_spread(moments, weight, cosine=cosine, correction=correction)
            assert spread == pytest.approx(np.std(values, ddof=correction), rel=1e-12)

    def test_zero_at_self_duality(self):
        moments, frame = collapsed()
        assert collapse_variants.duality_spread(moments.summary(), 2 * frame) < 1e-14


class TestOutlierOrthogonality:
    def test_definition(self):
        moments, outlier = blobs()[3], np.random.default_rng(5).normal(size=8)
        mu = moments.means.numpy()
        for centre in (False, True):
            origin = mu.mean(0) if centre else 0
            rows, other = mu - origin, outlier - origin
            cosines = [row @ other / np.linalg.norm(row) / np.linalg.norm(other) for row in rows]
            measured = collapse_variants.outlier_orthogonality(moments, outlier, centre=centre)
            assert measured == pytest.approx(np.abs(cosines).mean(), rel=1e-12)

    def test_zero_where_orthogonal(self):
        y = np.arange(12) % 3
        assert collapse_variants.outlier_orthogonality(Moments.of(np.eye(4)[y], y), np.eye(4)[3]) == 0

    def test_refuses_another_shape(self):
        with pytest.raises(ValueError, match=r"\(8,\); got \(7,\)"):
            collapse_variants.outlier_orthogonality(blobs()[3], np.ones(7))


class TestVariabilityCollapseIndex:
    @pytest.mark.parametrize(("classes", "dim"), [(5, 8), (9, 4)])
    def test_definition_and_invariance_under_linear_maps(self, classes, dim):
        h, y, _, _ = features(classes, dim)
        moments = ClassMoments.of(h, y)
        m = centred(moments.means).numpy()
        between = m.T @ m / classes
        explained = np.trace(np.linalg.pinv(moments.within.numpy() + between) @ between)
        expected = 1 - explained / min(classes - 1, dim)
        assert collapse_variants.variability_collapse_index(moments) == pytest.approx(expected, rel=1e-10)
        skew = np.eye(dim) + np.random.default_rng(0).uniform(size=(dim, dim)) / dim
        moved = ClassMoments.of(h @ skew + 2, y)
        assert collapse_variants.variability_collapse_index(moved) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("shift", [2.0**5, 2.0**10, 2.0**20])
    def test_far_from_the_origin(self, shift):
        """Rounding adds no direction to the means."""
        for seed in range(20):
            h, y, _, _ = features(seed=seed)
            h = np.round(h * 2**20) / 2**20  # exact also after the shift
            near, far = (
                collapse_variants.variability_collapse_index(ClassMoments.of(x, y)) for x in (h, h + shift)
            )
            assert far == pytest.approx(near, abs=1e-16 * shift)  # 200 draws: at most 4.2e-17 * shift

    def test_zero_at_collapse(self):
        assert abs(collapse_variants.variability_collapse_index(collapsed()[0])) < 1e-12

    @pytest.mark.parametrize("width", [1e-6, 1e-8, 1e-12])
    def test_directions_that_are_rounding_count_for_neither(self, width):
        """Collapsed means, of which all but two columns are narrow."""
        frame, y = simplex(5, 8), np.arange(20) % 5
        h = frame[y] * np.where(np.arange(8) < 2, 1, width)
        assert abs(collapse_variants.variability_collapse_index(ClassMoments.of(h, y))) < 1e-9


@pytest.mark.parametrize(
    "measure",
    [
        collapse_variants.class_distance_variance,
        lambda m: collapse_variants.duality_spread(m, np.eye(5, 8)),
        lambda m: collapse_variants.outlier_orthogonality(m, np.ones(7)),
    ],
)
def test_moments_that_may_lack_a_class_are_refused(measure):
    h, y, _, _ = features()
    with pytest.raises(TypeError, match="expected Moments; got ClassMoments"):
        measure(ClassMoments.of(h, y))


def test_the_variability_index_needs_every_class():
    h, y, _, _ = features()
    with pytest.raises(ValueError, match="class 0 has 0"):
        collapse_variants.variability_collapse_index(ClassMoments.of(h, np.where(y == 0, 5, y)))


def test_the_variability_index_says_what_it_needs():
    with pytest.raises(TypeError, match="needs ClassMoments; got Moments"):
        collapse_variants.variability_collapse_index(Moments.of(torch.eye(4), torch.arange(4) % 2))
