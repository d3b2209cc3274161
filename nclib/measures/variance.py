"""How much of the variance inside a super-class its fine classes explain.

    explained_variance(h, fine, coarse)       # (C_coarse,) shares: 0 no structure, 1 nothing else

This is the eta squared of a one-way analysis of variance without its bias in small samples, that is omega
squared where classes are equally large. Unlike the mean square distance ratio it can come out as "nothing":
classes of one mean score 0 on average, however different their widths are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nclib.measures.arrays import ArrayLike, as_labels, as_samples
from nclib.measures.distances import coarse_of_fine, means_and_scatter
from nclib.measures.moments import Moments, first_rows, require_moments, require_samples


def explained_variance(h: ArrayLike, fine: ArrayLike, coarse: ArrayLike) -> Tensor:
    """Share of the variance inside every super-class that its fine classes explain.

    Parameters
    ----------
    h : (N, D) features, any float dtype; measured in float64, with whatever rounding they have.
    fine : (N,) fine labels in [0, C).
    coarse : (N,) super-class of every sample, in [0, G); all samples of a fine class share one.

    Returns
    -------
    (G,) float64 without unit. Where the fine classes of a super-class share one mean 0 on average, a little
    below or above, but for classes of a few samples, where it is some hundredths more; 1 where nothing
    varies inside them. Not a number for a super-class of one fine class, and where nothing varies at all.

    Raises
    ------
    ValueError : a fine class with fewer than two samples or with two super-classes, or a feature that is
        not finite.

    Notes
    -----
    Write n_c, mu_c and s_c for the samples, the mean and the unbiased variance (a trace) of fine class c, n
    and mu for those of its super-class. The squares between classes, sum_c n_c ||mu_c - mu||^2, hold
    sum_c (1 - n_c / n) s_c on average even where all true means coincide. Without that they are B, and the
    share is B / (B + sum_c n_c s_c). B is 0 on average, exactly, whatever the widths; the share is nearly
    so. For two classes of equal variance epsilon squared (Kelley, 1935) is B / (squares in all), which
    differs from it by one s in the denominator.
    """
    h, fine, num_fine = as_samples(h, fine)
    counts, means, scatter = means_and_scatter(h, fine, num_fine)
    return _explained(counts, means, scatter, coarse_of_fine(fine, coarse))


def explained_variance_of(moments: Moments, group: ArrayLike) -> Tensor:
    """``explained_variance`` from the moments of the fine classes and the super-class of each, (G,)."""
    require_moments(moments)
    return _explained(moments.counts, moments.means, moments.scatter, as_labels(group, len(moments.counts)))


def _explained(counts: Tensor, means: Tensor, scatter: Tensor, group: Tensor) -> Tensor:
    require_samples(counts, at_least=2)
    group = group.to(counts.device)

    def summed(rows: Tensor) -> Tensor:
        """Sums over the fine classes of every super-class."""
        return rows.new_zeros(int(group.max()) + 1, *rows.shape[1:]).index_add_(0, group, rows)

    n = counts.to(torch.float64)  # (C,)
    whole = summed(n)  # (G,)
    first = first_rows(group, len(whole)).clamp(max=len(group) - 1)  # (G,) classes
    offsets = means - means[first][group]  # (C, D) where means are equal zero, exactly
    centres = summed(offsets * n[:, None]) / whole[:, None]  # (G, D)
    variances = scatter * n / (n - 1)  # (C,)
    gaps = n * (offsets - centres[group]).square().sum(dim=1)  # (C,)
    between = summed(gaps - (1 - n / whole[group]) * variances)  # (G,)
    share = between / (between + summed(n * variances))
    return share.where(summed(torch.ones_like(n)) > 1, torch.nan)
