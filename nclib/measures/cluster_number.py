"""How many classes does a label hide? Three ways to choose a number of clusters from features alone.

choose_k(h, coarse)      # a number for each coarse class
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from nclib.measures.arrays import SEEDS, ArrayLike, as_features, as_labels, as_whole

MOST = 6  # clusters that are tried
STARTS = 3  # of k-means
REFERENCES = 10  # uniform samples that the gap statistic compares with
STABLE = 0.8  # prediction strength from which clusters count as real
HALVINGS = 5  # random halvings that prediction strength averages over


def choose_k(
    h: ArrayLike, coarse: ArrayLike, method: str = "prediction-strength", most: int = MOST, seed: int = 0
) -> np.ndarray:
    """The number of clusters inside every coarse class, chosen from its features alone.

    Parameters
    ----------
    h : (N, D) features.
    coarse : (N,) coarse labels in [0, G), each with at least four times ``most`` samples.
    method : "prediction-strength", "silhouette" or "gap", see Notes.
    most : the largest number tried; the smallest is 1, with "silhouette" 2.
    seed : of k-means, of reference samples and of halvings.

    Returns
    -------
    (G,) int64.

    Raises
    ------
    ValueError : an unknown method, a ``most`` below 2, a class with too few samples, or with so few
        distinct ones that "silhouette" or "gap" are not defined.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning : a coarse class has fewer distinct samples than clusters tried.

    Notes
    -----
    All three cluster with k-means.

    "prediction-strength" (Tibshirani and Walther 2005): split the class in halves and cluster both. The
    strength is the share of pairs of one cluster of one half that the centres of the other half keep
    together, in the cluster where it is lowest, and 0 for a cluster of one sample or none; the largest k
    with a mean strength of 0.8.

    "silhouette" (Rousseeuw 1987): the largest mean silhouette. It is not defined for one cluster.

    "gap" (Tibshirani, Walther and Hastie 2001): log of the sum of squares within clusters, against
    that of samples drawn uniformly from the box along the principal axes; the smallest k whose gap is at
    least that of k + 1 less one standard error, or ``most`` if there is none.
    """
    if method not in CRITERIA:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(CRITERIA)}")
    most, seed = as_whole(most, "most", 2), as_whole(seed, "seed", *SEEDS)
    h = as_features(h)
    labels = as_labels(coarse, len(h)).cpu().numpy()
    sizes = np.bincount(labels)
    if not sizes.all():
        raise ValueError(f"label {int(sizes.argmin())} has no samples; number labels from 0 on without gaps")
    if sizes.min() < 4 * most:
        c, smallest = int(sizes.argmin()), int(sizes.min())
        remedy = f": choose most={smallest // 4}" if smallest >= 8 else ""
        raise ValueError(f"most={most} needs {4 * most} samples a class; class {c} has {smallest}{remedy}")
    x = h.double().cpu().numpy()
    return np.array([CRITERIA[method](_along_axes(x[labels == c]), most, seed) for c in range(len(sizes))])


def gap_statistic(x: np.ndarray, most: int = MOST, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gap and its standard error for k = 1 to ``most``, (most,) each, of samples (n, D) along their axes."""
    random = np.random.default_rng(seed)
    low, high = x.min(axis=0), x.max(axis=0)
    drawn = [_log_scatter(random.uniform(low, high, x.shape), most, seed) for _ in range(REFERENCES)]
    error = np.std(drawn, axis=0) * np.sqrt(1 + 1 / REFERENCES)
    return np.mean(drawn, axis=0) - _log_scatter(x, most, seed), error


def prediction_strength(x: np.ndarray, most: int = MOST, seed: int = 0) -> np.ndarray:
    """Mean prediction strength over halvings for k = 1 to ``most``, (most,), of samples (n, D)."""
    random = np.random.default_rng(seed)
    strengths = np.ones((HALVINGS, 2, most))
    for of_halving in strengths:
        halves = np.array_split(random.permutation(x), 2)
        for k in range(2, most + 1):
            fits = [_k_means(half, k, seed) for half in halves]
            for at, (own, other, half) in enumerate(zip(fits, fits[::-1], halves, strict=True)):
                of_halving[at, k - 1] = _weakest(own.labels_, other.predict(half), k)
    return strengths.mean(axis=(0, 1))


def _weakest(own: np.ndarray, other: np.ndarray, k: int) -> float:
    """Share of pairs of one of k clusters of one labelling (n,) that the other joins, where it is lowest."""
    table = np.zeros((k, k))
    np.add.at(table, (own, other), 1)
    size = table.sum(axis=1)
    pairs = size * (size - 1)
    together = (table * (table - 1)).sum(axis=1)
    return float(np.divide(together, pairs, out=np.zeros_like(pairs), where=pairs > 0).min())


def _by_gap(x: np.ndarray, most: int, seed: int) -> int:
    gap, error = gap_statistic(x, most, seed)
    enough = gap[:-1] >= gap[1:] - error[1:]
    return int(enough.argmax()) + 1 if enough.any() else most


def _by_prediction_strength(x: np.ndarray, most: int, seed: int) -> int:
    return int(np.flatnonzero(prediction_strength(x, most, seed) >= STABLE)[-1]) + 1


def _by_silhouette(x: np.ndarray, most: int, seed: int) -> int:
    widths = [silhouette_score(x, _k_means(x, k, seed).labels_) for k in range(2, most + 1)]
    return int(np.argmax(widths)) + 2


def _log_scatter(x: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Logarithm of the sum of squares within 1 to ``most`` clusters."""
    scatter = [_k_means(x, k, seed).inertia_ for k in range(1, most + 1)]
    if not all(scatter):
        raise ValueError(f"the gap of {len(x)} samples is not defined: {most} clusters leave no scatter")
    return np.log(scatter)


def _k_means(x: np.ndarray, k: int, seed: int) -> KMeans:
    return KMeans(k, n_init=STARTS, random_state=seed).fit(x)


def _along_axes(x: np.ndarray) -> np.ndarray:
    """Centred samples along their principal axes, (n, D) -> (n, min(n, D)); distances stay."""
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    return u * s


CRITERIA: dict[str, Callable[[np.ndarray, int, int], int]] = {
    "prediction-strength": _by_prediction_strength,
    "silhouette": _by_silhouette,
    "gap": _by_gap,
}
