"""Is the variance that fine classes explain more than chance, and how precisely is it known?

    explained_variance_test(h, fine, coarse)            # from features: permutations and a bootstrap
    explained_variance_null(moments, group)             # from moments, as released runs keep them

Both compare T = (squares between the fine classes) / (what these are on average where all means coincide).
T is the square of Welch's t where there are two classes and one feature, and the statistic of Brunner, Dette
and Munk (1997) and of Alekseyenko (2016) otherwise: unlike the usual F it stays near 1 where classes of
one mean differ in size and in width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import fdtrc, fdtri
from torch import Tensor

from nclib.measures.arrays import SEEDS, ArrayLike, as_labels, as_samples, as_whole
from nclib.measures.distances import coarse_of_fine
from nclib.measures.moments import Moments, centred, class_means, require_moments, require_samples
from nclib.measures.variance import explained_variance_of

WEIGHTS = 2**21  # of samples in draws, at one time: 16 MB
MOST = 100_000  # permutations
TIE = 1e-10  # between draws in T / (1 + T), from 0 to 1: well above rounding


class VarianceTest(NamedTuple):
    """Explained variance of every super-class, with its uncertainty; (G,) float64 each.

    Attributes
    ----------
    share : what ``explained_variance`` returns, below 0 at times where the means coincide.
    low, high : ends of an interval for the share of the population, in [0, 1].
    p : probability of a T as large where the fine classes share one mean.
    null : the share at which T reaches the quantile ``confidence`` of that case.
    """

    share: Tensor
    low: Tensor
    high: Tensor
    p: Tensor
    null: Tensor


def explained_variance_test(
    h: ArrayLike,
    fine: ArrayLike,
    coarse: ArrayLike,
    permutations: int = 999,
    confidence: float = 0.95,
    seed: int = 0,
) -> VarianceTest:
    """Test whether fine classes explain variance inside their super-class, and estimate how much.

    Parameters
    ----------
    h : (N, D) features, any float dtype; measured in float64, with whatever rounding they have.
    fine, coarse : (N,) labels, as for ``explained_variance``.
    permutations : of the fine labels inside every super-class, and resamples of the bootstrap.
    confidence : of the interval, and of ``null``.
    seed : of both. A super-class draws independently of the others.

    Returns
    -------
    VarianceTest. Not a number for a super-class of one fine class, and where nothing varies at all. The
    smallest p is 1 / (permutations + 1).

    Raises
    ------
    ValueError : as ``explained_variance``, permutations outside 1 to 100,000, or a confidence not between 0
        and 1.

    Notes
    -----
    p = (1 + draws with T at least as large) / (1 + draws) is exact where the fine classes differ in label
    only. Where they share one mean and differ in width, it is exact in the limit of many samples if their
    covariances are proportional (Janssen, 1997, for one feature). Measured at the level 0.05 over 1,000
    draws of 100 samples in two classes, widths 1 : 5 and variances that fall like k^-1.5: 0.044 to 0.061;
    0.082 for three classes of 20, 40 and 80 samples and widths 5, 2 and 1.

    The interval inverts a bootstrap within classes. Let delta hold the observed gaps sqrt(n_c) (mu_c - mu)
    of all classes, u its direction, and Z what resampled means add to it. A population whose gaps have the
    squared length b would show squares of b + 2 sqrt(b) u.Z + ||Z||^2. For every resample b is solved
    such that its share is the observed one; the interval lies between quantiles of these b. Resampling
    the share itself fails where means coincide, since observed means never do. The direction, too, is the
    observed one; for the upper end u.Z counts at least as much as in the mean direction of Z. Intervals of
    95 % covered shares from 0 to 0.6 in 92.5 to 100 % of 200 draws in each of 50 cases: equal and falling
    variances, widths 1 : 5, classes of 20 and 80 samples, two, three and five classes.
    """
    permutations, seed = as_whole(permutations, "permutations", 1, MOST), as_whole(seed, "seed", *SEEDS)
    check_share(confidence, "confidence")
    h, fine, num_fine = as_samples(h, fine)
    group = coarse_of_fine(fine, coarse)  # (C,)
    require_samples(torch.bincount(fine, minlength=num_fine), at_least=2)
    result = torch.full((5, int(group.max()) + 1), torch.nan, dtype=torch.float64)
    for g in group.unique().tolist():
        classes = (group == g).nonzero().flatten()  # (K,)
        if len(classes) > 1:
            rows = torch.isin(fine, classes)
            labels = torch.searchsorted(classes, fine[rows])
            x = h[rows].to(torch.float64)
            rng = np.random.default_rng([seed, g])
            result[:, g] = torch.tensor(_of_super_class(x, labels, permutations, confidence, rng))
    return VarianceTest(*result.to(h.device))


class VarianceNull(NamedTuple):
    """What moments alone tell about the explained variance of every super-class; (G,) float64 each.

    Attributes
    ----------
    share, p, null : as in ``VarianceTest``.
    """

    share: Tensor
    p: Tensor
    null: Tensor


def explained_variance_null(moments: Moments, group: ArrayLike, confidence: float = 0.95) -> VarianceNull:
    """The p-value of ``explained_variance_test`` without features, from moments, by an F distribution.

    Parameters
    ----------
    moments : of the fine classes.
    group : (C,) super-class of every fine class.
    confidence : of ``null``.

    Returns
    -------
    VarianceNull. Not a number where ``explained_variance_test`` is not.

    Raises
    ------
    ValueError : a class with fewer than two samples, or a confidence not between 0 and 1.
    TypeError : no ``Moments``.

    Notes
    -----
    Let V be the covariance of the gaps delta. Its trace is known, tr V = sum_c (1 - n_c / n) s_c. Its
    shape is that of Sigma_W, of which moments keep what lies in the span of the means: enough for the
    Rayleigh quotient r = delta' V delta / ||delta||^2, the variance along the gaps. Satterthwaite (1946) and
    Box (1954) take ||delta||^2 / r for chi squared with f = (tr V)^2 / tr(V^2) degrees of freedom. Where
    all true means coincide, delta' V delta is tr(V^2) on average; so f = tr V / r here, D where features vary
    equally in all directions, 1 where they vary in one. Then T follows F(f, f'), f' for the estimate of tr V.
    Assumes samples near Gaussian, and one shape of covariance in all fine classes, also in those of other
    super-classes: moments keep only the covariance pooled over all classes. Where shapes differ, it rejects
    too often: the book's page of long runs measures by how much on features of networks. So it does for few
    samples, from which f is estimated poorly: of 20,000 draws of two Gaussian classes of one mean, equally
    wide in five dimensions, p was below 0.01 in 5.4 % for 2 samples in each, in 1.4 % for 10 and in 1.1 % for
    20. The quotient describes the noise only where gaps are noise, so that no interval for the share
    follows from it.
    """
    check_share(confidence, "confidence")
    require_moments(moments)
    group = as_labels(group, len(moments.counts)).to(moments.counts.device)
    share = explained_variance_of(moments, group)
    result = torch.full((2, len(share)), torch.nan, dtype=torch.float64)
    for g in share.isfinite().nonzero().flatten().tolist():
        result[:, g] = torch.tensor(_by_f(moments, group == g, confidence))
    return VarianceNull(share, *result.to(share.device))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number so that the familywise error holds (Holm, 1979), in their order.

    What is not a number stays so, and does not count.
    """
    order = [i for i in np.argsort(p_values, kind="stable") if not np.isnan(p_values[i])]
    adjusted, least = [np.nan] * len(p_values), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = float(least)
    return adjusted


def check_share(value: object, name: str) -> None:
    """Raise ValueError for anything but a number between 0 and 1."""
    if not isinstance(value, Real) or not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1; got {value!r}")


def _of_super_class(
    x: Tensor, labels: Tensor, draws: int, confidence: float, rng: np.random.Generator
) -> tuple[float, ...]:
    """The five numbers of a super-class from its features (n, D) and labels (n,) in [0, K)."""
    x = x - x[0]  # equal samples: zero, exactly
    x = x - x.mean(dim=0)
    n = torch.bincount(labels).to(x)  # (K,)
    _, means = class_means(x, labels, len(n))
    variances = x.new_zeros(len(n)).index_add_(0, labels, (x - means[labels]).square().sum(dim=1)) / (n - 1)
    deltas = n.sqrt()[:, None] * (means - x.mean(dim=0))  # (K, D)
    gaps = float(deltas.square().sum())
    expected, within = float((1 - n / len(x)) @ variances), float(n @ variances)
    if gaps + within == 0:
        return (np.nan,) * 5
    null_t = _permuted_t(x, labels, n, draws, rng)
    p = (1 + np.sum(null_t >= gaps / (gaps + expected) - TIE)) / (1 + draws)
    quantile = np.quantile(null_t, confidence, method="higher")
    null = _share(quantile / max(1 - quantile, TIE) * expected - expected, within)
    between = gaps - expected
    if within == 0:
        return 1.0, 1.0, 1.0, p, null
    lows, highs = _resampled_lengths(x - means[labels], labels, deltas, between / within, draws, rng)
    low = np.quantile(lows, (1 - confidence) / 2, method="lower")
    high = np.quantile(highs, (1 + confidence) / 2, method="higher")
    return _share(between, within), _share(low, within), _share(high, within), p, null


def _share(between: float, within: float) -> float:
    return between / (between + within) if between + within else 0.0


def _permuted_t(x: Tensor, labels: Tensor, n: Tensor, draws: int, rng: np.random.Generator) -> np.ndarray:
    """T / (1 + T) of ``draws`` permutations of the labels, for features (n, D) around their mean."""
    with_squares = torch.cat([x, x.square().sum(dim=1, keepdim=True)], dim=1)  # (n, D + 1)
    own = labels.cpu().numpy().astype(np.int16)
    found = []
    for count in _portions(draws, len(x)):
        permuted = torch.from_numpy(rng.permuted(np.tile(own, (count, 1)), axis=1)).to(x.device)
        rest = with_squares.sum(dim=0)  # what is left for the last class
        gaps = expected = 0
        for c, size in enumerate(n):
            sums = (permuted == c).to(x) @ with_squares if c < len(n) - 1 else rest  # (R, D + 1)
            rest = rest - sums
            of_mean = sums[:, :-1].square().sum(dim=1) / size  # (R,)
            gaps = gaps + of_mean
            expected = expected + (1 - size / len(x)) * (sums[:, -1] - of_mean) / (size - 1)
        found.append(gaps / (gaps + expected))
    return torch.cat(found).cpu().numpy()


def _resampled_lengths(
    z: Tensor, labels: Tensor, deltas: Tensor, ratio: float, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Squared lengths b of the gaps at which a resample shows the observed squares between over within.

    Parameters
    ----------
    z, labels : features minus their class means, (n, D), and labels in [0, K).
    deltas : (K, D) observed gaps; only their direction counts.
    ratio : observed, (||delta||^2 - tr V) / sum_c n_c s_c.

    Returns
    -------
    (draws,) twice, equal wherever b is unique. Where a resample without gaps shows more than observed,
    the first has 0, and the second the largest b that is consistent, if any.
    """
    towards = torch.nn.functional.normalize(deltas.flatten(), dim=0, eps=0).nan_to_num().view_as(deltas)
    parts = []
    for count in _portions(draws, len(z)):
        along = squares = excess = mean = 0  # u.Z, sum_c n_c ||z_c||^2, ratio W + tr V, mean of all
        for c, direction in enumerate(towards):
            rows = z[labels == c]
            size = len(rows)
            moved = _resample_counts(size, count, rng).to(z) @ torch.cat(
                [rows, rows.square().sum(1, True)], dim=1
            )
            moved = moved / size  # (R, D + 1) means of resamples
            off = moved[:, :-1]
            widen = size / (size - 1)  # resamples scatter less by this factor than samples do
            variance = (moved[:, -1] - off.square().sum(dim=1)) * widen**2
            off = off * widen**0.5
            along = along + size**0.5 * (off @ direction)
            squares = squares + size * off.square().sum(dim=1)
            excess = excess + (ratio * size + 1 - size / len(z)) * variance
            mean = mean + size / len(z) * off
        squares = squares - len(z) * mean.square().sum(dim=1)  # ||Z||^2
        parts.append(torch.stack([along, excess - squares, squares]))
    along, missing, squares = torch.cat(parts, dim=1)
    typical = squares.var(correction=0) / (2 * squares.mean())  # tr(V^2) / tr V, if Z is Gaussian
    wider = (typical / along.var(correction=0)).nan_to_num(posinf=1.0).clamp(min=1).sqrt()
    shortest = _length(along, missing).where(missing > 0, 0)
    return shortest.cpu().numpy(), _length(wider * along, missing).cpu().numpy()


def _length(along: Tensor, missing: Tensor) -> Tensor:
    """The largest b >= 0 with b + 2 sqrt(b) along = missing, 0 where there is none."""
    inside = along.square() + missing
    return (inside.clamp(min=0).sqrt() - along).clamp(min=0).square().where(inside >= 0, 0)


def _resample_counts(size: int, draws: int, rng: np.random.Generator) -> Tensor:
    """How often each of ``size`` samples occurs in a resample with replacement, (draws, size)."""
    picks = rng.integers(size, size=(draws, size)) + size * np.arange(draws)[:, None]
    return torch.from_numpy(np.bincount(picks.ravel(), minlength=draws * size).reshape(draws, size))


def _portions(draws: int, size: int) -> Iterator[int]:
    step = max(1, WEIGHTS // size)
    for start in range(0, draws, step):
        yield min(step, draws - start)


def _in_units_of(variance: float, moments: Moments) -> Moments:
    """Moments of the features divided by the root of a variance: products of many of them stay finite."""
    return replace(
        moments,
        means=moments.means / variance**0.5,
        scatter=moments.scatter / variance,
        projected=moments.projected / variance ** (1 if moments.in_features else 2),
    )


def _by_f(moments: Moments, inside: Tensor, confidence: float) -> tuple[float, float]:
    """p and null of the super-class of the classes ``inside``, (C,) bool."""
    n = moments.counts.to(torch.float64)
    total = float(n @ moments.scatter / n.sum())  # tr Sigma_W
    if total == 0:
        return 0.0, 0.0
    moments = _in_units_of(total, moments)  # whose tr Sigma_W is 1
    eye = torch.eye(len(n), dtype=n.dtype, device=n.device)
    contrasts = (eye - torch.where(inside, n, 0) / n[inside].sum())[inside]  # (K, C), rows sum to zero
    axes = contrasts @ moments.means if moments.in_features else contrasts
    along = (axes @ moments.projected * axes).sum(dim=1)  # (K,) (mu_c - mu)' Sigma_W (mu_c - mu)
    lengths = (contrasts @ centred(moments.means)).square().sum(dim=1)  # (K,)
    n, variances = n[inside], (moments.scatter * n / (n - 1))[inside]
    parts = (1 - n / n.sum()) * variances
    gaps, expected, within = float(n @ lengths), float(parts.sum()), float(n @ variances)
    if expected == 0:  # nothing varies inside the fine classes
        return 0.0, 0.0
    if not float(along @ n) > 0:  # the means coincide
        return 1.0, np.nan
    f = expected * gaps / float((n * variances) @ along)
    concentration = float(n @ along) / gaps  # tr(Sigma^2) / (tr Sigma)^2
    rest = expected**2 / float((parts.square() / (n - 1)).sum()) / concentration
    null = float(fdtri(f, rest, confidence)) * expected - expected
    return float(fdtrc(f, rest, gaps / expected)), _share(null, within)
