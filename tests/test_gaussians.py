"""Gaussians with the moments of classes."""

import numpy as np
import pytest
import torch
from scipy.stats import skew

from nclib.measures.gaussians import like_gaussians

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("dimension", [3, 40])
def test_mean_and_covariance_are_those_of_the_class(dimension):
    """Over many draws; 20 samples span 19 of 40 dimensions."""
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    h = rng.exponential(size=(40, dimension)) @ rng.normal(size=(dimension, dimension)) + 5 * y[:, None]
    draws = np.stack([like_gaussians(h, y, seed) for seed in range(400)])  # (400, 40, D)
    for c in (0, 1):
        drawn, x = draws[:, y == c].reshape(-1, dimension), h[y == c]
        width = x.std(axis=0)
        # five standard errors, of 8,000 samples: of a mean, and of a covariance of Gaussians
        assert np.all(np.abs(drawn.mean(axis=0) - x.mean(axis=0)) < 5 * width / 8000**0.5)
        error = np.abs(np.cov(drawn.T) - np.cov(x.T, bias=True))
        assert np.all(error < 5 * np.outer(width, width) * (2 / 8000) ** 0.5)


def test_nothing_but_moments_is_left():
    x = np.random.default_rng(0).exponential(size=(5000, 2))
    assert np.all(skew(x) > 1.5)
    # skewness of 5,000 samples of a Gaussian has the standard error (6 / 5000)^0.5 = 0.035
    assert np.all(np.abs(skew(like_gaussians(x, np.zeros(5000, dtype=int)))) < 0.18)


def test_samples_keep_to_the_plane_of_their_class():
    x = np.random.default_rng(0).normal(size=(30, 2)) @ np.random.default_rng(1).normal(size=(2, 50))
    drawn = like_gaussians(x, np.zeros(30, dtype=int))
    values = np.linalg.svd(drawn - drawn.mean(axis=0), compute_uv=False)
    assert values[2] < 1e-6 * values[0]  # square roots of rounding in float64, 1e-8, with room


def test_equal_samples_stay_as_they_are():
    x = np.full((7, 4), 3.0)
    assert np.array_equal(like_gaussians(x, np.zeros(7, dtype=int)), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_tensors_of_every_precision_are_features(dtype):
    h, y = torch.randn(9, 2, generator=torch.Generator().manual_seed(0)).to(dtype), torch.arange(9) // 5
    drawn = like_gaussians(h.requires_grad_(), y)
    assert np.array_equal(drawn, like_gaussians(h.detach().double().numpy(), y.numpy()))
    with pytest.raises(ValueError, match="row 1"):
        like_gaussians([[0.0], [np.nan]], [0, 0])
