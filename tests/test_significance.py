"""Is explained variance more than chance: against scipy, enumeration, and the share of a known population."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import kstest, ttest_ind

import nclib
from nclib.measures.moments import Moments

FLAT = np.ones(12)
STEEP = np.arange(1, 13) ** -1.5  # variances of collapsed features fall about so


def drawn(rng, sizes, widths, spectrum=FLAT, share=0.0, along_noise=True):
    """Gaussian classes of one super-class whose population has this share; features, fine, coarse."""
    sizes, widths = np.array(sizes), np.array(widths)
    fine = np.repeat(np.arange(len(sizes)), sizes)
    deviation = np.sqrt(spectrum / spectrum.sum())
    h = rng.normal(size=(len(fine), len(spectrum))) * deviation * widths[fine, None]
    weights = sizes / sizes.sum()
    means = rng.normal(size=(len(sizes), len(spectrum))) * (deviation if along_noise else 1)
    means -= weights @ means
    between = share / (1 - share) * (weights @ widths**2)
    means *= np.sqrt(between / (weights @ np.square(means).sum(1)))
    return h + means[fine], fine, np.zeros_like(fine)


def welch(h, fine):
    """T by hand: squares between the classes over what they are on average."""
    n = np.bincount(fine)
    gaps = sum(k * np.square(h[fine == c].mean(0) - h.mean(0)).sum() for c, k in enumerate(n))
    expected = sum((1 - k / n.sum()) * h[fine == c].var(0, ddof=1).sum() for c, k in enumerate(n))
    return gaps / expected


class TestPermutations:
    def test_all_partitions_of_few_samples(self):
        h, fine, coarse = drawn(np.random.default_rng(3), [4, 5], [1, 2], share=0.3)
        every = [
            np.isin(np.arange(9), chosen, invert=True).astype(int) for chosen in combinations(range(9), 4)
        ]
        exact = np.mean([welch(h, each) >= welch(h, fine) - 1e-9 for each in every])
        p = float(nclib.explained_variance_test(h, fine, coarse, permutations=20_000).p)
        assert 0.01 < exact < 0.5
        assert p == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 20_000) ** 0.5 + 1e-4)

    def test_p_is_uniform_where_labels_mean_nothing(self):
        rng = np.random.default_rng(0)
        p = [
            float(nclib.explained_variance_test(*drawn(rng, [15, 20], [1, 1], STEEP), 99, seed=i).p)
            for i in range(300)
        ]
        # a share of whole hundredths lies up to 0.005 from uniform on average
        assert kstest(np.array(p) - rng.uniform(0, 0.01, 300), "uniform").pvalue > 0.001

    @pytest.mark.parametrize(
        ("sizes", "widths"), [([20, 80], [5, 1]), ([20, 80], [1, 5]), ([50, 50], [1, 5])]
    )
    def test_different_widths_are_no_structure(self, sizes, widths):
        rng, draws = np.random.default_rng(1), 300
        rejected = [
            float(nclib.explained_variance_test(*drawn(rng, sizes, widths, STEEP), 99, seed=i).p) <= 0.05
            for i in range(draws)
        ]
        # over 1,000 draws 0.061, 0.044 and 0.050; here the standard error is 0.013
        assert np.mean(rejected) < 0.05 + 4 * (0.05 * 0.95 / draws) ** 0.5

    def test_the_usual_f_takes_widths_for_structure(self):
        """Why T: with the small class the wide one, permutations of the squares between classes alone err."""
        rng, rejected = np.random.default_rng(2), []
        for _ in range(100):
            h, fine, _ = drawn(rng, [20, 80], [5, 1])
            h = h - h.mean(0)
            masks = rng.permuted(np.tile(fine == 0, (99, 1)), axis=1)
            between = np.square(np.vstack([fine == 0, masks]) @ h).sum(1)
            rejected.append(np.mean(between >= between[0]) <= 0.05)
        assert np.mean(rejected) > 0.3

    def test_planted_structure_is_found(self):
        rng = np.random.default_rng(4)
        parts = [drawn(rng, [60, 60], [1, 2], STEEP, share) for share in (0.0, 0.2, 0.6)]
        h = np.concatenate([part[0] for part in parts])
        fine = np.concatenate([part[1] + 2 * i for i, part in enumerate(parts)])
        test = nclib.explained_variance_test(h, fine, fine // 2)
        assert float(test.p[0]) > 0.05
        assert test.p[1:].tolist() == [0.001, 0.001]
        torch.testing.assert_close(test.share, nclib.explained_variance(h, fine, fine // 2))
        assert ((test.share > test.null) == (test.p < 0.05)).all()
        assert (test.low[1:] > 0).all()


class TestInterval:
    @pytest.mark.parametrize(
        ("sizes", "widths", "spectrum", "share", "along_noise"),
        [
            ([40, 40], [1, 1], FLAT, 0.2, True),
            ([40, 40], [1, 1], STEEP, 0.05, True),
            ([40, 40], [1, 5], STEEP, 0.6, False),
            ([20, 80], [5, 1], STEEP, 0.2, True),
            ([30, 30, 60], [1, 2, 5], STEEP, 0.2, False),
            ([20, 80], [1, 5], STEEP, 0.0, True),
        ],
    )
    def test_covers_the_share_of_the_population(self, sizes, widths, spectrum, share, along_noise):
        """At least 0.95 less four standard errors of 200 draws; measured 0.925 to 1 in 50 cases."""
        rng, covered = np.random.default_rng(5), []
        for i in range(200):
            h, fine, coarse = drawn(rng, sizes, widths, spectrum, share, along_noise)
            test = nclib.explained_variance_test(h, fine, coarse, 199, seed=i)
            covered.append(float(test.low) <= share <= float(test.high))
        assert np.mean(covered) > 0.95 - 4 * (0.95 * 0.05 / 200) ** 0.5

    def test_narrows_with_samples_and_widens_with_confidence(self):
        rng = np.random.default_rng(6)
        few, many = (drawn(rng, [n, n], [1, 1], share=0.3) for n in (30, 1000))
        tests = [nclib.explained_variance_test(*few, confidence=share) for share in (0.5, 0.95)]
        tests.append(nclib.explained_variance_test(*many))
        half, wide, narrow = (float(t.high - t.low) for t in tests)
        assert half < wide
        assert narrow < wide / 3  # about the root of 30 / 1000

    def test_nothing_varies_inside_the_classes(self):
        fine = np.repeat([0, 1], 20)
        h = np.stack([fine, -fine], axis=1).astype(float)
        test = nclib.explained_variance_test(h, fine, np.zeros(40, int))
        assert [float(x) for x in test[:4]] == [1, 1, 1, 0.001]
        assert float(nclib.explained_variance_null(Moments.of(h, fine), [0, 0]).p) == 0


class TestMoments:
    @pytest.mark.parametrize(("sizes", "widths"), [([12, 12], [1, 1]), ([10, 35], [4, 1])])
    def test_one_feature_is_welchs_test(self, sizes, widths):
        h, fine, _ = drawn(np.random.default_rng(7), sizes, widths, np.ones(1), 0.1)
        moments = Moments.of(h, fine)
        want = ttest_ind(h[fine == 0, 0], h[fine == 1, 0], equal_var=False).pvalue
        assert float(nclib.explained_variance_null(moments, [0, 0]).p) == pytest.approx(want, rel=1e-7)

    @pytest.mark.parametrize("scale", [2.0**-200, 2.0**180])
    def test_units_do_not_matter(self, scale):
        h, fine, _ = drawn(np.random.default_rng(7), [12, 12, 35], [1, 1, 4], STEEP, 0.1)
        for group in ([0, 0, 0], [0, 0, 1]):
            one, other = (nclib.explained_variance_null(Moments.of(x, fine), group) for x in (h, h * scale))
            torch.testing.assert_close(torch.stack(other), torch.stack(one), equal_nan=True)

    @pytest.mark.parametrize("spectrum", [FLAT, STEEP], ids=["flat", "steep"])
    def test_near_the_permutations(self, spectrum):
        rng, off = np.random.default_rng(8), []
        for i in range(60):
            h, fine, coarse = drawn(rng, [60, 90], [1, 2], spectrum)
            test = nclib.explained_variance_test(h, fine, coarse, 499, seed=i)
            off.append(float(nclib.explained_variance_null(Moments.of(h, fine), [0, 0]).p - test.p))
        assert np.abs(off).mean() < 0.12  # over 200 draws 0.023 flat and 0.059 steep

    @pytest.mark.parametrize("spectrum", [FLAT, STEEP], ids=["flat", "steep"])
    def test_level(self, spectrum):
        rng, draws = np.random.default_rng(9), 1000
        p = [
            float(
                nclib.explained_variance_null(
                    Moments.of(*drawn(rng, [20, 80], [5, 1], spectrum)[:2]), [0, 0]
                ).p
            )
            for _ in range(draws)
        ]
        # 0.030 to 0.063 in ten cases of 300 draws
        assert np.mean(np.array(p) <= 0.05) < 0.05 + 4 * (0.05 * 0.95 / draws) ** 0.5

    @pytest.mark.parametrize(
        ("other", "rejected"), [(STEEP, 0.05), (STEEP[::-1], 0.15)], ids=["same", "differs"]
    )
    def test_the_shape_is_taken_from_all_super_classes(self, other, rejected):
        """Where another super-class is of another shape, and wider, the level does not hold."""
        rng, draws, found = np.random.default_rng(12), 300, []
        for _ in range(draws):
            (h, fine, _), (more, others, _) = (
                drawn(rng, [50, 50], [width, width], shape) for width, shape in ((1, STEEP), (3, other))
            )
            moments = Moments.of(np.concatenate([h, more]), np.concatenate([fine, others + 2]))
            found.append(float(nclib.explained_variance_null(moments, [0, 0, 1, 1]).p[0]))
        share, error = np.mean(np.array(found) <= 0.05), (0.05 * 0.95 / draws) ** 0.5
        assert share < 0.05 + 4 * error if rejected == 0.05 else share > rejected, share

    def test_more_classes_than_features_keep_the_whole_covariance(self):
        rng = np.random.default_rng(10)
        h, fine, _ = drawn(rng, [40] * 4, [1, 2, 1, 3], STEEP[:3], 0.05)
        wide = np.hstack([h, np.zeros((len(h), 5))])
        small, large = (nclib.explained_variance_null(Moments.of(x, fine), [0, 0, 1, 1]) for x in (h, wide))
        for one, other in zip(small, large, strict=True):
            torch.testing.assert_close(one, other)


class TestBoth:
    @pytest.fixture
    def sample(self):
        return drawn(np.random.default_rng(11), [40, 60, 30], [1, 2, 3], STEEP, 0.05)

    def test_axes_and_units_do_not_matter(self, sample):
        h, fine, coarse = sample
        turn = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]
        moved = 1e-3 * h @ turn + 7
        for measure in (
            nclib.explained_variance_test,
            lambda h, fine, coarse: nclib.explained_variance_null(Moments.of(h, fine), [0, 0, 0]),
        ):
            for one, other in zip(measure(h, fine, coarse), measure(moved, fine, coarse), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)

    def test_order_of_samples_changes_draws_only(self, sample):
        order = np.random.default_rng(1).permutation(130)
        one, other = (
            nclib.explained_variance_test(*(x[rows] for x in sample)) for rows in (slice(None), order)
        )
        torch.testing.assert_close(one.share, other.share)
        p = float(one.p)
        assert abs(p - float(other.p)) < 5 * (2 * p * (1 - p) / 999) ** 0.5 + 0.002
        assert abs(float(one.high - other.high)) < 0.2 * float(one.high - one.low)

    def test_super_classes_do_not_depend_on_each_other(self, sample):
        h, fine, coarse = sample
        alone = nclib.explained_variance_test(h, fine, coarse)
        more = np.concatenate([h, 5 + h[:40]])
        lone = np.concatenate([fine, np.full(40, 3)])
        both = nclib.explained_variance_test(more, lone, np.concatenate([coarse, np.ones(40, int)]))
        for one, two in zip(alone, both, strict=True):
            assert two.shape == (2,)
            assert float(one[0]) == float(two[0])
            assert torch.isnan(two[1])  # one fine class has no sibling

    def test_numpy_and_float32_tensors(self, sample):
        h, fine, coarse = sample
        h = h.astype(np.float32)
        one = nclib.explained_variance_test(h, fine, coarse, 99)
        two = nclib.explained_variance_test(torch.from_numpy(h), torch.from_numpy(fine), coarse, 99)
        assert [float(x) for x in one] == [float(x) for x in two]

    @pytest.mark.parametrize("value", [1.0, 0.1, 1e9 / 7])  # the mean of some tenths is no tenth
    def test_constant_features_have_no_answer(self, value):
        h, fine = np.full((10, 2), value), np.repeat([0, 1], [3, 7])
        test = nclib.explained_variance_test(h, fine, 0 * fine)
        assert all(torch.isnan(x).all() for x in test)
        assert torch.isnan(nclib.explained_variance(h, fine, 0 * fine)).all()
        null = nclib.explained_variance_null(Moments.of(h, fine), [0, 0])
        assert all(torch.isnan(x).all() for x in null)

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"permutations": 0}, "permutations"),
            ({"confidence": 1.0}, "confidence must lie between 0 and 1"),
            ({"confidence": float("nan")}, "confidence must lie between 0 and 1"),
            ({"fine": [0, 0, 1]}, r"shape \(4,\)"),
            ({"fine": [0, 0, 0, 1]}, "needs 2 samples"),
            ({"coarse": [0, 1, 0, 0]}, "must lie in one coarse class"),
            ({"h": np.full((4, 2), np.nan)}, "must be finite"),
        ],
    )
    def test_refusals(self, change, reason):
        given = {"h": np.eye(4), "fine": [0, 0, 1, 1], "coarse": [0, 0, 0, 0]} | change
        with pytest.raises(ValueError, match=reason):
            nclib.explained_variance_test(**given)


def test_moments_with_covariances_are_summed_up_first():
    rng = np.random.default_rng(0)
    h, fine = rng.normal(size=(80, 3)), np.arange(80) % 4
    accumulated = nclib.ClassMoments(4, 3).update(h, fine)
    with pytest.raises(TypeError, match=r"got ClassMoments. ClassMoments have \.summary\(\)"):
        nclib.explained_variance_null(accumulated, [0, 0, 1, 1])
    found = nclib.explained_variance_null(accumulated.summary(), [0, 0, 1, 1])
    expected = nclib.explained_variance_null(Moments.of(torch.tensor(h), torch.tensor(fine), 4), [0, 0, 1, 1])
    torch.testing.assert_close(found.p, expected.p)
