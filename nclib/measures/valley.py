"""Does a sample on a line come from a distribution with two modes? An exact test of a valley seen elsewhere.

    valley = deepest_valley(x)         # seen in one sample
    valley_p_value(valley, z)          # tested on another

Where a density has one mode, its mean over an interval is at least the smaller of its means over an interval
to the left and over one to the right. That holds for any tail and any skew.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import betainc, ndtri

WIDTHS = (4, 6, 9, 13, 20, 30, 45)  # windows of the range
STEPS = 4  # positions of a window in its width
TAILS = 0.002  # of a sample on either side, left out of the range
COPIES = 10  # of every sample, spread as a Gaussian, from which windows are chosen


class Valley(NamedTuple):
    """Three windows that do not overlap, by their left ends: a peak, the valley in the middle, and a peak.

    The peaks have one width, the middle has that or half of it.
    """

    left: float
    middle: float
    right: float
    width: float
    middle_width: float

    @property
    def widths(self) -> np.ndarray:
        """Of the three windows, (3,)."""
        return np.array([self.width, self.middle_width, self.width])

    @property
    def bottom(self) -> float:
        """Where to divide the sample."""
        return self.middle + self.middle_width / 2

    def counts(self, x: np.ndarray) -> np.ndarray:
        """Numbers of a sample (n,) in the three windows, (3,)."""
        return _counts(np.sort(x), np.array(self[:3]), self.widths)


def deepest_valley(x: np.ndarray) -> Valley | None:
    """The three windows in which a sample (n,) looks most as if it had two modes; None if all are equal.

    Notes
    -----
    They are chosen from a kernel estimate of the density: the emptiest of several hundred windows is empty
    by chance, and not so on another sample. Silverman's (1986, eq. 3.31) width.
    """
    x = np.sort(_smoothed(x))
    low, high = np.quantile(x, [TAILS, 1 - TAILS])
    if not low < high:
        return None
    best, found = np.inf, None
    for number in WIDTHS:
        width = (high - low) / number
        starts = low + width * np.arange(STEPS * (number - 1) + 1) / STEPS
        peaks = _counts(x, starts, width)
        before, after = _best_before(peaks), _best_after(peaks)
        for steps in (STEPS, STEPS // 2):
            narrow = width * steps / STEPS
            middle = np.arange(STEPS, len(starts) - steps)
            left, right = before[middle - STEPS], after[middle + steps]
            floor = _counts(x, starts[middle], narrow)
            p = _p(*(count / COPIES for count in (peaks[left], floor, peaks[right])), narrow / width)
            i = int(p.argmin())
            if p[i] < best:
                best = p[i]
                found = Valley(starts[left[i]], starts[middle[i]], starts[right[i]], width, narrow)
    return found


def valley_p_value(valley: Valley | None, x: np.ndarray) -> float:
    """That a sample (n,), independent of the valley, comes from a density with one mode; exact or too large.

    Notes
    -----
    H0: the mean density in the middle is at least that on the left, or at least that on the right. Each is a
    binomial test of two counts; H0 is rejected if both are (Berger, 1982).
    """
    if valley is None:
        return 1.0
    left, middle, right = valley.counts(x)
    return float(_p(left, middle, right, valley.middle_width / valley.width))


def _smoothed(x: np.ndarray) -> np.ndarray:
    """``COPIES`` of every sample (n,) at quantiles of a Gaussian around it."""
    lower, upper = np.quantile(x, [0.25, 0.75])
    width = 0.9 * min(x.std(), (upper - lower) / 1.34) * len(x) ** -0.2
    return (x[:, None] + width * ndtri((np.arange(COPIES) + 0.5) / COPIES)).ravel()


def _counts(x: np.ndarray, starts: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """Numbers of a sorted sample in windows from ``starts`` on."""
    return np.searchsorted(x, starts + width) - np.searchsorted(x, starts)


def _p(left: np.ndarray, middle: np.ndarray, right: np.ndarray, ratio: float) -> np.ndarray:
    """The larger p-value of the two binomial tests; ``ratio`` is the middle's width over that of a peak.

    The binomial distribution as an incomplete beta function, which also takes parts of a sample.
    """
    peak = np.minimum(left, right)
    return np.where(peak > 0, betainc(peak, middle + 1, 1 / (1 + ratio)), 1.0)  # nan at 0 before SciPy 1.16


def _best_before(counts: np.ndarray) -> np.ndarray:
    """Index of the largest count up to each position."""
    best = np.maximum.accumulate(counts)
    return np.maximum.accumulate(np.where(counts == best, np.arange(len(counts)), 0))


def _best_after(counts: np.ndarray) -> np.ndarray:
    """Index of the largest count from each position on."""
    return len(counts) - 1 - _best_before(counts[::-1])[::-1]
