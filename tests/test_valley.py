"""The test of a valley: its level over densities with one mode, its power, and its windows by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binomtest, norm

from nclib.measures.valley import COPIES, STEPS, TAILS, WIDTHS, Valley, deepest_valley, valley_p_value


def test_p_value_is_the_larger_of_two_binomial_tests():
    x = np.repeat([0.5, 1.5, 2.5], [30, 12, 20])
    each = [binomtest(12, 12 + n, alternative="less").pvalue for n in (30, 20)]
    assert valley_p_value(Valley(0.0, 1.0, 2.0, 1.0, 1.0), x) == pytest.approx(max(each))
    narrow = [binomtest(12, 12 + n, 1 / 3, alternative="less").pvalue for n in (30, 20)]
    assert valley_p_value(Valley(0.0, 1.3, 2.0, 1.0, 0.5), x) == pytest.approx(max(narrow))
    assert valley_p_value(Valley(0.0, 1.0, 5.0, 1.0, 1.0), x) == 1.0  # nothing on the right


def test_deepest_valley_by_brute_force():
    """All triples of windows, of a sample in which a Gaussian stands for every number."""
    rng = np.random.default_rng(0)
    sample = np.concatenate([rng.normal(size=60), rng.normal(4, 1, 30)])
    spread = 0.9 * min(np.std(sample), np.subtract(*np.quantile(sample, [0.75, 0.25])) / 1.34) * 90**-0.2
    x = np.array([number + spread * norm.ppf((i + 0.5) / COPIES) for number in sample for i in range(COPIES)])
    low, high = np.quantile(x, [TAILS, 1 - TAILS])

    def p(starts, width, middle_width):
        widths = (width, middle_width, width)
        n = [np.sum((x >= s) & (x < s + w)) / COPIES for s, w in zip(starts, widths, strict=True)]
        return beta.cdf(width / (width + middle_width), max(min(n[0], n[2]), 1e-9), n[1] + 1)

    best = 1.0
    for number in WIDTHS[:3]:
        width = (high - low) / number
        starts = low + width * np.arange(STEPS * (number - 1) + 1) / STEPS
        for i, a in enumerate(starts):
            for j in range(i + STEPS, len(starts)):
                for k in range(j + STEPS, len(starts), 2):
                    best = min(best, p((a, starts[j], starts[k]), width, width))
    found = deepest_valley(sample)
    assert p(found[:3], found.width, found.middle_width) <= best * (1 + 1e-9)  # others may do better still


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


def test_windows_are_those_of_the_density_and_not_of_the_sample():
    """Pairs of samples whose halves lie 3.5 widths apart: a valley seen in one is there in the other.

    Windows that hold fewest samples do so in 6 % of pairs (26 of 400), those of a density in 15 % (60 of
    400); 10 % lies two standard errors and more of 300 pairs from both.
    """
    rng = np.random.default_rng(0)
    draw = lambda: np.concatenate([rng.normal(size=50), rng.normal(3.5, 1, 50)])  # noqa: E731
    assert np.mean([valley_p_value(deepest_valley(draw()), draw()) <= 0.025 for _ in range(300)]) > 0.1


def test_equal_numbers_have_no_valley():
    assert deepest_valley(np.ones(9)) is None
    assert valley_p_value(None, np.ones(9)) == 1.0
