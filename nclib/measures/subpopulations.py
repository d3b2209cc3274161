"""Which classes hide sub-populations, and how many? A test that can say "one".

    found = nclib.subpopulations(h, y)
    found.count        # (C,) sub-populations that the evidence supports, 1 where there is none
    found.p            # (C,) adjusted for the number of classes

A cluster algorithm returns two clusters of anything. Here one half of a class chooses a direction along which
it has two modes, and the other half, which had no part in the choice, says whether it has them as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh
from sklearn.cluster import KMeans
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from nclib.measures.arrays import (
    SEEDS,
    ArrayLike,
    PrecisionWarning,
    as_features,
    as_labels,
    as_whole,
    rows_by_class,
)
from nclib.measures.rounding import FINE, half_format, steps_in_deviation
from nclib.measures.significance import check_share, holm
from nclib.measures.valley import Valley, deepest_valley, valley_p_value

COMPONENTS = 10  # principal components, at most, in which a half is clustered
PER_COMPONENT = 10  # samples of a half for each of them
FITTED = 2500  # samples that a direction is fitted to, at most
SPLITS = 3  # random halvings at most, each used both ways
CLEAR = 1e-8  # p-value from which on no further halving is made
LEAST = 40  # samples below which a class is not tested: a half of 20 shows two modes hardly ever
MOST = 8  # sub-populations of a class
RANK = 1e-6  # singular value, in units of the first, below which an axis is rounding
INNER = 0.9  # of the samples, by Mahalanobis's distance, in which independent components are sought
STEPS = 50  # of FastICA, at most
RIDGE = 1e-3  # of variances, in units of the first axis's


class Subpopulations(NamedTuple):
    """What ``subpopulations`` finds.

    Attributes
    ----------
    count : (C,) int64, sub-populations that the evidence supports: 1 where there is none for more, 0 for a
        class without samples.
    p : (C,) float64, that a class is one population, adjusted for the number of classes that are tested
        (Holm, 1979); 1 for a class of fewer than 40 samples or of equal ones, which is not tested.
    labels : (N,) int64, sub-population of every sample inside its class, from 0 on, the largest first.
    """

    count: np.ndarray
    p: np.ndarray
    labels: np.ndarray


def subpopulations(h: ArrayLike, y: ArrayLike, level: float = 0.05, seed: int = 0) -> Subpopulations:
    """Test every class for sub-populations, and split it into as many as there is evidence for.

    Parameters
    ----------
    h : (N, D) features, any float dtype that resolves the spread inside classes, as float32 mostly does.
    y : (N,) labels of the classes that may hide something, in [0, C).
    level : probability that any class of one population at all is split, at most.
    seed : of the halvings and of clustering.

    Returns
    -------
    Subpopulations.

    Raises
    ------
    ValueError : features that are not finite, labels of another length, a level not between 0 and 1.

    Warns
    -----
    PrecisionWarning, a UserWarning : all features are numbers of bfloat16 or float16, also where they are
        stored in float32, and the steps of that format are wide beside the spread inside a class that is
        tested: the standard deviation of a feature is less than eight of them. Rounding then makes gaps that
        look like valleys, and what is found in such a class is no evidence. Extract features in float32.

    Notes
    -----
    H0 for a class: its samples are independent draws from one distribution that has one mode along every
    direction. Rows that are equal count as one sample, unless fewer than 40 differ. Halve the class at
    random. Divide one half in two on its first principal components in three ways: k-means; a Gaussian
    mixture; and the independent component (Hyvarinen, 1999) of least kurtosis, which a balanced division into
    two has (Pena and Prieto, 2001) and which heavy tails do not hide. For each take the direction that
    separates both sides best (Fisher's discriminant), and find there three windows in which the density of
    this half is lowest in the middle, compared with either side; do so once more with the two sides of that
    valley. Keep the direction for which the valley is least likely with one mode. Given all that, the other
    half is an independent sample, and its counts in the three windows have an exact binomial test for any
    dimension, covariance, skew or tail (``nclib.measures.valley``). The halves then change roles, so that
    halving j has two p-values, each with P(p <= a / 2) <= a / 2.

    Up to three halvings are made, until the answer is clear. The p-value is the least, over l = 1, 2, 3, of
    twice the l-th smallest of the 2 l p-values of the first l halvings. It is valid: let F_j be 1 / a times
    the number of p-values of halving j up to a / 2, so that E F_j <= 1. Halvings are drawn independently
    given the class; so F_1, F_2, ... are exchangeable, and their running means a reverse martingale. By the
    inequality of Ramdas and Manole (2023), P((F_1 + ... + F_l) / l >= 1 / a for any l) <= a. That event is
    p <= a; since it covers every l, one may stop early. With all halvings it is at most Rueger's (1978)
    p-value, twice the third smallest of six (Gasparin, Wang and Ramdas, 2025).

    Which classes are tested does not depend on the halvings, and Holm's adjustment needs no assumption on
    how classes depend on each other. So the probability that any class under H0 is split is ``level`` at
    most. Features of a network's own training images are not independent draws: for them the level is not
    proved.

    A class that is split goes on: its parts on both sides of the valley are tested in the same way, with the
    level in proportion to their samples (Kimes et al., 2017). The level holds for "one, or more"; numbers
    from two on are estimates.

    Sub-populations that lie so close that no direction has two modes are not found, for two Gaussians of
    equal size those nearer than two standard deviations. Small ones need more distance. A curved population
    that has two modes along a line counts as two.
    """
    check_share(level, "level")
    seed = as_whole(seed, "seed", *SEEDS)
    h = as_features(h)
    labels = as_labels(y, len(h)).cpu().numpy()
    members = rows_by_class(labels, labels.max() + 1)
    features = [distinct(h[rows].double().cpu().numpy()) for rows in members]
    _warn_of_rounding(h, [x for x, _ in features])
    # every class has a generator of its own, alike, so that its answer depends on its samples alone
    rngs = [np.random.default_rng(seed) for _ in features]
    tested = [c for c, (x, _) in enumerate(features) if why_not_tested(x) is None]
    p = np.ones(len(features))
    p[tested] = holm([_p_value(features[c][0], rngs[c]) for c in tested])
    count, found = np.array([min(len(x), 1) for x, _ in features]), np.zeros(len(labels), dtype=np.int64)
    for c in np.flatnonzero(p <= level):
        x, row = features[c]
        copies = np.bincount(row)  # (k,) of every row of x
        parts = sorted(_parts(x, level, rngs[c]), key=lambda rows: copies[rows].sum(), reverse=True)
        count[c] = len(parts)
        part = np.empty(len(x), dtype=np.int64)
        for number, rows in enumerate(parts):
            part[rows] = number
        found[members[c]] = part[row]
    return Subpopulations(count, p, found)


def _warn_of_rounding(h: Tensor, classes: Sequence[np.ndarray]) -> None:
    """Warn if half precision has rounded features (N, D) so that its steps show in a class (n, D)."""
    if (form := half_format(h)) is None:
        return
    steps = np.array([np.inf if why_not_tested(x) else steps_in_deviation(x, form) for x in classes])
    if (steps < FINE).any():
        worst, coarse = int(steps.argmin()), int((steps < FINE).sum())
        warnings.warn(
            f"features are rounded to {str(form).removeprefix('torch.')}, too coarsely for {coarse} of "
            f"{len(classes)} classes: in class {worst} a feature has a standard deviation of "
            f"{steps[worst]:.2g} steps, where {FINE} are needed. Sub-populations there are no evidence: "
            "extract features in float32, outside autocast",
            PrecisionWarning,
            stacklevel=3,
        )


def distinct(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows (k, D) of (n, D) features that differ, in their order, and (n,) which of them each row is.

    All rows where so few differ that the features take a few values only: equal rows need not be copies.
    """
    seen: dict[bytes, int] = {}
    rows = np.ascontiguousarray(x) + 0.0  # -0.0 is 0.0
    row = np.array([seen.setdefault(blake2b(each, digest_size=16).digest(), len(seen)) for each in rows])
    if LEAST <= len(seen) < len(x):
        return rows[np.unique(row, return_index=True)[1]], row
    return x, np.arange(len(x))


def _parts(x: np.ndarray, level: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows of the sub-populations of a class (n, D) that is known to have two at least."""
    waiting, whole = _halves_of(x, np.arange(len(x)), rng), []
    while waiting:
        part = waiting.pop(0)
        full = len(waiting) + len(whole) + 1 >= MOST
        if full or _p_value(x[part], rng) > level * len(part) / len(x):
            whole.append(part)
        else:
            waiting += _halves_of(x, part, rng)
    return whole


def _halves_of(x: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Some rows of (n, D) features on both sides of their valley."""
    axis, valley = _direction(x[rows], rng)
    beyond = _beyond(valley, x[rows] @ axis)
    return [rows[~beyond], rows[beyond]]


def _p_value(x: np.ndarray, rng: np.random.Generator) -> float:
    """That (n, D) features are one population; 1 where they cannot be tested."""
    if why_not_tested(x):
        return 1.0
    values = []
    for _ in range(SPLITS):
        order = rng.permutation(len(x))
        first, second = order[: len(x) // 2], order[len(x) // 2 :]
        for fitted, tested in ((first, second), (second, first)):
            axis, valley = _direction(x[fitted], rng)
            values.append(valley_p_value(valley, x[tested] @ axis))
        if not CLEAR < _combined(values) < 1:
            break
    return _combined(values)


def why_not_tested(x: np.ndarray) -> str | None:
    """Why (n, D) features are not tested, in words; None if they are."""
    if len(x) < LEAST:
        return f"fewer than {LEAST} samples"
    return None if np.ptp(x, axis=0).any() else "all samples are equal"


def _combined(values: Sequence[float]) -> float:
    """One p-value from two of every halving, in the order of the halvings, however many were made."""
    at_number = [2 * sorted(values[: 2 * number])[number - 1] for number in range(1, len(values) // 2 + 1)]
    return min(1.0, *at_number)


def _direction(x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Valley | None]:
    """The direction (D,) along which (n, D) features look most like two populations, and the valley there."""
    if len(x) > FITTED:
        x = x[rng.choice(len(x), FITTED, replace=False)]
    centred = x - x.mean(axis=0)
    spread, axes = principal_axes(centred, max(1, min(COMPONENTS, len(x) // PER_COMPONENT)))
    if not len(axes):
        return np.zeros(x.shape[1]), None
    axes = axes / (spread[0] / len(x) ** 0.5)  # (r, D)
    candidates = _candidates(x, axes, centred @ axes.T, rng)
    _, axis, valley = min(candidates, key=lambda each: each[0])
    return axis, valley


def _candidates(
    x: np.ndarray, axes: np.ndarray, z: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[float, np.ndarray, Valley | None]]:
    """p-values, directions (D,) and valleys of (n, D) features; ``z`` (n, r) are these on (r, D) ``axes``."""
    models = (
        KMeans(2, n_init=10, random_state=_seed(rng)),
        GaussianMixture(2, reg_covar=RIDGE, random_state=_seed(rng)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # duplicates; an early stop is a worse direction
        divisions = [model.fit_predict(z) for model in models] + [_least_kurtosis(z, _seed(rng))]
    for clusters in divisions:
        for _ in range(2):  # along a valley the clusters are known better, and so is their discriminant
            axis = _discriminant(z, clusters) @ axes
            along = x @ axis
            valley = deepest_valley(along)
            yield valley_p_value(valley, along), axis, valley
            clusters = _beyond(valley, along)


def _least_kurtosis(z: np.ndarray, seed: int) -> np.ndarray:
    """Both sides (n,) of the valley along the independent component of least kurtosis: two modes have little.

    Of (n, r) features. Tails would rule components and kurtosis, so that the farthest tenth is left out.
    """
    distance = np.square(z / z.std(axis=0)).sum(axis=1)
    inner = z[distance <= np.quantile(distance, INNER)]
    centred = inner - inner.mean(axis=0)
    spread, axes = principal_axes(centred, z.shape[1])
    if not len(axes):
        return np.zeros(len(z), dtype=bool)
    whitening = axes / (spread[:, None] / len(inner) ** 0.5)
    ica = FastICA(whiten=False, max_iter=STEPS, random_state=seed).fit(centred @ whitening.T)
    components = ica.components_ @ whitening
    fourth = np.mean((centred @ components.T) ** 4, axis=0)  # of unit variance
    along = z @ components[fourth.argmin()]
    return _beyond(deepest_valley(along), along)


def _beyond(valley: Valley | None, along: np.ndarray) -> np.ndarray:
    """Which of (n,) coordinates lie beyond a valley; none without one."""
    return along > (valley.bottom if valley else np.inf)


def principal_axes(x: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest singular values (r,) and their axes (r, D) of centred features (n, D), ``most`` at most.

    Without those that are rounding, below ``RANK``; none where all features are equal. From the products of
    features or of samples, whichever are fewer: an SVD of 2,500 x 512 takes ten times as long, for digits
    below ``RANK`` only.
    """
    size = np.abs(x).max() or 1.0  # squares of what is left neither overflow nor vanish
    x = x / size
    wide = x.shape[1] > len(x)
    products = x @ x.T if wide else x.T @ x
    last = len(products) - 1
    values, vectors = eigh(products, subset_by_index=[max(0, last - most + 1), last])
    spread = np.sqrt(np.maximum(values[::-1], 0))  # (r,)
    axes = vectors[:, ::-1].T  # (r, D), or (r, n) of samples
    if wide:
        axes = axes @ x / np.maximum(spread, np.finfo(float).tiny)[:, None]
    kept = spread > RANK * spread[0]
    return size * spread[kept], axes[kept]


def unseen_half(x: np.ndarray, seed: int = 0) -> tuple[np.ndarray, Valley | None]:
    """One half of (n, D) features along the direction, and the valley there, that the other half chose.

    Returns
    -------
    (k - k // 2,) coordinates of half of the k rows that differ, and the valley, None where all features of
    the other half are equal.
    """
    rng = np.random.default_rng(seed)
    x, _ = distinct(x)
    order = rng.permutation(len(x))
    axis, valley = _direction(x[order[: len(x) // 2]], rng)
    return x[order[len(x) // 2 :]] @ axis, valley


def _discriminant(z: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Fisher's direction (r,) between clusters 0 and 1 of (n, r) features; the first axis if one is empty."""
    halves = [z[clusters == c] for c in (0, 1)]
    if not all(map(len, halves)):
        return np.eye(z.shape[1])[0]
    means = [half.mean(axis=0) for half in halves]
    within = sum((half - mean).T @ (half - mean) for half, mean in zip(halves, means, strict=True)) / len(z)
    axis = np.linalg.solve(within + RIDGE * np.eye(z.shape[1]), means[1] - means[0])
    return axis / (np.linalg.norm(axis) or 1.0)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
