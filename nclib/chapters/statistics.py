"""Means over seeds, and their intervals."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.stats import t as student_t

FEWEST = 3  # values that are given an interval: that of two is a dozen times as wide as they lie apart


def interval(values: Iterable[float]) -> tuple[float, float]:
    """Mean of independent values, and half the width of its 95 % interval.

    Student's t; the half width of a single value is not a number.
    """
    values = np.fromiter(values, float)
    if len(values) < 2:
        return float(values.mean()), float("nan")
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(student_t.ppf(0.975, len(values) - 1) * error)


def error_bar(
    values: Iterable[float], least: float = -np.inf, most: float = np.inf
) -> tuple[float, float, float]:
    """Mean of some values, and how far its error bar reaches below and above.

    The bar is the 95 % interval, cut at the least and the largest possible value; of fewer than ``FEWEST``
    values it is their range, and a single one has none.
    """
    values = list(values)
    mean, half = interval(values)
    if len(values) < 2:
        return mean, half, half
    low, high = (min(values), max(values)) if len(values) < FEWEST else (mean - half, mean + half)
    return mean, max(0.0, mean - max(low, least)), max(0.0, min(high, most) - mean)


def with_interval(values: Iterable[float], form: str = "{:.3f}") -> str:
    """Mean of some values with its 95 % interval; of fewer than ``FEWEST`` as ``over_seeds`` writes them."""
    values = list(values)
    if len(values) < FEWEST:
        return over_seeds(values, form)
    mean, half = interval(values)
    return f"{form.format(mean)} ± {half:.1g}"


def over_seeds(values: Iterable[float], form: str = "{:.3f}") -> str:
    """Mean of some values, with the lowest and the highest where there are several; a dash if undefined."""
    values = list(values)
    if np.isnan(values).all():
        return "-"
    mean, low, high = (form.format(f(values)) for f in (np.mean, min, max))
    return mean if low == high else f"{mean} ({low} to {high})"
