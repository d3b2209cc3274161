"""Principal components from class moments: of features that need not be in memory together.

p = principal_components(moments, 50)
p.project(h)                    # (N, 50), of any features, a block at a time or a sample
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nclib.measures.arrays import ArrayLike, as_features, as_whole
from nclib.measures.moments import ClassMoments

DEFAULT = 50  # components


class PrincipalComponents(NamedTuple):
    """Directions in which features vary most; all float64.

    Attributes
    ----------
    mean : (D,) of all samples.
    axes : (k, D) orthonormal, by falling variance; of each the entry of largest size is positive.
    variances : (k,) biased, along the axes, in squared feature units.
    share : () of the variance in all directions that these hold; not a number where nothing varies.
    """

    mean: Tensor
    axes: Tensor
    variances: Tensor
    share: Tensor

    def project(self, h: ArrayLike) -> Tensor:
        """Coordinates (N, k) float64 of features (N, D) along the axes, from the mean.

        Raises ValueError for features that ``as_features`` refuses, or of another dimension.
        """
        h = as_features(h)
        if h.shape[1] != len(self.mean):
            raise ValueError(f"features must have dimension {len(self.mean)} here; got {h.shape[1]}")
        return (h.to(self.mean) - self.mean) @ self.axes.T


def principal_components(moments: ClassMoments, count: int | None = None) -> PrincipalComponents:
    """Principal components of the features that ``moments`` have seen, exactly.

    Parameters
    ----------
    moments : of at least one sample; their classes do not matter.
    count : of components, at most D; by default 50, or D where that is less.

    Returns
    -------
    PrincipalComponents : ``count`` of them, by falling variance; float64, where the moments are.

    Raises
    ------
    TypeError : no ``ClassMoments``; a ``Moments`` does not hold what is needed.
    ValueError : no sample, or a count outside 1 to D.

    Notes
    -----
    The covariance of all samples is that within classes and that between them, Sigma_W + sum_c (n_c / N)
    (mu_c - mu) (mu_c - mu)^T. Its eigenvectors take O(D^3), whatever the number of samples.
    """
    if not isinstance(moments, ClassMoments):
        raise TypeError(f"principal components need ClassMoments; got {type(moments).__name__}")
    if not moments.counts.any():
        raise ValueError("principal components need a sample; the moments are of none")
    dim = moments.means.shape[1]
    count = min(DEFAULT, dim) if count is None else as_whole(count, "count", 1, dim)
    weights = (moments.counts.to(torch.float64) / moments.counts.sum())[:, None]  # (C, 1)
    origin = moments.means[moments.counts.argmax()]  # of a class with samples
    offsets = moments.means - origin  # where means are equal zero, exactly
    centre = (weights * offsets).sum(dim=0)
    mean, gaps = origin + centre, offsets - centre
    covariance = moments.within + gaps.T @ (weights * gaps)  # (D, D)
    values, vectors = torch.linalg.eigh(covariance)  # ascending
    variances, axes = values.flip(0)[:count].clamp(min=0), vectors.T.flip(0)[:count]
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))  # (k, 1)
    return PrincipalComponents(mean, axes * largest.sign(), variances, variances.sum() / covariance.trace())
