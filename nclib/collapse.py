"""Neural collapse, NC1 to NC4, as functions of class moments.

Papyan, Han and Donoho (2020), PNAS 117(40):24652-24663. Where peers differ, this module computes:
NC1 divided by the number of classes; standard deviations over the population (biased), unweighted
class means; NC4 with the classifier's bias. All of them are zero at collapse.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nclib.arrays import ArrayLike, as_features, as_samples, as_tensor, float64_rows
from nclib.moments import Moments, centred


def collapse_metrics(
    h: ArrayLike, y: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None
) -> dict[str, float]:
    """All measures of neural collapse, from features and the linear classifier that reads them.

    Parameters
    ----------
    h : (N, D) features, the input of the last linear layer; measured in float64.
    y : (N,) integer labels in [0, C).
    weight, bias : (C, D) and (C,) of the last linear layer; no bias means zero.

    Returns
    -------
    dict of float, all of them without unit: nc1; nc2_equinorm, nc2_equiangular and nc2_maxangle,
    each for ``_means`` and ``_weights``; nc3; nc4.

    Raises
    ------
    ValueError : features or labels that are refused, an empty class, a classifier of another shape.
    """
    h, y, _ = as_samples(h, y, len(weight))
    moments = Moments.of(h, y, len(weight))
    nc4 = nearest_mean_disagreement(h, moments.means, weight, bias)
    return collapse_of(moments, weight) | {"nc4": nc4}


def collapse_of(moments: Moments, weight: ArrayLike | None = None) -> dict[str, float]:
    """All measures but nc4 from class moments; without a classifier (C, D), those of the means."""
    means = centred(moments.means)  # (C, D)
    if len(means) < 2:
        raise ValueError("neural collapse relates classes to each other; got a single class")
    measures = {"nc1": variability(moments), **frame_measures(means, "means")}
    if weight is not None:
        weight = _classifier(weight, means)
        measures |= frame_measures(weight, "weights") | {"nc3": self_duality(weight, means)}
    return measures


def variability(moments: Moments) -> float:
    """NC1, tr(Sigma_W Sigma_B^+) / C: within-class variation in units of that between classes.

    Returns
    -------
    float, infinite where all class means coincide.

    Notes
    -----
    With M = U S V^T the centred class means, Sigma_B^+ = C V S^-2 V^T and V = M^T U S^-1, hence
    NC1 = sum_k u_k^T (M Sigma_W M^T) u_k / w_k^2 over the eigenpairs (w_k = s_k^2, u_k) of the
    Gram matrix M M^T, only C x C. Eigenvalues at float64's rounding level, of which centring makes
    one, are left out as a pseudo-inverse leaves them out.
    """
    means = centred(moments.means)
    values, vectors = torch.linalg.eigh(means @ means.T)  # (C,) ascending, (C, C)
    rounding = max(means.shape) * torch.finfo(values.dtype).eps * values[-1]
    kept = values > rounding
    if not kept.any():
        return float("inf")
    vectors, values = vectors[:, kept], values[kept]
    within = (vectors * (moments.projected @ vectors)).sum(dim=0)  # u_k^T (M Sigma_W M^T) u_k
    return float((within / values**2).sum())


def frame_measures(vectors: Tensor, name: str) -> dict[str, float]:
    """NC2: how far C vectors are from a simplex equiangular tight frame.

    Parameters
    ----------
    vectors : (C, D) centred class means, or rows of the classifier.
    name : ending of the keys, "means" or "weights".

    Returns
    -------
    dict of float: nc2_equinorm, std / mean of the norms; nc2_equiangular, std of the cosines
    between distinct vectors; nc2_maxangle, the mean of |cosine + 1 / (C - 1)|. Not a number if a
    vector is zero.
    """
    norms = vectors.norm(dim=1)  # (C,)
    units = vectors / norms[:, None]
    distinct = ~torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    cosines = (units @ units.T)[distinct]  # (C (C - 1),)
    return {
        f"nc2_equinorm_{name}": float(norms.std(correction=0) / norms.mean()),
        f"nc2_equiangular_{name}": float(cosines.std(correction=0)),
        f"nc2_maxangle_{name}": float((cosines + 1 / (len(vectors) - 1)).abs().mean()),
    }


def self_duality(weight: Tensor, means: Tensor) -> float:
    """NC3: squared distance of classifier and centred means, (C, D), both of Frobenius norm one."""
    return float((weight / weight.norm() - means / means.norm()).square().sum())


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
    """
    h = as_features(h)
    means = means.to(h.device)
    weight = _classifier(weight, means)
    bias = means.new_zeros(len(means)) if bias is None else as_tensor(bias).to(means)
    if bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must have shape ({len(weight)},); got {tuple(bias.shape)}")
    origin, axes = means.mean(dim=0), centred(means)
    differ = 0
    for _, x in float64_rows(h):
        decided = (x @ weight.T + bias).argmax(dim=1)
        nearest = ((x - origin) @ axes.T - axes.square().sum(dim=1) / 2).argmax(dim=1)
        differ += int((decided != nearest).sum())
    return differ / len(h)


def _classifier(weight: ArrayLike, means: Tensor) -> Tensor:
    weight = as_features(weight, "classifier weights").to(means)
    if weight.shape != means.shape:
        shapes = f"{tuple(means.shape)}; got {tuple(weight.shape)}"
        raise ValueError(f"classifier weights must have the shape of the class means, {shapes}")
    return weight
