"""Principal components from moments, against a singular value decomposition of the features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import nclib

pytestmark = pytest.mark.numeric

RNG = np.random.default_rng(0)
# standard deviations 2, 1, 1/2, ... along random directions, far from the origin
TURN = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
H = RNG.normal(size=(400, 5)) * 2.0 ** -np.arange(-1, 4) @ TURN + 10
Y = RNG.integers(3, size=400)


@pytest.mark.parametrize("y", [Y, np.zeros(400), (H[:, 0] > 10).astype(int)])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_equal_those_of_the_features(y, count):
    """Whatever the classes are.

    The covariance, of norm 4 about, errs by less than 400 * 2^-53 * 4 in any entry, five times that in norm;
    so do its eigenvalues (Weyl), and its eigenvectors by that over their gaps, 1/60 at least (Davis, Kahan).
    """
    p = nclib.principal_components(nclib.ClassMoments.of(H, y), count)
    centred = H - H.mean(axis=0)
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    assert np.diff(-(spread**2) / 400).min() > 1 / 60
    axes = (
        axes[:count] * np.sign(axes[:count][np.arange(count), np.abs(axes[:count]).argmax(axis=1)])[:, None]
    )
    error = 5 * 400 * 2.0**-53 * 4
    np.testing.assert_allclose(p.variances, spread[:count] ** 2 / 400, rtol=0, atol=error)
    np.testing.assert_allclose(p.axes, axes[:count], rtol=0, atol=2 * 60 * error)
    np.testing.assert_allclose(p.mean, H.mean(axis=0), rtol=400 * 2.0**-53)
    assert float(p.share) == pytest.approx((spread[:count] ** 2).sum() / (spread**2).sum(), abs=error)
    reach = np.abs(centred).max()
    np.testing.assert_allclose(p.project(H), centred @ axes.T, rtol=0, atol=5 * reach * 2 * 60 * error)


def test_coordinates_are_uncorrelated_with_these_variances():
    p = nclib.principal_components(nclib.ClassMoments.of(H, Y), 5)
    coordinates = p.project(torch.tensor(H, dtype=torch.float64))
    assert coordinates.shape == (400, 5)
    np.testing.assert_allclose(np.cov(coordinates.T, bias=True), np.diag(p.variances), rtol=1e-9, atol=1e-9)
    assert float(p.share) == pytest.approx(1)


@pytest.mark.parametrize("value", [1.0, 0.1])
def test_equal_features_have_no_share(value):
    h, y = np.full((40, 3), value), np.repeat([1, 2], [13, 27])
    p = nclib.principal_components(nclib.ClassMoments.of(h, y), 2)
    assert torch.isnan(p.share) and not p.variances.any() and not p.project(h).any()


@pytest.mark.parametrize(("dim", "count"), [(5, 5), (50, 50), (51, 50)])
def test_as_many_as_there_are_up_to_fifty(dim, count):
    h = np.random.default_rng(0).normal(size=(60, dim))
    assert nclib.principal_components(nclib.ClassMoments.of(h, np.zeros(60, int))).axes.shape == (count, dim)


def test_refuses_in_words():
    moments = nclib.ClassMoments.of(H, Y)
    with pytest.raises(TypeError, match="need ClassMoments; got Moments"):
        nclib.principal_components(moments.summary())
    with pytest.raises(ValueError, match="the moments are of none"):
        nclib.principal_components(nclib.ClassMoments(2, 3))
    for count in (0, 6, 2.5):
        with pytest.raises(ValueError, match=f"count={count}: expected a whole number, from 1 to 5"):
            nclib.principal_components(moments, count)
    with pytest.raises(ValueError, match="dimension 5 here; got 4"):
        nclib.principal_components(moments, 2).project(H[:, :4])
