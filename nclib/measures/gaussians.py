"""What features would be if every class were one Gaussian: a control for everything that is said of classes.

like_gaussians(h, y, seed)        # (N, D): nothing of ``h`` is left but means and covariances
"""

from __future__ import annotations

import numpy as np

from nclib.measures.arrays import SEEDS, ArrayLike, as_features, as_labels, as_whole
from nclib.measures.subpopulations import principal_axes


def like_gaussians(h: ArrayLike, y: ArrayLike, seed: int = 0) -> np.ndarray:
    """Features of which every class is one Gaussian, with the mean and the covariance of its own.

    Parameters
    ----------
    h : (N, D) features.
    y : (N,) labels of the classes.
    seed : of the draws.

    Returns
    -------
    (N, D) float64, as many samples of every class, in its rows.

    Raises
    ------
    ValueError : features or labels that ``as_features`` and ``as_labels`` refuse, or a seed that is no whole
        number from 0 on.
    """
    h, seed = as_features(h), as_whole(seed, "seed", *SEEDS)
    y, h = as_labels(y, len(h)).cpu().numpy(), h.double().cpu().numpy()
    rng, drawn = np.random.default_rng(seed), np.empty_like(h)
    for c in np.unique(y):
        x = h[y == c]
        mean = x.mean(axis=0)
        lengths, axes = principal_axes(x - mean, min(x.shape))  # (r,), (r, D)
        drawn[y == c] = mean + rng.normal(size=(len(x), len(lengths))) * lengths / len(x) ** 0.5 @ axes
    return drawn
