"""The test of a valley: its level over densities with one mode, its power, and its windows by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from nclib.measures.valley import STEPS, TAILS, WIDTHS, Valley, deepest_valley, valley_p_value


def test_p_value_is_the_larger_of_two_binomial_tests():
    x = np.repeat([0.5, 1.5, 2.5], [30, 12, 20])
    each = [binomtest(12, 12 + n, alternative="less").pvalue for n in (30, 20)]
    assert valley_p_value(Valley(0.0, 1.0, 2.0, 1.0, 1.0), x) == pytest.approx(max(each))
    narrow = [binomtest(12, 12 + n, 1 / 3, alternative="less").pvalue for n in (30, 20)]
    assert valley_p_value(Valley(0.0, 1.3, 2.0, 1.0, 0.5), x) == pytest.approx(max(narrow))
    assert valley_p_value(Valley(0.0, 1.0, 5.0, 1.0, 1.0), x) == 1.0  # nothing on the right


def test_deepest_valley_by_brute_force():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=60), rng.normal(4, 1, 30)])
    low, high = np.quantile(x, [TAILS, 1 - TAILS])
    best = 1.0
    for number in WIDTHS[:3]:
        width = (high - low) / number
        starts = low + width * np.arange(STEPS * (number - 1) + 1) / STEPS
        for i, a in enumerate(starts):
            for j in range(i + STEPS, len(starts)):
                for k in range(j + STEPS, len(starts)):
                    n = [np.sum((x >= s) & (x < s + width)) for s in (a, starts[j], starts[k])]
                    if n[1] < min(n[0], n[2]):
                        best = min(best, binomtest(n[1], n[1] + min(n[0], n[2]), alternative="less").pvalue)
    found = valley_p_value(deepest_valley(x), x)
    assert found <= best * (1 + 1e-9)  # narrower windows may do better still


@pytest.mark.parametrize("draw", ["standard_normal", "standard_exponential", "standard_cauchy", "random"])
def test_level_holds_for_one_mode(draw):
    """400 pairs of samples: the share below a level exceeds it by three standard errors at most."""
    rng = np.random.default_rng(0)
    sample = getattr(rng, draw)
    p = np.array([valley_p_value(deepest_valley(sample(100)), sample(100)) for _ in range(400)])
    for level in (0.01, 0.05, 0.2):
        assert np.mean(p <= level) < level + 3 * (level * (1 - level) / 400) ** 0.5


def test_a_valley_is_found_on_another_sample():
    rng = np.random.default_rng(0)
    for sizes in ((100, 100), (400, 40)):
        x, z = (np.concatenate([rng.normal(size=sizes[0]), rng.normal(6, 1, sizes[1])]) for _ in range(2))
        assert valley_p_value(deepest_valley(x), z) < 0.02
        assert 2 < deepest_valley(x).bottom < 5


def test_equal_numbers_have_no_valley():
    assert deepest_valley(np.ones(9)) is None
    assert valley_p_value(None, np.ones(9)) == 1.0
