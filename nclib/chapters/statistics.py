"""Pairs of one seed; means over seeds, and their intervals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from scipy.stats import t as student_t

from nclib.runs.run import Run

FEWEST = 3  # values that are given an interval: that of two is a dozen times as wide as they lie apart

R = TypeVar("R", bound=Run)
Limits = tuple[float, float]  # least and largest possible value of what is averaged
SHARE: Limits = (0.0, 1.0)
NOT_NEGATIVE: Limits = (0.0, np.inf)
UP_TO_ONE: Limits = (-np.inf, 1.0)
UNLIMITED: Limits = (-np.inf, np.inf)


def paired_by_seed(runs: Iterable[R], others: Iterable[R]) -> list[tuple[R, R]]:
    """Runs and those of the others that have the same seed, by ascending seed; the rest is left out."""
    of_seed = {other.config.seed: other for other in others}
    pairs = [(run, of_seed[run.config.seed]) for run in runs if run.config.seed in of_seed]
    return sorted(pairs, key=lambda pair: pair[0].config.seed)


def interval(values: Iterable[float]) -> tuple[float, float]:
    """Mean of independent values, and half the width of its 95 % interval.

    Student's t; that of equal values is 0, that of a single one, or of values that are not all finite, is not
    a number.
    """
    values = np.fromiter(values, float)
    if len(values) < 2 or not np.isfinite(values).all():
        return float(values.mean()), float("nan")
    error = values.std(ddof=1) / np.sqrt(len(values)) if differ(values) else 0.0
    return float(values.mean()), float(student_t.ppf(0.975, len(values) - 1) * error)


def differ(values: np.ndarray) -> bool:
    """Whether values differ by more than rounding."""
    return np.ptp(values) > 8 * np.finfo(float).eps * np.abs(values).max()


def error_bar(values: Iterable[float], limits: Limits) -> tuple[float, float, float]:
    """Mean of some values, and how far its error bar reaches below and above.

    The bar is the 95 % interval, cut at the least and the largest possible value; what it loses holds no
    possible mean. Of fewer than ``FEWEST`` values it is their range, and a single one has none.
    """
    values = list(values)
    mean, half = interval(values)
    if len(values) < 2:
        return mean, half, half
    if len(values) < FEWEST:
        return mean, mean - min(values), max(values) - mean
    least, most = limits
    below, above = (float(np.maximum(0, np.minimum(half, room))) for room in (mean - least, most - mean))
    return mean, below, above


def with_interval(values: Iterable[float], limits: Limits, form: str = "{:.3f}") -> str:
    """Mean of some values with its 95 % interval; of fewer than ``FEWEST`` as ``over_seeds`` writes them.

    Half its width follows after ±; where that, as written, reaches beyond what is possible, the ends of
    ``error_bar`` in square brackets.
    """
    values = list(values)
    if len(values) < FEWEST:
        return over_seeds(values, form)
    mean, below, above = error_bar(values, limits)
    half = interval(values)[1]
    text, half = form.format(mean), f"{half:.0f}" if half >= 99.5 else f"{half:.2g}"
    if float(text) - float(half) < limits[0] or float(text) + float(half) > limits[1]:
        return f"{text} [{form.format(mean - below)}, {form.format(mean + above)}]"
    return f"{text} ± {half}"


def over_seeds(values: Iterable[float], form: str = "{:.3f}") -> str:
    """Mean of some values, with the lowest and the highest where there are several; a dash if undefined."""
    values = list(values)
    if np.isnan(values).all():
        return "-"
    mean, low, high = (form.format(f(values)) for f in (np.mean, min, max))
    return mean if low == high else f"{mean} ({low} to {high})"
