"""Training objectives on the coarse labels: cross entropy, squared error, and neural collapse itself.

    loss = nc_loss(h, y, weight)

An objective of ``LOSSES`` takes features (..., N, D), logits (..., N, C), labels (..., N) and the weight
(..., C, D) of the last layer, and returns (...): a scalar, or a number for each of several networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from nclib.measures.arrays import ArrayLike, as_features, as_labels

NC_TERMS = (
    "nc1",
    "nc2_equinorm_means",
    "nc2_equinorm_weights",
    "nc2_maxangle_means",
    "nc2_maxangle_weights",
    "nc3",
)
RIDGE = 1e-12  # added to the Gram matrix of the means, in units of its mean diagonal
ABLATED = {"nc1": ("nc1",), "nc2": NC_TERMS[1:5], "nc3": ("nc3",)}  # what an ablation leaves out


def cross_entropy(h: Tensor, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Mean cross entropy."""
    each = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
    return each.view(labels.shape).mean(-1)


def squared_error(h: Tensor, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Squared distance of the logits to one-hot labels, averaged over entries."""
    return (logits - F.one_hot(labels, logits.shape[-1])).square().mean((-2, -1))


def nc_loss(h: ArrayLike, y: ArrayLike, weight: ArrayLike, terms: Sequence[str] = NC_TERMS) -> Tensor:
    """Neural collapse as an objective: the sum of its differentiable measures, without weights.

    Parameters
    ----------
    h : (N, D) features of a batch.
    y : (N,) integer labels in [0, C).
    weight : (C, D) of the last linear layer.
    terms : which measures to add, names of ``nclib.collapse_metrics``: any but nc4, which has no
        gradient. The default are the six of Haas et al. (2023): NC1, the coefficient of variation of
        the norms and the mean deviation from the angle of a simplex frame, each for means and
        weights, and NC3.

    Returns
    -------
    scalar in the dtype of ``h`` (float64 if it holds integers), computed in float64, differentiable in
    ``h`` and ``weight``. Zero at collapse, where its gradient is finite; not finite where all class means
    coincide or all weights are zero.

    Raises
    ------
    ValueError : features, weights or labels that are refused or do not fit each other, an unknown term,
        fewer than two classes in the batch, or D < C - 1, where no simplex frame exists.

    Notes
    -----
    A class that the batch misses is left out of the measures of the means, which then compare the C'
    present classes with a frame of C'; NC3 compares them with their own rows of the weights, moved to
    the same centre. A network that has collapsed therefore has zero loss on any batch. A class with one
    sample has a mean, and no variation within. No term sees the bias of the last layer.
    """
    h, weight = _with_gradient(h, "features"), _with_gradient(weight, "weight")
    if h.shape[1] != weight.shape[1]:
        raise ValueError(
            f"features (N, D) and weight (C, D) must have one D; got {tuple(h.shape)}, {tuple(weight.shape)}"
        )
    labels = as_labels(y, len(h), len(weight)).to(h.device)
    if len(labels.unique()) < 2:
        raise ValueError("neural collapse relates classes to each other; the batch holds fewer than two")
    measures = nc_terms(h, labels, weight)
    terms = (terms,) if isinstance(terms, str) else tuple(terms)
    unknown = [term for term in terms if term not in measures]
    if unknown or not terms:
        raise ValueError(f"unknown terms {unknown}; allowed: {', '.join(measures)}")
    return sum(measures[term] for term in terms).to(h.dtype)


def _with_gradient(values: ArrayLike, name: str) -> Tensor:
    """Features (N, D), checked; a tensor of floats keeps its gradient."""
    checked = as_features(values, name)
    return values if isinstance(values, Tensor) and values.dtype == checked.dtype else checked


def is_collapse(loss: str) -> bool:
    """Whether an objective of ``LOSSES`` is made of ``nc_terms``: its batches then need every label."""
    return loss.startswith("nc")


def nc_terms(h: Tensor, labels: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """The differentiable measures of a batch, as ``nc_loss`` defines them; float64 (...) by name.

    Parameters
    ----------
    h, labels, weight : (..., N, D), (..., N) and (..., C, D).

    Notes
    -----
    Free of branches on values. With M the centred means and G = M M^T, NC1 = ||Z M^T G^+||_F^2 / N over
    features Z minus their class means. M^T maps the null space of G to zero, so that an inverse may stand in
    for G^+: that of G + s 11^T / C, with s the mean of G's diagonal, where ones span the null space; and
    1e-12 s more on the diagonal where it is larger, as with fewer live units than C - 1. Eigenvectors of G
    would not do: its eigenvalues meet at collapse, and their gradient is not finite.
    """
    num_classes, dim = weight.shape[-2:]
    if dim < num_classes - 1:
        raise ValueError(
            f"a simplex frame of {num_classes} classes needs {num_classes - 1} dimensions, not {dim}"
        )
    h, weight = h.double(), weight.double()
    member = (labels[..., None] == torch.arange(num_classes, device=h.device)).double()  # (..., N, C)
    counts = member.sum(dim=-2)
    present = (counts > 0).double()  # (..., C)
    means = member.mT @ h / counts.clamp(min=1)[..., None]  # (..., C, D)
    axes = present[..., None] * (means - _mean_row(means, present))
    everyone = torch.ones_like(present)
    rows = present[..., None] * (weight - _mean_row(weight, present) + weight.mean(dim=-2, keepdim=True))
    return {
        "nc1": _variability(h - member @ means, axes, present),
        **_frame_terms(axes, present, "means"),
        **_frame_terms(weight, everyone, "weights"),
        "nc3": (_of_size_one(rows) - _of_size_one(axes)).square().sum((-2, -1)),
    }


def _variability(residual: Tensor, axes: Tensor, present: Tensor) -> Tensor:
    """NC1 from residuals (..., N, D), centred means (..., C, D) and who is present (..., C)."""
    gram = axes @ axes.mT  # (..., C, C)
    missing = _outer(present) / present.sum(-1)[..., None, None] + torch.diag_embed(1 - present + RIDGE)
    size = gram.diagonal(dim1=-2, dim2=-1).sum(-1).detach() / present.sum(-1)
    dual, _ = torch.linalg.solve_ex(gram + size[..., None, None] * missing, axes)  # (..., C, D)
    return (residual @ dual.mT).square().sum((-2, -1)) / residual.shape[-2]


def _frame_terms(vectors: Tensor, present: Tensor, name: str) -> dict[str, Tensor]:
    """NC2 of the present rows of (..., C, D), as ``nclib.measures.collapse.frame_measures`` has them."""
    count = present.sum(-1)
    norms = vectors.norm(dim=-1)
    mean_norm = (norms * present).sum(-1) / count
    units = vectors / norms.clamp(min=torch.finfo(norms.dtype).tiny)[..., None]
    pairs = _outer(present) * (1 - torch.eye(present.shape[-1], device=present.device))
    number = count * (count - 1)
    cosines = units @ units.mT  # (..., C, C)
    mean_cosine = (pairs * cosines).sum((-2, -1)) / number
    off_mean = pairs * (cosines - mean_cosine[..., None, None])
    off_simplex = pairs * (cosines + (1 / (count - 1))[..., None, None])
    spread = (present * (norms - mean_norm[..., None])).norm(dim=-1) / count.sqrt()
    return {
        f"nc2_equinorm_{name}": spread / mean_norm,
        f"nc2_equiangular_{name}": _size(off_mean) / number.sqrt(),
        f"nc2_maxangle_{name}": off_simplex.abs().sum((-2, -1)) / number,
    }


def _size(matrices: Tensor) -> Tensor:
    """Frobenius norms of (..., C, D), (...); the gradient of a norm is zero at zero, that of a root none."""
    return matrices.flatten(-2).norm(dim=-1)


def _of_size_one(matrices: Tensor) -> Tensor:
    return matrices / _size(matrices)[..., None, None]


def _outer(vectors: Tensor) -> Tensor:
    """(..., C) -> (..., C, C)."""
    return vectors[..., :, None] * vectors[..., None, :]


def _mean_row(rows: Tensor, present: Tensor) -> Tensor:
    """Mean of the present rows of (..., C, D), (..., 1, D)."""
    return present[..., None, :] @ rows / present.sum(-1)[..., None, None]


def _collapse(h: Tensor, logits: Tensor, labels: Tensor, weight: Tensor, terms: Sequence[str]) -> Tensor:
    """``nc_loss`` as an objective, without its checks."""
    measures = nc_terms(h, labels, weight)
    return sum(measures[term] for term in terms).to(h.dtype)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "cross-entropy": cross_entropy,
    "mse": squared_error,
    "nc": partial(_collapse, terms=NC_TERMS),
} | {
    f"nc-without-{name}": partial(_collapse, terms=[term for term in NC_TERMS if term not in left_out])
    for name, left_out in ABLATED.items()
}
