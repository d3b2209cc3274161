"""Fine labels shuffled inside their super-class: no measure of structure may report any.

Given the features, shuffled labels are a random partition, so that mean and spread of every measure are
known. Bounds are twenty standard deviations where these depend on the features (Chebyshev: 1 in 400 at
worst), five where they do not. Worst of 200 draws, in units of the bound, beside each.
"""

from __future__ import annotations

import numpy as np
import pytest

import nclib
from nclib.measures.moments import Moments
from nclib.measures.neighbours import purity_by_chance

PAIRS, SIZE = 3, 150  # super-classes of two fine classes, samples of each fine class
DRAWS = 20


@pytest.fixture(scope="module")
def structured():
    """Features of clear structure, unequal widths and a falling spectrum; fine and coarse labels."""
    rng = np.random.default_rng(0)
    fine = np.repeat(np.arange(2 * PAIRS), SIZE)
    spectrum = np.arange(1, 9) ** -0.75
    h = rng.normal(size=(len(fine), 8)) * spectrum * (1 + fine % 2)[:, None]
    h[:, 0] += 6 * (fine % 2)
    return h + 20 * np.eye(8)[fine // 2], fine, fine // 2


@pytest.fixture(scope="module")
def shuffles(structured):
    _, fine, coarse = structured
    rng = np.random.default_rng(1)
    found = []
    for _ in range(DRAWS):
        labels = fine.copy()
        for c in range(PAIRS):
            labels[coarse == c] = rng.permutation(fine[coarse == c])
        found.append(labels)
    return found


# T has the mean 1 and the variance 2 / f, f >= 1 degrees of freedom
OF_T = 20 * 2**0.5


def test_explained_variance(structured, shuffles):
    h, fine, coarse = structured
    bound = OF_T / (2 * SIZE)  # the share is nearly (T - 1) / n; worst 0.39
    assert (nclib.explained_variance(h, fine, coarse) > 5 * bound).all()
    for labels in shuffles:
        assert (nclib.explained_variance(h, labels, coarse).abs() < bound).all()


def test_relative_distances_and_msdr(structured, shuffles):
    h, fine, _ = structured
    bound = OF_T / SIZE  # D(c, c') over the mean of both widths is 1 + (T - 1) / n_c; worst 0.40
    pairs = np.arange(0, 2 * PAIRS, 2), np.arange(1, 2 * PAIRS, 2)

    def excess(labels):
        return nclib.relative_distances(nclib.class_distances(h, labels))[pairs] - 1

    assert (excess(fine) > 5 * bound).all()
    for labels in shuffles:
        assert (excess(labels).abs() < bound).all()


def test_p_values(structured, shuffles):
    h, fine, coarse = structured
    p = np.array([nclib.explained_variance_test(h, labels, coarse, 199).p.numpy() for labels in shuffles])
    closed = np.array(
        [
            nclib.explained_variance_null(Moments.of(h, labels), np.arange(2 * PAIRS) // 2).p.numpy()
            for labels in shuffles
        ]
    )
    assert (nclib.explained_variance_test(h, fine, coarse, 199).p == 1 / 200).all()
    for found in (p, closed):  # 60 of them: 3 expected up to 0.05, five standard deviations are 8.4 more
        assert (found <= 0.05).sum() <= 11


def test_neighbours(structured, shuffles):
    h, fine, coarse = structured
    k = 10
    # each of N k pairs agrees or not; pairs that share a sample are uncorrelated, a pair may count twice
    bound = 5 * (0.25 * 2 / (len(h) * k)) ** 0.5  # worst 0.45

    def excess(labels):
        return (nclib.neighbour_purity(h, labels, coarse, k) - purity_by_chance(labels, coarse)).mean()

    assert excess(fine) > 5 * bound
    for labels in shuffles:
        assert abs(excess(labels)) < bound


@pytest.mark.parametrize("method", ["kmeans", "pca-gmm"])
def test_reconstruction(structured, shuffles, method):
    h, fine, coarse = structured
    pseudo = nclib.reconstruct_labels(h, coarse, method=method)
    # agreement of a partition with a random one of equal halves is hypergeometric; the better naming of each
    # pair adds the mean of the absolute value; worst of both 0.37
    deviation = 0.5 / (2 * SIZE - 1) ** 0.5
    bound = 0.5 + 5 * deviation
    assert nclib.match_labels(pseudo, fine).accuracy > 0.9
    for labels in shuffles:
        assert nclib.match_labels(pseudo, labels).accuracy < bound
