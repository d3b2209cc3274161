"""Neural collapse, NC1 to NC4, as functions of class moments. All measures are zero at collapse.

Papyan, Han and Donoho (2020), PNAS 117(40):24652-24663. Where peers differ, an argument chooses:

* NC1 is divided by the number of classes; ``per_class=False`` leaves it whole.
* Standard deviations are those of the population; ``correction=1`` makes them unbiased.
* NC4 reads the classifier with its bias; leave ``bias`` out for the NC4 of peers that drop it.
* NC4 compares with the class means of the same features; ``means`` gives others, say those of the
  training split for features of the test split.

Class means are centred by their unweighted mean. Everything is computed in float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nclib.measures.arrays import (
    CHUNK,
    ArrayLike,
    as_features,
    as_samples,
    as_tensor,
    as_vector,
    as_whole,
    of_parts,
)
from nclib.measures.moments import Moments, centred, require_moments
from nclib.networks.features import exact_float32


def collapse_metrics(
    h: ArrayLike,
    y: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    means: ArrayLike | None = None,
    per_class: bool = True,
    correction: int = 0,
) -> dict[str, float]:
    """All measures of neural collapse, from features and the linear classifier that reads them.

    Parameters
    ----------
    h : (N, D) features, the input of the last linear layer; measured in float64.
    y : (N,) integer labels in [0, C).
    weight, bias : (C, D) and (C,) of the last linear layer; no bias means zero. Only NC4 sees the bias.
    means : (C, D) class means that NC4 compares with; those of ``h`` if not given.
    per_class : whether NC1 is divided by C.
    correction : 0 for biased, 1 for unbiased standard deviations in NC2.

    Returns
    -------
    dict of float, all of them without unit: nc1; nc2_equinorm, nc2_equiangular and nc2_maxangle,
    each for ``_means`` and ``_weights``; nc3; nc4. Where all class means coincide nc1 is infinite; where
    one of them is the mean of all, or a row of the weights is zero, their nc2 and nc3 may be no numbers.

    Raises
    ------
    ValueError : features or labels that are refused, an empty class, a classifier or means of
        another shape, or not finite, a correction other than 0 or 1.

    Notes
    -----
    NC1 to NC4 of Papyan, Han and Donoho (2020), PNAS 117 (40); keyword arguments choose where later papers
    differ.
    """
    weight, h = as_features(weight, "classifier weights"), as_tensor(h)
    if h.ndim == 2 and weight.shape[1] != h.shape[1]:  # first: labels are compared with its C
        needed = (as_samples(h, y)[2], h.shape[1])
        raise ValueError(f"weight must be (C, D), one row a class, here {needed}; got {tuple(weight.shape)}")
    h, y, _ = as_samples(h, y, len(weight))
    moments = Moments.of_checked(h, y, len(weight))
    measures = collapse_of(moments, weight, per_class=per_class, correction=correction)
    means = moments.means if means is None else _as_means(means, moments.means, "means")
    return measures | {"nc4": _disagreement(h, means, weight, bias)}


def collapse_of(
    moments: Moments, weight: ArrayLike | None = None, *, per_class: bool = True, correction: int = 0
) -> dict[str, float]:
    """All measures but nc4 from class moments; without a classifier (C, D), those of the means.

    ``per_class`` and ``correction`` are those of ``collapse_metrics``.

    Raises
    ------
    TypeError : no ``Moments``, such as the ``ClassMoments`` whose summary they are.
    ValueError : a single class, a classifier of another shape.
    """
    require_moments(moments)
    correction = as_whole(correction, "correction", 0, 1)
    means = centred(moments.means)  # (C, D)
    if len(means) < 2:
        raise ValueError("neural collapse relates classes to each other; got a single class")
    nc1 = variability(moments, per_class=per_class)
    measures = {"nc1": nc1, **frame_measures(means, "means", correction=correction)}
    if weight is not None:
        weight = _as_means(weight, means, "classifier weights")
        measures |= frame_measures(weight, "weights", correction=correction)
        measures["nc3"] = self_duality(weight, means)
    return measures


def variability(moments: Moments, *, per_class: bool = True) -> float:
    """NC1, tr(Sigma_W Sigma_B^+) / C: within-class variation in units of that between classes.

    Parameters
    ----------
    moments : of the features.
    per_class : whether to divide by the number of classes C.

    Returns
    -------
    float, infinite where all class means coincide.

    Notes
    -----
    With M = U S V^T the centred class means, Sigma_B^+ = C V S^-2 V^T, hence
    NC1 = sum_k v_k^T Sigma_W v_k / w_k over the eigenpairs (w_k = s_k^2, v_k) of M^T M, D x D. Where
    C <= D the Gram matrix M M^T, C x C, has the same w_k; its eigenvectors u_k = M v_k / s_k give
    NC1 = sum_k u_k^T (M Sigma_W M^T) u_k / w_k^2. Eigenvalues at float64's rounding level, of which
    centring makes one, are left out as a pseudo-inverse leaves them out.
    """
    within, between = _along_means(moments)
    if not len(between):
        return float("inf")
    nc1 = (within / between).sum()
    return float(nc1 if per_class else nc1 * len(moments.means))


def share_along_means(moments: Moments) -> float:
    """Share of the variance within classes along the directions in which class means differ.

    Of all of that variance, NC1 sees this part only.

    Parameters
    ----------
    moments : of the features.

    Returns
    -------
    float in [0, 1]; 0 where all class means coincide, not a number where nothing varies within classes.

    Raises
    ------
    TypeError : no ``Moments``, such as the ``ClassMoments`` whose summary they are.

    Notes
    -----
    tr(P Sigma_W) / tr(Sigma_W), P the projection on the span of the centred class means. The definition is
    ours.
    """
    require_moments(moments)
    whole = moments.counts.to(torch.float64) @ moments.scatter / moments.counts.sum()
    return float(_along_means(moments)[0].sum() / whole)


def _along_means(moments: Moments) -> tuple[Tensor, Tensor]:
    """Variance within classes along v_k of ``variability``, and w_k, (rank of the centred means,) each."""
    means = centred(moments.means)
    axes = means.T if moments.in_features else means  # (k, .) with k = min(C, D)
    values, vectors = torch.linalg.eigh(axes @ axes.T)  # (k,) ascending, (k, k)
    kept = values > max(means.shape) * torch.finfo(values.dtype).eps * values[-1]
    vectors, values = vectors[:, kept], values[kept]
    within = (vectors * (moments.projected @ vectors)).sum(dim=0)  # of Sigma_W or M Sigma_W M^T
    return (within if moments.in_features else within / values), values


def frame_measures(vectors: Tensor, name: str, *, correction: int = 0) -> dict[str, float]:
    """NC2: how far C vectors are from a simplex equiangular tight frame.

    Parameters
    ----------
    vectors : (C, D) float64, centred class means, or rows of the classifier.
    name : ending of the keys, "means" or "weights".
    correction : 0 for standard deviations of the population, 1 for unbiased ones.

    Returns
    -------
    dict of float: nc2_equinorm, std / mean of the norms; nc2_equiangular, std of the cosines
    between distinct vectors, C (C - 1) of them; nc2_maxangle, the mean of |cosine + 1 / (C - 1)|.
    Not a number if a vector is zero.
    """
    norms = vectors.norm(dim=1)  # (C,)
    units = vectors / norms[:, None]
    pairs = len(units) * (len(units) - 1)
    mean = (units.sum(dim=0).square().sum() - units.norm() ** 2) / pairs  # of the cosines
    squares, angles = 0.0, 0.0
    for rows, others in pair_rows(len(units)):
        cosines = units[rows] @ units[others].T
        squares += float((cosines - mean).triu_(1).square_().sum())
        angles += float((cosines + 1 / (len(units) - 1)).triu_(1).abs_().sum())
    return {
        f"nc2_equinorm_{name}": float(norms.std(correction=correction) / norms.mean()),
        f"nc2_equiangular_{name}": (2 * squares / (pairs - correction)) ** 0.5,
        f"nc2_maxangle_{name}": 2 * angles / pairs,
    }


def pair_rows(count: int) -> Iterator[tuple[slice, slice]]:
    """Walk over the pairs i < j of ``count`` objects in blocks of a few megabytes.

    Each block is (rows, others) with others = rows.start and all that follow, so that its pairs are
    the entries above the diagonal: ``triu(1)`` of a table over rows and others.
    """
    step = max(1, CHUNK // count)
    for start in range(0, count, step):
        yield slice(start, start + step), slice(start, count)


def self_duality(weight: Tensor, means: Tensor) -> float:
    """NC3: squared distance of classifier and centred means, (C, D), both of Frobenius norm one."""
    gap = (weight / weight.norm()).sub_(means, alpha=float(1 / means.norm()))  # no second (C, D) array
    return float(gap.norm() ** 2)


def nearest_mean_disagreement(
    h: ArrayLike, means: Tensor, weight: ArrayLike, bias: ArrayLike | None = None
) -> float:
    """NC4: share of samples for which classifier and nearest class mean decide differently.

    Parameters
    ----------
    h : (N, D) features.
    means : (C, D) class means, not centred.
    weight, bias : (C, D) and (C,) of the classifier; no bias means zero.

    Returns
    -------
    float in [0, 1].

    Notes
    -----
    argmin_c ||h - mu_c||^2 = argmax_c (h - g)^T m_c - ||m_c||^2 / 2 with g the mean of the class
    means and m_c = mu_c - g, which keeps the digits that a distance from the origin would cost.
    Ties go to the lower label.

    Features of fewer digits than float64 are decided in float32, in half the time. Its score of an
    axis a with offset b errs by less than (D + 4) u (||x|| ||a|| + |b|), u = eps / 2: Higham (2002),
    Section 3.1. Where the best two differ by less than twice that, float64 decides: for
    features far from the origin, everywhere.
    """
    return _disagreement(as_features(h), means, weight, bias)


def _disagreement(h: Tensor, means: Tensor, weight: ArrayLike, bias: ArrayLike | None) -> float:
    """``nearest_mean_disagreement`` of features that ``as_features`` has returned."""
    means = as_features(means, "means").to(h.device, torch.float64)
    weight = _as_means(weight, means, "classifier weights")
    bias = means.new_zeros(len(means)) if bias is None else as_vector(bias, "bias", len(weight)).to(means)
    origin, axes = means.mean(dim=0), centred(means)
    lengths = axes.square().sum(dim=1) / 2
    low_axes = torch.cat([weight.float(), axes.float()])  # (2 C, D)
    low_offsets = torch.cat([bias, -(axes @ origin) - lengths]).float()[:, None]  # (2 C, 1)
    single = torch.finfo(torch.float32)
    error = (h.shape[1] + 4) * single.eps  # twice the bound
    reach, base = float(low_axes.norm(dim=1).max()), float(low_offsets.abs().max())

    def differ(x: Tensor) -> int:
        x = x.to(torch.float64)
        decided, nearest = x @ weight.T + bias, (x - origin) @ axes.T - lengths  # (n, C)
        return int((decided.argmax(dim=1) != nearest.argmax(dim=1)).sum())

    def differ_in_float32(x: Tensor) -> int:
        low = x.float()
        scores = torch.addmm(low_offsets, low_axes, low.T).view(2, -1, len(x))  # (2, C, n)
        slack = error * (reach * torch.linalg.vector_norm(low, dim=1) + base) + single.tiny  # (n,)
        best = scores >= scores.amax(dim=1, keepdim=True) - slack
        sure = (best.sum(dim=1) == 1).all(dim=0)  # (n,)
        differing = int((sure & (best[0] != best[1]).any(dim=0)).sum())
        return differing if sure.all() else differing + differ(x[~sure])

    def count(h: Tensor) -> int:
        chunks = h.split(max(1, CHUNK // max(low_axes.shape)))
        return sum(map(differ if h.dtype == torch.float64 else differ_in_float32, chunks))

    with exact_float32():
        return sum(of_parts(count, h)) / len(h)


def _as_means(rows: ArrayLike, means: Tensor, name: str) -> Tensor:
    """Rows (C, D), one for each class mean, checked."""
    rows = as_features(rows, name).to(means)
    if rows.shape != means.shape:
        shapes = f"{tuple(means.shape)}; got {tuple(rows.shape)}"
        raise ValueError(f"{name} must have the shape of the class means, {shapes}")
    return rows
