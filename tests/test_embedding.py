"""t-SNE keeps neighbours together, depends on the seed only, and takes few samples."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from nclib.errors import MissingPackage
from nclib.measures.embedding import tsne

pytestmark = pytest.mark.numeric


def two_clusters(n=120, dim=20):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    return rng.normal(size=(n, dim)) + 8 * y[:, None], y


def test_neighbours_stay_neighbours():
    h, y = two_clusters()
    points = tsne(h)
    assert points.shape == (120, 2)
    assert points.dtype == np.float64
    nearest = NearestNeighbors(n_neighbors=10).fit(points).kneighbors(return_distance=False)
    assert (y[nearest] == y[:, None]).mean() > 0.99


def test_a_seed_gives_one_embedding():
    h = np.random.default_rng(1).normal(size=(1_100, 10))  # enough for approximate neighbours
    np.testing.assert_array_equal(tsne(h, seed=3), tsne(h, seed=3))


def test_distance_from_the_origin_does_not_matter():
    half = np.round(two_clusters()[0][:64] * 1024) / 1024
    h = np.concatenate([half, -half])  # mean exactly zero: t-SNE would amplify any rounding
    np.testing.assert_array_equal(tsne(h), tsne(h + 2.0**20))


@pytest.mark.parametrize("scale", [2.0**-400, 2.0**60, 2.0**190])
def test_units_do_not_matter(scale):
    """Near the least that differs, beyond float32's squares, near the most that is accepted."""
    h, _ = two_clusters()
    np.testing.assert_array_equal(tsne(h * scale), tsne(h * 2.0**50))


def test_few_samples_lower_the_perplexity(recwarn):
    assert np.isfinite(tsne(np.random.default_rng(0).normal(size=(5, 3)))).all()
    assert not recwarn
    with pytest.raises(ValueError, match="at least 5 samples; got 4"):
        tsne(np.eye(4))


def test_one_feature_is_embedded_as_two_of_which_one_is_constant():
    h = two_clusters()[0][:, :1]
    points = tsne(h)
    np.testing.assert_array_equal(points, tsne(np.pad(h, ((0, 0), (0, 1)))))
    assert points.shape == (120, 2) and np.isfinite(points).all()


def test_refuses_what_is_not_finite():
    with pytest.raises(ValueError, match="row 2 "):
        tsne(np.array([[0.0], [1.0], [np.nan], [2.0], [3.0]]))


def test_a_random_start_depends_on_the_seed_and_keeps_neighbours():
    h, y = two_clusters()
    first, again, other = (tsne(h, seed=seed, initialization="random") for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1
    nearest = NearestNeighbors(n_neighbors=10).fit(other).kneighbors(return_distance=False)
    assert (y[nearest] == y[:, None]).mean() > 0.99


def test_refuses_an_unknown_start():
    with pytest.raises(ValueError, match="'origin'; choose one of pca, random"):
        tsne(np.eye(8), initialization="origin")


def test_a_start_in_the_plane_keeps_the_arrangement():
    h, y = two_clusters()
    first = tsne(h)
    turned = first @ np.array([[0.0, 1.0], [-1.0, 0.0]])  # by a quarter
    after = tsne(h, initialization=turned)

    def axis(points):
        gap = points[y == 1].mean(axis=0) - points[y == 0].mean(axis=0)
        return gap / np.linalg.norm(gap)

    assert axis(after) @ axis(turned) > 0.9
    assert abs(axis(after) @ axis(first)) < 0.4
    np.testing.assert_array_equal(tsne(h, initialization=turned * 1024), after)


@pytest.mark.parametrize("start", [np.zeros((119, 2)), np.zeros((120, 3)), np.full((120, 2), np.nan)])
def test_refuses_a_start_that_does_not_fit(start):
    with pytest.raises(ValueError, match="initialization"):
        tsne(two_clusters()[0], initialization=start)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    with pytest.raises(MissingPackage, match="pip install openTSNE"):
        tsne(two_clusters()[0])
