"""Structure that survives inside collapsed classes: distances, MSDR, neighbours, reconstructed labels.

Yang, Steinhardt and Hu (2023), arXiv 2306.17105: Section 4.1 class distances, Section 4.3
reconstruction by clustering, Appendix B the mean square distance ratio. The formulas here are our
definitions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from nclib.arrays import ArrayLike, as_features, as_labels, as_samples, of_parts
from nclib.embed import tsne
from nclib.moments import Moments, class_means, require_samples, residual_rows

COMPONENTS = 10  # principal components that a mixture is fitted to
GRAPH_NEIGHBOURS = 10  # of a sample in the graph of spectral clustering


def class_distances(h: ArrayLike, y: ArrayLike) -> Tensor:
    """Mean squared Euclidean distance between the samples of every pair of classes.

    Parameters
    ----------
    h : (N, D) features, any float dtype; measured in float64.
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
    return _distances(moments.counts, moments.means, moments.scatter)


def _distances(counts: Tensor, means: Tensor, scatter: Tensor) -> Tensor:
    require_samples(counts, at_least=2)
    # differences, not the expansion by inner products: it would lose the digits of close means
    gaps = torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist")
    distances = scatter[:, None] + scatter[None, :] + gaps**2  # (C, C)
    distances.diagonal().copy_(2 * scatter * counts / (counts - 1))
    return distances


