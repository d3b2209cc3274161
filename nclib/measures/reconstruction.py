"""Fine labels reconstructed by clustering features inside super-classes, and matched to the true ones.

Yang, Steinhardt and Hu (2023), arXiv 2306.17105, Section 4.3.
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
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from nclib.measures.arrays import SEEDS, ArrayLike, as_features, as_labels, as_whole
from nclib.measures.embedding import FEWEST, tsne

COMPONENTS = 10  # principal components that a mixture is fitted to
GRAPH_NEIGHBOURS = 10  # of a sample in the graph of spectral clustering


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
    ValueError : an unknown method, a coarse class with fewer samples than clusters (spectral: no more
        samples than clusters; t-SNE: fewer than five), or with equal samples only (t-SNE, mixture), a k that
        is no positive whole number or not one for each coarse class.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning : a coarse class has fewer distinct samples than clusters.
    """
    if method not in CLUSTERINGS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(CLUSTERINGS)}")
    seed = as_whole(seed, "seed", *SEEDS)
    h = as_features(h)
    coarse = as_labels(coarse, len(h)).to(h.device)
    groups = coarse.unique().tolist()
    clusters = _clusters_per_class(k, groups)
    labels = np.empty(len(h), dtype=np.int64)
    for group in groups:
        rows = (coarse == group).nonzero().flatten()  # (n,)
        if len(rows) < clusters[group]:
            sizes = f"{len(rows)} samples for {clusters[group]} clusters"
            raise ValueError(f"coarse class {group} has {sizes}; choose a smaller k")
        members = h[rows].to(torch.float64)
        members = (members - members.mean(dim=0)).cpu().numpy()  # (n, D)
        try:
            found = CLUSTERINGS[method](members, clusters[group], seed)
        except ValueError as error:
            raise ValueError(f"coarse class {group}: {error}") from error
        labels[rows.cpu().numpy()] = sum(clusters[:group]) + found
    return labels


def _clusters_per_class(k: int | Sequence[int], groups: Sequence[int]) -> list[int]:
    """Clusters of every coarse class, of which ``groups``, ascending, have samples."""
    num_coarse = groups[-1] + 1
    clusters = list(k) if np.ndim(k) else [k] * num_coarse
    if len(clusters) != num_coarse:
        needed = f"one for all or one for each of {num_coarse} coarse classes"
        empty = num_coarse - len(groups)
        hint = (
            f". Labels count from 0, and {empty} of them up to {groups[-1]} have no samples" if empty else ""
        )
        raise ValueError(f"k must be positive, {needed}; got {k}{hint}")
    return [as_whole(each, "k", 1) for each in clusters]


def _kmeans(h: np.ndarray, k: int, seed: int) -> np.ndarray:
    return KMeans(k, n_init=10, random_state=seed).fit_predict(h)


def _pca_gmm(h: np.ndarray, k: int, seed: int) -> np.ndarray:
    if k == 1:
        return np.zeros(len(h), dtype=np.int64)
    if not np.square(h - h[0]).any():
        raise ValueError(f"principal components need samples that differ; all {len(h)} of a class are equal")
    x = PCA(min(COMPONENTS, *h.shape), random_state=seed).fit_transform(h)
    least = 1e-6 * x.var(axis=0).mean()  # variance that keeps covariances invertible, on the scale of x
    mixture = GaussianMixture(k, n_init=10, reg_covar=max(least, np.finfo(float).tiny), random_state=seed)
    return mixture.fit_predict(x)


def _spectral(h: np.ndarray, k: int, seed: int) -> np.ndarray:
    if k == 1:
        return np.zeros(len(h), dtype=np.int64)
    if k == len(h):
        raise ValueError(f"spectral clustering finds fewer clusters than samples; k={k} is all of them")
    _warn_of_copies(h, k)
    neighbours = min(GRAPH_NEIGHBOURS, max(2, len(h) // (2 * k)))  # a sample is one of its own
    clustering = SpectralClustering(
        k, affinity="nearest_neighbors", n_neighbors=neighbours, random_state=seed
    )
    with warnings.catch_warnings():
        # parts of a graph that nothing joins are clusters, and found as such
        warnings.filterwarnings("ignore", "Graph is not fully connected")
        # as many features as samples are taken for affinities
        warnings.filterwarnings("ignore", "The spectral clustering API has changed")
        return clustering.fit_predict(h)


def _tsne_kmeans(h: np.ndarray, k: int, seed: int) -> np.ndarray:
    if k > 1:
        if len(h) < FEWEST:
            raise ValueError(f"t-SNE needs at least {FEWEST} samples; got {len(h)}: choose method='kmeans'")
        _warn_of_copies(h, k)
        h = tsne(h, seed=seed)
    return _kmeans(h, k, seed)


def _warn_of_copies(h: np.ndarray, k: int) -> None:
    """As k-means warns: graphs and embeddings give copies of one sample places of their own."""
    left, distinct = h, 0
    while len(left) and distinct < k:
        left, distinct = left[(left != left[0]).any(axis=1)], distinct + 1
    if distinct < k:
        words = f"{distinct} distinct samples for {k} clusters: copies of one sample are divided at random"
        warnings.warn(words, ConvergenceWarning, stacklevel=4)


CLUSTERINGS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
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

    Returns
    -------
    Match : the pseudo labels in the names of the true ones, and the share that agrees.

    Raises
    ------
    ValueError : labels that are refused, or of two lengths.

    Notes
    -----
    Maximises the agreement with the true labels (Kuhn, 1955). There may be more pseudo labels than
    true ones, or fewer; those left over stay without partner and count as errors.
    """
    pseudo = as_labels(pseudo).cpu().numpy()
    true = as_labels(true, len(pseudo)).cpu().numpy()
    found, row = np.unique(pseudo, return_inverse=True)
    names, column = np.unique(true, return_inverse=True)
    agreement = np.zeros((len(found), len(names)), dtype=np.int64)
    np.add.at(agreement, (row, column), 1)
    rows, columns = linear_sum_assignment(agreement, maximize=True)
    mapping = np.full(len(found), -1, dtype=np.int64)
    mapping[rows] = names[columns]
    labels = mapping[row]
    return Match(labels, float((labels == true).mean()))
