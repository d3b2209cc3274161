"""Where the sub-populations of one class lie: how far apart, and which samples are nearest to another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.metrics import adjusted_rand_score

from nclib.measures.subpopulations import COMPONENTS, RIDGE, principal_axes, subpopulations

REPEATS = 5  # random halves of a class on which the test is repeated
MOST_OF_HALF = 1000  # samples of such a half: time; a class of 5,000 takes a tenth of it


class Discriminant(NamedTuple):
    """Coordinates in which sub-populations have about unit width.

    Attributes
    ----------
    centre : (D,) mean of the class.
    axes : (D, r) from features to coordinates.
    means : (k, r) of the sub-populations.
    """

    centre: np.ndarray
    axes: np.ndarray
    means: np.ndarray

    def coordinates(self, x: np.ndarray) -> np.ndarray:
        return (x - self.centre) @ self.axes

    def squared_distances(self, x: np.ndarray) -> np.ndarray:
        """To the means, (n, k)."""
        return np.square(self.coordinates(x)[:, None] - self.means).sum(axis=2)


def discriminant(x: np.ndarray, labels: np.ndarray) -> Discriminant:
    """Linear discriminant of sub-populations in the first principal components of their class.

    Parameters
    ----------
    x : (n, D) features of one class, not all equal.
    labels : (n,) sub-populations, from 0 on without gaps.
    """
    centre = x.mean(axis=0)
    spread, axes = principal_axes(x - centre, COMPONENTS)
    z = (x - centre) @ axes.T  # (n, r)
    means = np.stack([z[labels == k].mean(axis=0) for k in range(labels.max() + 1)])
    within = np.cov((z - means[labels]).T, bias=True).reshape(len(axes), -1)
    within += RIDGE * spread[0] ** 2 / len(x) * np.eye(len(axes))
    whiten = np.linalg.inv(np.linalg.cholesky(within)).T  # (r, r)
    return Discriminant(centre, axes.T @ whiten, means @ whiten)


def closeness(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How much farther the next sub-population is than a sample's own, in squared widths, (n,).

    Small or negative for samples on the border.
    """
    squares = discriminant(x, labels).squared_distances(x)
    own = np.take_along_axis(squares, labels[:, None], axis=1)[:, 0]
    np.put_along_axis(squares, labels[:, None], np.inf, axis=1)
    return squares.min(axis=1) - own


def separation(x: np.ndarray, labels: np.ndarray) -> float | None:
    """Gap between the two sub-populations that are nearest, in standard deviations.

    Parameters
    ----------
    x : (n, D) features of one class.
    labels : (n,) sub-populations, from 0 on, two at least.

    Returns
    -------
    float, or None where a sub-population has fewer than four samples, or where two have no width.

    Notes
    -----
    One half fits the direction, the other is measured along it, both ways, so that many dimensions do not
    help. The labels are those of all samples: one Gaussian that is cut in the middle has ``CUT``.
    """
    if np.bincount(labels).min() < 4:
        return None
    order = np.random.default_rng(0).permutation(len(x))
    order = order[np.argsort(labels[order], kind="stable")]  # alternate inside every sub-population
    halves = order[::2], order[1::2]
    gap = np.mean([_nearest_gap(x, labels, *pair) for pair in (halves, halves[::-1])])
    return float(gap) if np.isfinite(gap) else None


CUT = float(2 * np.sqrt(2 / np.pi) / np.sqrt(1 - 2 / np.pi))  # 2.65: two half normal distributions


def _nearest_gap(x: np.ndarray, labels: np.ndarray, fitted: np.ndarray, measured: np.ndarray) -> float:
    found = discriminant(x[fitted], labels[fitted])
    z, labels = found.coordinates(x[measured]), labels[measured]
    parts = [z[labels == k] for k in range(len(found.means))]
    gaps = []
    for i, first in enumerate(parts):
        for j, second in enumerate(parts[:i]):
            axis = found.means[i] - found.means[j]
            a, b = first @ axis, second @ axis
            width = np.sqrt((a.var() + b.var()) / 2)
            gaps.append(abs(a.mean() - b.mean()) / width if width else np.inf)
    return min(gaps)


def agreement(x: np.ndarray, labels: np.ndarray, level: float, seed: int) -> list[float | None]:
    """What random halves of a class, each tested by itself with another seed, say of all its samples.

    Parameters
    ----------
    x : (n, D) features of one class.
    labels : (n,) sub-populations that were found in all of it.
    level, seed : of ``nclib.subpopulations``.

    Returns
    -------
    ``REPEATS`` adjusted Rand indices with ``labels``, of all samples, each with the nearest sub-population of
    a half; None where the half showed one only.
    """
    found = []
    for repeat in range(REPEATS):
        rng = np.random.default_rng([seed, repeat])
        half = rng.permutation(len(x))[: min(len(x) // 2, MOST_OF_HALF)]
        again = subpopulations(x[half], np.zeros(len(half), dtype=int), level, int(rng.integers(2**31)))
        if again.count[0] < 2:
            found.append(None)
            continue
        nearest = discriminant(x[half], again.labels).squared_distances(x).argmin(axis=1)
        found.append(float(adjusted_rand_score(labels, nearest)))
    return found
