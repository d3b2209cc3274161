"""What other papers measure beside NC1 to NC4: distances, frames, uniformity, subspaces of class means.

    m = nclib.Moments.of(h, y)
    class_distance_variance(m)

Functions of class moments work from stored moments and from streams too; ``simplex_error`` and ``uniformity``
take vectors, such as class means or rows of the classifier. All compute in float64. Tables over pairs of
classes are visited a few megabytes at a time, so that C may reach 10,000.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nclib.measures.arrays import CHUNK, ArrayLike, as_features, as_vector, as_whole
from nclib.measures.collapse import pair_rows
from nclib.measures.distances import euclidean
from nclib.measures.moments import ClassMoments, Moments, centred, require_moments, require_samples


def class_distance_variance(moments: Moments) -> float:
    """Class-distance normalised variance (CDNV): variance within classes over distance between.

    Parameters
    ----------
    moments : of the features, C >= 2 classes.

    Returns
    -------
    float without unit: the mean over pairs i != j of (Var_i + Var_j) / (2 ||mu_i - mu_j||^2), Var_c
    the biased scatter of class c. Zero at collapse; infinite where two means coincide, not a number
    where these classes have no width either.

    Raises
    ------
    TypeError : no ``Moments``, such as the ``ClassMoments`` whose summary they are.
    ValueError : a single class.

    Notes
    -----
    Galanti, György and Hutter (2022), arXiv 2112.15121.
    """
    require_moments(moments)
    means, scatter = moments.means, moments.scatter
    _require_two(means, "classes")
    total = 0.0
    for rows, others in pair_rows(len(means)):
        squares = euclidean(means[rows], means[others]) ** 2
        spread = (scatter[rows, None] + scatter[others]) / 2
        total += float((spread / squares).triu_(1).sum())
    return total / math.comb(len(means), 2)


def simplex_error(left: Tensor, right: Tensor | None = None) -> float:
    """Distance of a Gram matrix from that of a simplex equiangular tight frame.

    Parameters
    ----------
    left : (C, D) vectors: centred class means or rows of the classifier, in any unit.
    right : (C, D), the other factor of the Gram matrix; ``left`` again if not given. Classifier and
        centred means together measure self-duality.

    Returns
    -------
    float in [0, 2]: || G / ||G||_F - (I - 1 1^T / C) / sqrt(C - 1) ||_F with G = left right^T. Not a
    number where G is zero.

    Raises
    ------
    ValueError : vectors that are refused, of two shapes, or a single one.

    Notes
    -----
    Zhu et al. (2021), arXiv 2105.02375; survey of Kothapalli (2023), arXiv 2206.04041. Both terms have norm
    one, so the square of the distance is summed entry by entry, in blocks of rows.
    """
    left = as_features(left, "vectors").to(torch.float64)
    right = left if right is None else as_features(right, "vectors").to(left)
    if left.shape != right.shape:
        raise ValueError(f"both factors must have one shape; got {tuple(left.shape)}, {tuple(right.shape)}")
    _require_two(left, "vectors")
    classes = len(left)
    # ||left right^T||_F^2 = <left^T left, right^T right>, a table of D x D; of C x C where C is smaller
    wide = left.shape[1] >= classes
    norm = (left @ right.T).norm() if wide else ((left.T @ left) * (right.T @ right)).sum().sqrt()
    frame = (classes - 1) ** -0.5
    error = 0.0
    for rows in torch.arange(classes, device=left.device).split(max(1, CHUNK // classes)):
        gap = left[rows] @ right.T / norm + frame / classes  # (n, C)
        gap[torch.arange(len(rows), device=rows.device), rows] -= frame
        error += float(gap.square_().sum())
    return error**0.5


def uniformity(vectors: ArrayLike, kernel: str = "inverse", s: float = 1.0) -> float:
    """Generalised NC2: mean energy of distinct unit vectors on the sphere; lower is more uniform.

    Parameters
    ----------
    vectors : (C, D) vectors, none zero: centred class means or rows of the classifier. Only their
        directions count.
    kernel : of the distance d of two unit vectors: "inverse" 1 / d, "log" log(1 / d), or "riesz",
        sign(s) d^-s.
    s : exponent of the Riesz kernel, not zero.

    Returns
    -------
    float, the mean over pairs i != j. At the simplex frame all d = sqrt(2 C / (C - 1)), the minimum
    where C <= D + 1. Infinite where two directions coincide (but for s < 0).

    Raises
    ------
    ValueError : an unknown kernel, an s that is 0 or not finite, a single vector, or one that is zero.

    Notes
    -----
    Hyperspherical uniformity, Liu et al. (2023), arXiv 2303.06484; with the logarithmic kernel, the
    generalised NC2 of Wu and Papyan (2024), arXiv 2405.17767. The kernels' normalisation, a mean over
    pairs, is as we define it.
    """
    if kernel not in KERNELS:
        raise ValueError(f"unknown kernel {kernel!r}; choose one of {', '.join(KERNELS)}")
    if kernel == "riesz" and (s == 0 or not math.isfinite(s)):
        raise ValueError(f"s={s!r}: the Riesz kernel needs a finite exponent other than 0; or kernel='log'")
    vectors = as_features(vectors, "vectors").to(torch.float64)
    _require_two(vectors, "vectors")
    norms = vectors.norm(dim=1, keepdim=True)
    if not norms.all():
        raise ValueError(f"vector {int((norms == 0).nonzero()[0, 0])} is zero; it has no direction")
    units = vectors / norms
    total = 0.0
    for rows, others in pair_rows(len(units)):
        energies = KERNELS[kernel](euclidean(units[rows], units[others]), s)
        total += float(energies.triu_(1).sum())
    return total / math.comb(len(units), 2)


KERNELS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "inverse": lambda d, s: 1 / d,
    "log": lambda d, s: -d.log(),
    "riesz": lambda d, s: d**-s if s > 0 else -(d**-s),
}


def duality_spread(moments: Moments, weight: ArrayLike, *, cosine: bool = True, correction: int = 0) -> float:
    """Uniform duality: standard deviation over classes of the similarity of mean and classifier row.

    Parameters
    ----------
    moments : of the features.
    weight : (C, D) of the classifier.
    cosine : similarity by cosine, without unit; else by inner product w_c^T (mu_c - mu_G).
    correction : 0 for the deviation of the population, 1 for the unbiased one.

    Returns
    -------
    float, zero where all classes are equally aligned with their rows, as at self-duality. Not a number
    where a row, or a class mean less that of all, is zero.

    Raises
    ------
    TypeError : no ``Moments``.
    ValueError : a single class, weights of another shape than the means, or another correction.

    Notes
    -----
    Wu and Papyan (2024), arXiv 2405.17767. The package ``neural-collapse`` reports the square with
    ``cosine=False, correction=1``.
    """
    require_moments(moments)
    means = centred(moments.means)
    _require_two(means, "classes")
    weight = as_features(weight, "classifier weights").to(means)
    if weight.shape != means.shape:
        raise ValueError(f"weights must have shape {tuple(means.shape)}; got {tuple(weight.shape)}")
    products = (weight * means).sum(dim=1)  # (C,)
    if cosine:
        products = products / (weight.norm(dim=1) * means.norm(dim=1))
    return float(products.std(correction=as_whole(correction, "correction", 0, 1)))


def outlier_orthogonality(moments: Moments, outlier_mean: ArrayLike, *, centre: bool = False) -> float:
    """NC5: how far the mean of out-of-distribution features is from orthogonal to the class means.

    Parameters
    ----------
    moments : of the features of known classes.
    outlier_mean : (D,) mean feature of the other data.
    centre : whether class means and outlier mean are taken relative to the mean of the class means;
        by default they are measured from the origin of feature space, as in NECO.

    Returns
    -------
    float in [0, 1]: the mean over classes of |cos(mu_c, mu_OOD)|, zero where orthogonal. Not a number
    where one of the means is zero.

    Raises
    ------
    TypeError : no ``Moments``.
    ValueError : an outlier mean of another dimension, or not finite.

    Notes
    -----
    NECO, Ben Ammar et al. (2024), arXiv 2310.06823. Not invariant under shifts unless centred.
    """
    require_moments(moments)
    means = moments.means
    outlier = as_vector(outlier_mean, "the outlier mean", means.shape[1]).to(means)
    if centre:
        means, outlier = centred(means), outlier - means.mean(dim=0)
    return float(((means @ outlier).abs() / (means.norm(dim=1) * outlier.norm())).mean())


def variability_collapse_index(moments: ClassMoments) -> float:
    """Variability Collapse Index: 1 - tr(Sigma_T^+ Sigma_B) / rank(Sigma_B).

    Parameters
    ----------
    moments : accumulated; the index needs the whole D x D covariance. ``Moments`` do not suffice where
        C <= D: the inverse of Sigma_W on the span of the means is not that of its projection.

    Returns
    -------
    float in [0, 1], zero at collapse, unchanged by invertible linear maps. Not a number where all
    means coincide.

    Raises
    ------
    TypeError : no ``ClassMoments``.
    ValueError : a class without samples.

    Notes
    -----
    Xu and Liu (2023), arXiv 2306.03440. Sigma_T = Sigma_W + Sigma_B with Sigma_B unweighted, as for
    NC1: the covariance of all samples if classes are balanced. With Sigma_T = Q diag(t) Q^T and
    R = M Q diag(t)^-1/2 / sqrt(C), tr(Sigma_T^+ Sigma_B) = ||R||_F^2. Directions whose t is rounding are left
    out, also from the rank.
    """
    if not isinstance(moments, ClassMoments):
        raise TypeError(f"the index needs ClassMoments; got {type(moments).__name__}")
    require_samples(moments.counts)
    means = centred(moments.means)
    between = means.T @ means / len(means)
    values, axes = torch.linalg.eigh(moments.within + between)
    kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
    scaled = means @ axes[:, kept] / values[kept].sqrt()  # R sqrt(C)
    return float(1 - scaled.square().sum() / len(means) / torch.linalg.matrix_rank(scaled))


def _require_two(rows: Tensor, name: str) -> None:
    if len(rows) < 2:
        raise ValueError(f"this measure relates {name} to each other; got a single one")
