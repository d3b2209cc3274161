"""Explained variance: an analysis of variance by hand, scipy's F, and no structure where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import f_oneway

import nclib
from nclib.measures.moments import Moments
from nclib.measures.variance import explained_variance_of


def groups(rng, sizes, widths, gap=0.0, dim=3):
    """Features, fine and coarse labels of two fine classes in each of ``len(sizes) / 2`` super-classes."""
    fine = np.repeat(np.arange(len(sizes)), sizes)
    h = rng.normal(size=(len(fine), dim)) * np.asarray(widths)[fine, None]
    h[:, 0] += 5 * (fine // 2) + gap * (fine % 2)
    return h, fine, fine // 2


def test_by_hand():
    h = np.array([[0.0, 1], [0, -1], [4, 1], [4, -1], [4, 0], [9, 9], [9, 7]])
    fine, coarse = [0, 0, 1, 1, 1, 2, 2], [0, 0, 0, 0, 0, 1, 1]
    # n = 2 and 3; gaps of 4: squares between 2 * 3 / 5 * 16 = 19.2; unbiased variances 2 and 1
    between = 19.2 - (3 / 5 * 2 + 2 / 5 * 1)
    got = nclib.explained_variance(h, fine, coarse)
    assert got.dtype == torch.float64
    assert float(got[0]) == pytest.approx(between / (between + 2 * 2 + 3 * 1), rel=1e-14)
    assert torch.isnan(got[1])  # one fine class has no sibling


def test_equal_classes_of_one_feature_give_the_f_statistic():
    h, fine, coarse = groups(np.random.default_rng(0), [40, 40], [1.0, 1.0], gap=0.7, dim=1)
    f = f_oneway(h[fine == 0, 0], h[fine == 1, 0]).statistic
    # squares between / mean squares within = F, of two classes: B = (F - 1) s and the rest is n s
    got = float(nclib.explained_variance(h, fine, coarse))
    assert got == pytest.approx((f - 1) / (f - 1 + 80), rel=1e-10)


@pytest.mark.parametrize("sizes", [[30, 30], [10, 90]])
def test_classes_of_one_mean_score_zero_on_average_whatever_their_widths(sizes):
    rng, draws = np.random.default_rng(1), 2000
    drawn = [groups(rng, sizes, [1.0, 5.0]) for _ in range(draws)]
    shares = torch.cat([nclib.explained_variance(*each) for each in drawn]).numpy()
    ratios = [float(nclib.msdr(*each).mean()) for each in drawn[:200]]
    standard_error = shares.std() / draws**0.5
    assert abs(shares.mean()) < 4 * standard_error < 0.01
    assert min(ratios) > 1  # while the mean MSDR claims structure in every draw


def test_far_means_are_everything():
    h, fine, coarse = groups(np.random.default_rng(2), [30, 30, 30, 30], [1, 1, 1, 1], gap=1e6)
    torch.testing.assert_close(nclib.explained_variance(h, fine, coarse), torch.ones(2).double())


def test_moments_give_the_same_and_axes_do_not_matter():
    rng = np.random.default_rng(3)
    h, fine, coarse = groups(rng, [30, 20, 40, 10], [1, 2, 3, 4], gap=1.0, dim=5)
    want = nclib.explained_variance(h, fine, coarse)
    turned = 3 * h @ np.linalg.qr(rng.normal(size=(5, 5)))[0] + 100
    torch.testing.assert_close(nclib.explained_variance(turned, fine, coarse), want)
    torch.testing.assert_close(explained_variance_of(Moments.of(h, fine, 4), [0, 0, 1, 1]), want)


@pytest.mark.parametrize(
    ("fine", "coarse", "reason"),
    [([0, 0, 1], [0, 0, 0], "needs 2 samples"), ([0, 0, 1, 1], [0, 1, 0, 0], "must lie in one coarse class")],
)
def test_refusals(fine, coarse, reason):
    with pytest.raises(ValueError, match=reason):
        nclib.explained_variance(np.eye(len(fine)), fine, coarse)
