"""Distances against all pairs, the ratio against its closed form, clusters against the truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning

from nclib.measures.distances import (
    class_distances,
    coarse_of_fine,
    distances_of,
    msdr,
    msdr_of,
    relative_distances,
    sibling_pairs,
)
from nclib.measures.moments import Moments
from nclib.measures.neighbours import neighbour_purity, purity_by_chance
from nclib.measures.reconstruction import CLUSTERINGS, match_labels, reconstruct_labels

pytestmark = pytest.mark.numeric


def classes(counts, dim=5, seed=0):
    """Gaussian classes of the given sizes with means and widths of their own: h, y."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    means, widths = rng.normal(size=(len(counts), dim)), rng.uniform(0.5, 2, len(counts))
    return means[y] + widths[y, None] * rng.normal(size=(len(y), dim)), y


def all_pairs(h, y):
    """Mean squared distance per pair of classes, one pair of samples after the other."""
    total, pairs = np.zeros((2, y.max() + 1, y.max() + 1))
    for i, j in itertools.permutations(range(len(h)), 2):
        total[y[i], y[j]] += ((h[i] - h[j]) ** 2).sum()
        pairs[y[i], y[j]] += 1
    return total / pairs


def superclasses(gap, n=600, dim=10, seed=0):
    """Three far coarse classes, each of two fine ones ``gap`` apart: h, fine, coarse."""
    rng = np.random.default_rng(seed)
    fine = rng.integers(6, size=n)
    h = rng.normal(size=(n, dim))
    h[np.arange(n), fine % 3] += 50
    h[:, 9] += gap * (fine // 3)
    return h + 1000, fine, fine % 3


class TestDistances:
    @settings(max_examples=10, deadline=None)
    @given(counts=st.lists(st.integers(2, 12), min_size=1, max_size=5), seed=st.integers(0, 999))
    def test_all_pairs(self, counts, seed):
        h, y = classes(counts, seed=seed)
        np.testing.assert_allclose(class_distances(h, y), all_pairs(h, y), rtol=1e-10)

    def test_many_close_classes_keep_their_digits(self):
        y = np.repeat(np.arange(40), 2)  # more classes than cdist expands without being told
        h = 2.0**20 + 2.0**-20 * y[:, None]
        expected = 2.0**-40 * np.subtract.outer(np.arange(40), np.arange(40)) ** 2
        np.testing.assert_allclose(class_distances(h, y), expected, rtol=1e-6, atol=0)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_close_pairs_keep_nine_digits(self, dtype):
        rng = np.random.default_rng(0)
        y, offset = rng.integers(2, size=20_000), 3 + rng.normal(size=8)
        h = (offset + 1e-6 * (y[:, None] + 0.1 * rng.normal(size=(20_000, 8)))).astype(dtype)
        near = h.astype(np.float64) - h[0]  # exact: the two differ by a millionth
        a, b = near[y == 0], near[y == 1]
        expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + a.var(axis=0).sum() + b.var(axis=0).sum()
        assert float(class_distances(h, y)[0, 1]) == pytest.approx(expected, rel=1e-9)

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 9_999), shift=st.floats(-1e4, 1e4))
    def test_rotation_and_translation_do_not_matter(self, seed, shift):
        h, y = classes([5, 6, 7, 4], seed=seed)
        rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(5, 5)))[0]
        moved = h @ rotation + shift
        np.testing.assert_allclose(class_distances(moved, y), class_distances(h, y), rtol=1e-9)

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 9_999), order=st.permutations(range(4)))
    def test_new_names_permute_rows_and_columns(self, seed, order):
        h, y = classes([5, 6, 7, 4], seed=seed)
        renamed = class_distances(h, np.array(order)[y])
        np.testing.assert_allclose(renamed[np.ix_(order, order)], class_distances(h, y), rtol=1e-12)

    def test_all_moments_give_the_same(self):
        h, y = classes([300, 500, 400], dim=40)
        ours, theirs = class_distances(h.astype(np.float32), y), Moments.of(h.astype(np.float32), y)
        np.testing.assert_allclose(ours, distances_of(theirs), rtol=1e-12)

    def test_close_means_far_from_the_origin(self):
        """Of 20,000 samples at 2^20: sums of these would lose six digits of a gap of 2^-12."""
        rng = np.random.default_rng(0)
        y = np.arange(20_000) % 2
        h = np.round(rng.normal(size=(20_000, 3)) * 2**10) / 2**24 + 2.0**-12 * y[:, None]  # exact in both
        moved = h + 2**20
        far = class_distances(moved, y)
        torch.testing.assert_close(far, class_distances(h, y), rtol=1e-5, atol=0)
        torch.testing.assert_close(distances_of(Moments.of(moved, y)), far, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("value", [1.0, 0.1])
    def test_points_have_no_width(self, value):
        fine = np.repeat(np.arange(4), 30)
        h = np.outer(value * np.array([1, 3, 7, 7])[fine], np.ones(4))
        distances = class_distances(h, fine)
        assert not distances.diagonal().any() and distances[0, 1] > 0
        assert msdr(h, fine, fine // 2).isinf().tolist() == [True, True, False, False]
        assert torch.isnan(relative_distances(distances).diagonal()).all()

    def test_symmetry_and_dtype(self):
        distances = class_distances(*(torch.tensor(a) for a in classes([5, 6, 7])))
        assert distances.dtype == torch.float64
        torch.testing.assert_close(distances, distances.T, rtol=0, atol=0)

    def test_two_samples_are_needed(self):
        with pytest.raises(ValueError, match="needs 2 samples or more; class 1 has 1"):
            class_distances(*classes([4, 1, 3]))

    def test_refuses_what_is_not_finite(self):
        h, y = classes([3, 3])
        h[4, 0] = np.nan
        with pytest.raises(ValueError, match="row 4 "):
            class_distances(h, y)


class TestRatio:
    def test_closed_form_of_gaussians(self):
        # means a apart, variances s_i^2 in dim directions: D_ij = dim (s_i^2 + s_j^2) + a^2
        rng = np.random.default_rng(0)
        fine = np.arange(60_000) % 2
        width = np.array([1.0, 2.0])
        h = width[fine, None] * rng.normal(size=(60_000, 4))
        h[:, 0] += 3.0 * fine
        between = 4 * (1 + 4) + 9
        expected = [between / (2 * 4 * 1), between / (2 * 4 * 4)]
        np.testing.assert_allclose(msdr(h, fine, 0 * fine), expected, rtol=0.02)

    def test_one_on_average_where_siblings_share_a_distribution(self):
        rng = np.random.default_rng(0)
        fine = np.repeat(np.arange(3), [4, 8, 30])  # small classes: a biased diagonal would show
        ratios = [msdr(rng.normal(size=(42, 300)), fine, 0 * fine) for _ in range(300)]
        np.testing.assert_allclose(np.mean(ratios, axis=0), 1, atol=0.01)

    def test_averages_over_siblings_only(self):
        h, fine = classes([6, 7, 8, 9, 5])
        coarse = np.array([0, 1, 0, 0, 1])
        d = all_pairs(h, fine)
        expected = [
            (d[0, 2] + d[0, 3]) / 2 / d[0, 0],
            d[1, 4] / d[1, 1],
            (d[2, 0] + d[2, 3]) / 2 / d[2, 2],
            (d[3, 0] + d[3, 2]) / 2 / d[3, 3],
            d[4, 1] / d[4, 4],
        ]
        np.testing.assert_allclose(msdr(h, fine, coarse[fine]), expected, rtol=1e-10)
        np.testing.assert_allclose(msdr_of(Moments.of(h, fine), coarse), expected, rtol=1e-10)

    def test_only_child_is_not_a_number(self):
        h, fine = classes([6, 7, 8])
        assert msdr(h, fine, np.array([0, 1, 0])[fine]).isnan().tolist() == [False, True, False]

    def test_distances_follow_from_merged_moments(self):
        h, y = classes([9, 20, 4, 6])
        group = np.array([0, 1, 1, 0])
        merged = distances_of(Moments.of(h, y).grouped(group))
        np.testing.assert_allclose(merged, all_pairs(h, group[y]), rtol=1e-10)

    def test_one_fine_class_in_two_coarse_ones(self):
        with pytest.raises(ValueError, match=r"fine class 1 .* lies in \[0, 2\]"):
            coarse_of_fine([0, 1, 1, 2], [0, 0, 2, 2])
        with pytest.raises(ValueError, match="class 1 has 0"):
            coarse_of_fine([0, 2], [0, 0])


class TestRelative:
    def test_closed_form_of_gaussians(self):
        # means a apart, variances s_i^2 in dim directions: 1 + a^2 / (dim (s_1^2 + s_2^2))
        rng = np.random.default_rng(0)
        y, width = np.arange(60_000) % 3, np.array([1.0, 2.0, 0.5])
        h = width[y, None] * rng.normal(size=(60_000, 4))
        h[y == 1, 0] += 3.0
        expected = [[1, 1 + 9 / 20, 1], [1 + 9 / 20, 1, 1 + 9 / 17], [1, 1 + 9 / 17, 1]]
        np.testing.assert_allclose(relative_distances(class_distances(h, y)), expected, rtol=0.01)

    def test_one_on_average_where_classes_share_a_distribution(self):
        rng = np.random.default_rng(0)
        y = np.repeat(np.arange(3), [4, 8, 30])  # small classes: a biased diagonal would show
        found = [relative_distances(class_distances(rng.normal(size=(42, 300)), y)) for _ in range(200)]
        np.testing.assert_allclose(torch.stack(found).mean(dim=0), 1, atol=0.005)

    def test_siblings_are_others_of_the_same_label(self):
        assert sibling_pairs([0, 1, 0]).tolist() == [[False, False, True], [False] * 3, [True, False, False]]

    def test_scale_does_not_matter(self):
        h, y = classes([5, 6, 7])
        np.testing.assert_allclose(
            relative_distances(class_distances(1e-4 * h, y)), relative_distances(class_distances(h, y))
        )


class TestNeighbours:
    def test_brute_force(self):
        h, fine = classes([20, 30, 25, 40])
        coarse = fine % 2
        apart = cdist(h, h) + np.where(coarse[:, None] == coarse, 0, np.inf)
        np.fill_diagonal(apart, np.inf)
        nearest = np.argsort(apart, axis=1)[:, :7]
        expected = (fine[nearest] == fine[:, None]).mean(axis=1)
        np.testing.assert_allclose(neighbour_purity(h, fine, coarse, k=7), expected)
        np.testing.assert_allclose(neighbour_purity(torch.tensor(h) + 1e4, fine, coarse, k=7), expected)

    def test_one_where_classes_are_apart(self):
        h, fine, coarse = superclasses(gap=20)
        assert (neighbour_purity(h, fine, coarse) == 1).all()

    def test_chance_where_they_are_not(self):
        fine = np.repeat(np.arange(3), [300, 100, 200])
        coarse = fine // 2
        chance = purity_by_chance(fine, coarse)
        assert chance[[0, 300, 599]] == pytest.approx([299 / 399, 99 / 399, 1])
        rng = np.random.default_rng(0)
        found = [neighbour_purity(rng.normal(size=(600, 4)), fine, coarse).mean() for _ in range(20)]
        assert np.mean(found) == pytest.approx(chance.mean(), abs=0.01)

    def test_chance_of_labels_that_several_super_classes_share(self):
        fine, coarse = np.array([0, 0, 0, 1, 0, 1, 1]), np.array([0, 0, 0, 0, 1, 1, 1])
        expected = [2 / 3] * 3 + [0, 0, 1 / 2, 1 / 2]  # of the others in the super-class, those of the label
        assert purity_by_chance(fine, coarse) == pytest.approx(expected)

    def test_a_sample_is_not_its_own_neighbour(self):
        h = np.array([[0.0], [0.0], [1.0], [1.0]])  # twins of different classes
        assert neighbour_purity(h, [0, 1, 0, 1], np.zeros(4), k=1).tolist() == [0, 0, 0, 0]

    @pytest.mark.parametrize("k", [0, 3])
    def test_refuses_more_neighbours_than_there_are(self, k):
        with pytest.raises(ValueError, match=f"k={k}: choose 1 to 2, the smallest coarse class has 3"):
            neighbour_purity(np.eye(7), [0, 1, 0, 2, 2, 2, 3], [0, 0, 0, 1, 1, 1, 1], k=k)

    def test_swapped_labels_are_noticed(self):
        with pytest.raises(ValueError, match="the order is h, fine, coarse"):
            neighbour_purity(np.eye(6), [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 2], k=1)


class TestReconstruction:
    @pytest.mark.parametrize("method", CLUSTERINGS)
    def test_separated_clusters_are_found_exactly(self, method):
        h, fine, coarse = superclasses(gap=20, n=240)
        pseudo = reconstruct_labels(h, coarse, method=method)
        assert pseudo.dtype == np.int64
        np.testing.assert_array_equal(pseudo // 2, coarse)
        assert match_labels(pseudo, fine).accuracy == 1

    @pytest.mark.parametrize("method", CLUSTERINGS)
    def test_one_blob_gives_chance(self, method):
        h, fine, coarse = superclasses(gap=0, n=600)
        accuracy = match_labels(reconstruct_labels(h, coarse, method=method), fine).accuracy
        assert 0.5 <= accuracy < 0.6

    @pytest.mark.parametrize("method", CLUSTERINGS)
    def test_copies_of_too_few_samples(self, method):
        h = np.repeat(np.eye(2, 20), 30, axis=0)
        with pytest.warns(ConvergenceWarning, match="distinct"):
            reconstruct_labels(h, np.zeros(60, int), k=3, method=method)

    def test_distance_and_units_do_not_matter(self):
        h, _, coarse = superclasses(gap=5)
        moved = reconstruct_labels(1e-3 * h + 7 * coarse[:, None], coarse, method="kmeans")
        accuracy = match_labels(moved, reconstruct_labels(h, coarse, method="kmeans")).accuracy
        assert accuracy == 1

    def test_clusters_per_class_shift_the_numbers(self):
        h, _, coarse = superclasses(gap=20)
        pseudo = reconstruct_labels(torch.tensor(h), coarse, k=[2, 1, 3], method="kmeans")
        found = [sorted(set(pseudo[coarse == c].tolist())) for c in range(3)]
        assert found == [[0, 1], [2], [3, 4, 5]]

    @pytest.mark.parametrize("method", CLUSTERINGS)
    def test_a_seed_gives_one_answer(self, method):
        h, _, coarse = superclasses(gap=1, n=120)
        one, two = (reconstruct_labels(h, coarse, method=method, seed=4) for _ in "ab")
        np.testing.assert_array_equal(one, two)

    @pytest.mark.parametrize("method", CLUSTERINGS)
    def test_one_cluster_is_the_class(self, method):
        h, _, coarse = superclasses(gap=1, n=60)
        np.testing.assert_array_equal(reconstruct_labels(h, coarse, k=1, method=method), coarse)

    def test_a_mixture_tells_clusters_of_other_widths_apart(self):
        rng = np.random.default_rng(0)
        fine = (np.arange(600) % 6 == 0).astype(int)
        h = np.where(fine[:, None], [9.0, 0.0], 0.0) + np.where(fine, 0.3, 5.0)[:, None] * rng.normal(
            size=(600, 2)
        )
        found = {
            method: match_labels(reconstruct_labels(h, 0 * fine, method=method), fine).accuracy
            for method in ("kmeans", "pca-gmm")
        }
        assert found["kmeans"] < 0.9 < 0.97 < found["pca-gmm"]

    def test_a_graph_tells_rings_apart(self):
        rng = np.random.default_rng(0)
        fine, angle = np.arange(600) % 2, rng.uniform(0, 2 * np.pi, 600)
        h = (1 + 3 * fine[:, None]) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        found = {
            method: match_labels(reconstruct_labels(h, 0 * fine, method=method), fine).accuracy
            for method in ("kmeans", "spectral")
        }
        assert found["kmeans"] < 0.7
        assert found["spectral"] == 1

    @pytest.mark.parametrize("method", CLUSTERINGS)
    def test_few_samples(self, method):
        h = np.repeat([[0.0, 0.0], [9.0, 9.0]], 3, axis=0) + np.arange(6)[:, None] / 10
        found = reconstruct_labels(h, np.zeros(6, dtype=int), method=method)
        assert match_labels(found, [0, 0, 0, 1, 1, 1]).accuracy == 1

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"method": "magic"}, "'magic'; choose one of kmeans, pca-gmm, spectral, tsne-kmeans"),
            ({"k": 0}, "k=0: expected a whole number, 1 or more"),
            ({"k": [2, 2]}, "one for each of 3 coarse classes; got"),
            ({"k": [2, 2, 2, 2]}, r"one for each of 3 coarse classes; got \[2, 2, 2, 2\]$"),
            ({"k": 500}, "coarse class 0 has .* samples for 500 clusters"),
        ],
    )
    def test_refusals(self, options, message):
        h, _, coarse = superclasses(gap=1)
        with pytest.raises(ValueError, match=message):
            reconstruct_labels(h, coarse, **options)

    def test_coarse_labels_from_one_on(self):
        h, _, coarse = superclasses(gap=1)
        with pytest.raises(ValueError, match="Labels count from 0, and 1 of them up to 3 have no samples"):
            reconstruct_labels(h, coarse + 1, k=[2, 2, 2])

    @pytest.mark.parametrize("method", ["tsne-kmeans", "pca-gmm"])
    def test_a_class_that_has_no_clusters_is_named(self, method):
        h = np.concatenate([np.random.default_rng(0).normal(size=(20, 2)), np.ones((4, 2))])
        said = {"tsne-kmeans": "t-SNE needs at least 5 samples; got 4: choose method='kmeans'"}
        with pytest.raises(ValueError, match=f"coarse class 1: {said.get(method, 'principal components')}"):
            reconstruct_labels(h, np.repeat([0, 1], [20, 4]), method=method)