def means_and_scatter(h: Tensor, y: Tensor, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Samples per class (C,), class means (C, D) and biased scatter (C,) of checked samples."""
    counts, means = class_means(h, y, num_classes)

    def add(h: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        squares, rest = torch.zeros_like(means[:, 0]), torch.zeros_like(means)
        for labels, z in residual_rows(h, y, means):  # (n,), (n, D)
            squares.index_add_(0, labels, torch.linalg.vector_norm(z, dim=1).square())
            rest.index_add_(0, labels, z)
        return squares, rest

    squares, rest = (sum(parts) for parts in zip(*of_parts(add, h, y, least=32 * means.numel()), strict=True))
    size = counts.clamp(min=1)
    # what a sum of many large numbers has rounded away: the gap of close classes is no larger
    return counts, means + rest / size[:, None], squares / size


def relative_distances(distances: ArrayLike) -> Tensor:
    """Class distances in units of the mean width of both classes, 2 D(c, c') / (D(c, c) + D(c', c')).

    Parameters
    ----------
    distances : (C, C) of ``class_distances``.

    Returns
    -------
    (C, C) float64 without unit, symmetric, ones on the diagonal.

    Notes
    -----
    One where two classes have the same mean, whatever the width of each, up to 1 / n of n samples. MSDR
    divides by the own width alone, and so also grows where widths differ. The definition is ours.
    """
    distances = as_features(distances, "distances").to(torch.float64)
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
    number for a class without siblings.

    Raises
    ------
    ValueError : as ``class_distances``, or a fine class with two coarse labels.
    """
    return ratio_to_siblings(class_distances(h, fine), coarse_of_fine(fine, coarse))


def msdr_of(moments: Moments, group: ArrayLike) -> Tensor:
    """``msdr`` from the moments of the fine classes and the coarse label of each, (C,)."""
    return ratio_to_siblings(distances_of(moments), group)


def ratio_to_siblings(distances: Tensor, group: ArrayLike) -> Tensor:
    """``msdr`` from class distances (C, C) and the coarse label of each class, (C,)."""
    siblings = sibling_pairs(group).to(distances.device)
    return (distances * siblings).sum(dim=1) / siblings.sum(dim=1) / distances.diagonal()


def sibling_pairs(group: ArrayLike) -> Tensor:
    """Which pairs of different fine classes share a coarse label: (C,) labels -> (C, C) bool."""
    group = as_labels(group)
    return (group[:, None] == group[None, :]).fill_diagonal_(False)


def coarse_of_fine(fine: ArrayLike, coarse: ArrayLike) -> Tensor:
    """The coarse label of every fine class, (C,) int64, from labels (N,) of both levels.

    Raises ValueError for a fine class with several coarse labels, or with no sample.
    """
    fine = as_labels(fine)
    coarse = as_labels(coarse, len(fine)).to(fine.device)
    group = coarse.new_full((int(fine.max()) + 1,), -1).scatter_(0, fine, coarse)
    stray = (group[fine] != coarse).nonzero().flatten()
    if len(stray):
        label = int(fine[stray[0]])
        parents = coarse[fine == label].unique().tolist()
        raise ValueError(f"fine class {label} must lie in one coarse class; it lies in {parents}")
    require_samples(torch.bincount(fine))
    return group


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
    ValueError : a coarse class with k samples or fewer, or a k that is not positive.

    Notes
    -----
    The definition is ours. It asks of the original space what a t-SNE picture suggests.
    """
    h = as_features(h)
    fine, coarse = (as_labels(labels, len(h)).cpu().numpy() for labels in (fine, coarse))
    smallest = np.unique(coarse, return_counts=True)[1].min()
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
    """What ``neighbour_purity`` expects of neighbours drawn at random in the coarse class, (N,)."""
    fine = as_labels(fine).cpu().numpy()
    coarse = as_labels(coarse, len(fine)).cpu().numpy()
    return (np.bincount(fine)[fine] - 1) / (np.bincount(coarse)[coarse] - 1)


def reconstruct_labels(
    h: ArrayLike,
    coarse: ArrayLike,
    k: int | Sequence[int] = 2,
    method: str = "tsne-kmeans",
    seed: int = 0,
) -> np.ndarray:
    """Find fine labels by clustering the features inside every coarse class.

    Parameters
    ----------
    h : (N, D) features.
    coarse : (N,) coarse labels in [0, G).
    k : clusters per coarse class, one number or one for each of the G classes.
    method : "kmeans" on the features; "pca-gmm", a Gaussian mixture with full covariances on their first
        10 principal components; "spectral", spectral clustering of the graph that joins each sample with its
        10 nearest neighbours, or half a cluster where that is less; "tsne-kmeans", k-means on their
        t-SNE embedding.
    seed : of clustering and embedding.

    Returns
    -------
    (N,) int64 pseudo labels: cluster number plus the clusters of all lower coarse classes, that is
    coarse * k + cluster for one k. Which cluster comes first is arbitrary: see ``match_labels``.

    Raises
    ------
    ValueError : an unknown method, a coarse class with fewer samples than clusters, or a k that is
        not positive.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    h = as_features(h)
    coarse = as_labels(coarse, len(h)).to(h.device)
    clusters = _clusters_per_class(k, int(coarse.max()) + 1)
    labels = np.empty(len(h), dtype=np.int64)
    for group in coarse.unique().tolist():
        rows = (coarse == group).nonzero().flatten()  # (n,)
        if len(rows) < clusters[group]:
            sizes = f"{len(rows)} samples for {clusters[group]} clusters"
            raise ValueError(f"coarse class {group} has {sizes}; choose a smaller k")
        members = h[rows].to(torch.float64)
        members = (members - members.mean(dim=0)).cpu().numpy()  # (n, D)
        found = METHODS[method](members, clusters[group], seed)
        labels[rows.cpu().numpy()] = sum(clusters[:group]) + found
    return labels


def _clusters_per_class(k: int | Sequence[int], num_coarse: int) -> list[int]:
    clusters = [int(each) for each in (k if np.ndim(k) else [k] * num_coarse)]
    if len(clusters) != num_coarse or min(clusters) < 1:
        needed = f"one for all or one for each of {num_coarse} coarse classes"
        raise ValueError(f"k must be positive, {needed}; got {k}")
    return clusters


def _kmeans(h: np.ndarray, k: int, seed: int) -> np.ndarray:
    return KMeans(k, n_init=10, random_state=seed).fit_predict(h)


def _pca_gmm(h: np.ndarray, k: int, seed: int) -> np.ndarray:
    x = PCA(min(COMPONENTS, *h.shape), random_state=seed).fit_transform(h)
    least = 1e-6 * x.var(axis=0).mean()  # variance that keeps covariances invertible, on the scale of x
    mixture = GaussianMixture(k, n_init=10, reg_covar=max(least, np.finfo(float).tiny), random_state=seed)
    return mixture.fit_predict(x)


def _spectral(h: np.ndarray, k: int, seed: int) -> np.ndarray:
    if k == 1:
        return np.zeros(len(h), dtype=np.int64)
    neighbours = min(GRAPH_NEIGHBOURS, max(2, len(h) // (2 * k)))  # a sample is one of its own
    clustering = SpectralClustering(
        k, affinity="nearest_neighbors", n_neighbors=neighbours, random_state=seed
    )
    with warnings.catch_warnings():  # parts of a graph that nothing joins are clusters, and found as such
        warnings.filterwarnings("ignore", "Graph is not fully connected")
        return clustering.fit_predict(h)


def _tsne_kmeans(h: np.ndarray, k: int, seed: int) -> np.ndarray:
    return _kmeans(tsne(h, seed=seed) if k > 1 else h, k, seed)


METHODS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "kmeans": _kmeans,
    "pca-gmm": _pca_gmm,
    "spectral": _spectral,
    "tsne-kmeans": _tsne_kmeans,
}


class Match(NamedTuple):
    """Pseudo labels in the names of the true ones.

    Attributes
    ----------
    labels : (N,) int64 relabelled pseudo labels, -1 where the pseudo label has no partner.
    accuracy : share of samples whose relabelled pseudo label is the true one.
    """

    labels: np.ndarray
    accuracy: float


def match_labels(pseudo: ArrayLike, true: ArrayLike) -> Match:
    """Best one-to-one relabelling of pseudo labels by the Hungarian method; both are (N,).

    Notes
    -----
    Maximises the agreement with the true labels (Kuhn, 1955). There may be more pseudo labels than
    true ones, or fewer; those left over stay without partner and count as errors.
    """
    pseudo = as_labels(pseudo).cpu().numpy()
    true = as_labels(true, len(pseudo)).cpu().numpy()
    agreement = np.zeros((pseudo.max() + 1, true.max() + 1), dtype=np.int64)
    np.add.at(agreement, (pseudo, true), 1)
    rows, columns = linear_sum_assignment(agreement, maximize=True)
    mapping = np.full(len(agreement), -1, dtype=np.int64)
    mapping[rows] = columns
    labels = mapping[pseudo]
    return Match(labels, float((labels == true).mean()))
