"""Structure that survives inside collapsed classes, by distances between classes and their ratios.

Yang, Steinhardt and Hu (2023), arXiv 2306.17105: Section 4.1 class distances, Appendix B the mean square
distance ratio (MSDR). The formulas here are our definitions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nclib.measures.arrays import ArrayLike, as_features, as_labels, as_samples, of_parts
from nclib.measures.moments import Moments, class_means, require_moments, require_samples, residual_rows


def class_distances(h: ArrayLike, y: ArrayLike) -> Tensor:
    """Mean squared Euclidean distance between the samples of every pair of classes.

    Parameters
    ----------
    h : (N, D) features, any float dtype; measured in float64, with whatever rounding they have.
    y : (N,) integer labels in [0, C).

    Returns
    -------
    (C, C) float64, symmetric, in squared feature units. Entry (i, j) averages ||h - h'||^2 over h
    in class i and h' in class j; the diagonal averages over distinct pairs.

    Raises
    ------
    ValueError : a class with fewer than two samples, or a feature that is not finite.

    Notes
    -----
    Write h - h' = (h - mu_i) + (mu_i - mu_j) + (mu_j - h'). Averaged over all pairs the mixed terms
    vanish, so D_ij = S_i + S_j + ||mu_i - mu_j||^2 with S the biased scatter. Inside one class the
    n of n^2 pairs that join a sample with itself count zero: D_ii = 2 S_i n / (n - 1) over distinct
    pairs. Only means and scatter are needed, in two passes over the features: O(N D + C^2 D).
    """
    return _distances(*means_and_scatter(*as_samples(h, y)))


def distances_of(moments: Moments) -> Tensor:
    """``class_distances`` from class moments, (C, C) float64."""
    require_moments(moments)
    return _distances(moments.counts, moments.means, moments.scatter)


def _distances(counts: Tensor, means: Tensor, scatter: Tensor) -> Tensor:
    require_samples(counts, at_least=2)
    distances = scatter[:, None] + scatter[None, :] + euclidean(means, means) ** 2  # (C, C)
    distances.diagonal().copy_(2 * scatter * counts / (counts - 1))
    return distances


def euclidean(points: Tensor, others: Tensor) -> Tensor:
    """Distances (N, M) by differences: inner products would lose the digits of close points."""
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")


def means_and_scatter(h: Tensor, y: Tensor, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Samples per class (C,), two at least, means (C, D) and biased scatter (C,) of checked samples."""
    require_samples(torch.bincount(y), at_least=2)  # before memory is taken for classes
    counts, means = class_means(h, y, num_classes)

    def add(h: Tensor, y: Tensor) -> Tensor:
        squares = torch.zeros_like(means[:, 0])
        for labels, z in residual_rows(h, y, means):  # (n,), (n, D)
            squares.index_add_(0, labels, torch.linalg.vector_norm(z, dim=1).square())
        return squares

    return counts, means, sum(of_parts(add, h, y)) / counts


def relative_distances(distances: ArrayLike) -> Tensor:
    """Class distances in units of the mean width of both classes, 2 D(c, c') / (D(c, c) + D(c', c')).

    Parameters
    ----------
    distances : (C, C) of ``class_distances``.

    Returns
    -------
    (C, C) float64 without unit, symmetric, ones on the diagonal. Where neither class has any width
    infinite, not a number on the diagonal and where the means coincide.

    Raises
    ------
    ValueError : distances that are not square, not finite or negative.

    Notes
    -----
    One where two classes have the same mean, whatever the width of each, up to 1 / n of n samples. MSDR
    divides by the own width alone, and so also grows where widths differ. The definition is ours.
    """
    distances = _square(distances)
    width = distances.diagonal()
    return 2 * distances / (width[:, None] + width[None, :])


def msdr(h: ArrayLike, fine: ArrayLike, coarse: ArrayLike) -> Tensor:
    """Mean square distance ratio of every fine class: distance to siblings over distance within.

    Parameters
    ----------
    h : (N, D) features.
    fine : (N,) fine labels in [0, C).
    coarse : (N,) coarse labels; all samples of one fine class share one.

    Returns
    -------
    (C,) float64 without unit. 1 means no structure: siblings are as far as the class is wide. Not a
    number for a class without siblings. Infinite for a class without width, or not a number where its
    siblings coincide with it.

    Raises
    ------
    ValueError : as ``class_distances``, or a fine class with two coarse labels.

    Notes
    -----
    The mean of D(c, c') over the siblings c' of c, over D(c, c), with D of ``class_distances``. Yang et al.
    (2023), Appendix B, name the ratio; their formula was not at hand, and this one is ours.
    """
    return ratio_to_siblings(class_distances(h, fine), coarse_of_fine(fine, coarse))


def msdr_of(moments: Moments, group: ArrayLike) -> Tensor:
    """``msdr`` from the moments of the fine classes and the coarse label of each, (C,)."""
    return ratio_to_siblings(distances_of(moments), group)


def ratio_to_siblings(distances: Tensor, group: ArrayLike) -> Tensor:
    """``msdr`` from class distances (C, C) and the coarse label of each class, (C,)."""
    distances = _square(distances)
    siblings = sibling_pairs(as_labels(group, len(distances))).to(distances.device)
    return (distances * siblings).sum(dim=1) / siblings.sum(dim=1) / distances.diagonal()


def _square(distances: ArrayLike) -> Tensor:
    """Class distances (C, C) as float64, checked."""
    distances = as_features(distances, "distances", largest=1e300).to(torch.float64)
    if distances.shape[0] != distances.shape[1] or distances.min() < 0:
        got = f"{tuple(distances.shape)} with a smallest entry of {float(distances.min()):.3g}"
        raise ValueError(f"distances must be (C, C) and not negative; got {got}")
    return distances


def sibling_pairs(group: ArrayLike) -> Tensor:
    """Which pairs of different fine classes share a coarse label: (C,) labels -> (C, C) bool."""
    group = as_labels(group)
    return (group[:, None] == group[None, :]).fill_diagonal_(False)


def coarse_of_fine(fine: ArrayLike, coarse: ArrayLike) -> Tensor:
    """The coarse label of every fine class, (C,) int64, from labels (N,) of both levels.

    Raises ValueError for a fine class with several coarse labels, or with no sample.
    """
    group = parents(fine, coarse)
    require_samples((group >= 0).long())
    return group


def parents(fine: ArrayLike, coarse: ArrayLike) -> Tensor:
    """``coarse_of_fine``, with -1 for a fine class without samples."""
    fine = as_labels(fine)
    coarse = as_labels(coarse, len(fine)).to(fine.device)
    group = coarse.new_full((int(fine.max()) + 1,), -1).scatter_(0, fine, coarse)
    stray = (group[fine] != coarse).nonzero().flatten()
    if len(stray):
        label = int(fine[stray[0]])
        several = coarse[fine == label].unique().tolist()
        raise ValueError(
            f"fine class {label} must lie in one coarse class; it lies in {several}. "
            "Labels swapped? the order is h, fine, coarse"
        )
    return group