class TestMatching:
    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 9_999), names=st.integers(1, 5), noise=st.floats(0, 1))
    def test_best_of_all_permutations(self, seed, names, noise):
        rng = np.random.default_rng(seed)
        true = rng.integers(names, size=50)
        pseudo = np.where(rng.random(50) < noise, rng.integers(names, size=50), names - 1 - true)
        best = max(np.mean(np.array(order)[pseudo] == true) for order in itertools.permutations(range(names)))
        match = match_labels(pseudo, true)
        assert match.accuracy == pytest.approx(best)
        assert match.accuracy == pytest.approx(np.mean(match.labels == true))

    def test_more_clusters_than_classes(self):
        match = match_labels([0, 0, 0, 1, 1, 2], [1, 1, 1, 0, 0, 0])
        assert match.labels.tolist() == [1, 1, 1, 0, 0, -1]
        assert match.accuracy == pytest.approx(5 / 6)

    def test_fewer_clusters_than_classes(self):
        match = match_labels([0, 0, 1, 1], [2, 2, 0, 1])
        assert match.labels[:2].tolist() == [2, 2]
        assert match.accuracy == pytest.approx(3 / 4)

    def test_lengths_must_agree(self):
        with pytest.raises(ValueError, match="one per sample"):
            match_labels([0, 1], [0, 1, 1])


def test_purity_needs_a_neighbour():
    with pytest.raises(ValueError, match="a coarse class has a single sample"):
        neighbour_purity(np.eye(3), [0, 1, 2], [0, 0, 1])
