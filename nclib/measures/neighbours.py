"""Nearest neighbours: how often they share a fine label inside a super-class."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from nclib.measures.arrays import ArrayLike, as_features, as_labels, as_whole
from nclib.measures.distances import parents


def neighbour_purity(h: ArrayLike, fine: ArrayLike, coarse: ArrayLike, k: int = 10) -> np.ndarray:
    """How many of a sample's nearest neighbours inside its coarse class share its fine label.

    Parameters
    ----------
    h : (N, D) features.
    fine, coarse : (N,) labels.
    k : neighbours, by Euclidean distance; the sample itself is none of them.

    Returns
    -------
    (N,) float64 shares of k. ``purity_by_chance`` is what neighbours drawn at random give.

    Raises
    ------
    ValueError : a coarse class with k samples or fewer, a fine class with two coarse labels, or a k that is
        no positive whole number.

    Notes
    -----
    The definition is ours. It asks of the original space what a t-SNE picture suggests.
    """
    h = as_features(h)
    fine, coarse = (as_labels(labels, len(h)).cpu().numpy() for labels in (fine, coarse))
    parents(fine, coarse)  # refuses labels that are swapped
    smallest = np.unique(coarse, return_counts=True)[1].min()
    k = as_whole(k, "k", 0)
    if smallest < 2:
        raise ValueError("a coarse class has a single sample, and no neighbour")
    if not 1 <= k < smallest:
        raise ValueError(
            f"k={k}: choose 1 to {smallest - 1}, the smallest coarse class has {smallest} samples"
        )
    purity = np.empty(len(h))
    for group in np.unique(coarse):
        rows = np.flatnonzero(coarse == group)  # (n,)
        members = h[rows].to(torch.float64)
        members = (members - members.mean(dim=0)).cpu().numpy()  # distances keep more digits
        nearest = NearestNeighbors(n_neighbors=k).fit(members).kneighbors(return_distance=False)  # (n, k)
        purity[rows] = (fine[rows][nearest] == fine[rows][:, None]).mean(axis=1)
    return purity


def purity_by_chance(fine: ArrayLike, coarse: ArrayLike) -> np.ndarray:
    """What ``neighbour_purity`` expects of neighbours drawn at random in the coarse class, (N,).

    Not a number for a sample that is alone in its coarse class.
    """
    fine = as_labels(fine).cpu().numpy()
    coarse = as_labels(coarse, len(fine)).cpu().numpy()
    others = np.bincount(coarse)[coarse] - 1.0  # (N,)
    _, pair, sizes = np.unique(np.stack([fine, coarse]), axis=1, return_inverse=True, return_counts=True)
    same = sizes[pair.ravel()] - 1.0  # of one fine and one coarse class
    return np.divide(same, others, out=np.full(len(fine), np.nan), where=others > 0)
