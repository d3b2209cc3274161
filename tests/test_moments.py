"""Class moments against sums over samples, and against each other: merged, split, grouped."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from nclib.measures import arrays, moments
from nclib.measures.collapse import collapse_metrics
from nclib.measures.moments import ClassMoments, Moments

pytestmark = pytest.mark.numeric

NAMES = ("counts", "means", "scatter", "projected")


class LargestArray(TorchDispatchMode):
    """Watches the size of every storage that torch operations return, slices of inputs apart."""

    nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in args if isinstance(x, torch.Tensor)}
        if isinstance(out, torch.Tensor) and out.untyped_storage().data_ptr() not in given:
            self.nbytes = max(self.nbytes, out.untyped_storage().nbytes())
        return out


def blobs(counts, dim=6, offset=0.0, seed=0):
    """Correlated Gaussian classes of the given sizes, shuffled: h (N, D) float64, y (N,)."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    mix = rng.normal(size=(dim, dim))
    h = rng.normal(size=(len(counts), dim))[y] * 3 + rng.normal(size=(len(y), dim)) @ mix
    return h + offset, y


def textbook(h, y):
    """Moments by the definitions, class by class, with the D x D covariance."""
    classes = range(y.max() + 1)
    means = np.stack([h[y == c].mean(0) for c in classes])
    z = h - means[y]
    within = np.cov(z.T, bias=True)
    axes = means - means.mean(0)
    return Moments(
        torch.tensor([int((y == c).sum()) for c in classes]),
        torch.tensor(means),
        torch.tensor([(z[y == c] ** 2).sum(1).mean() for c in classes]),
        torch.tensor(within if len(means) > h.shape[1] else axes @ within @ axes.T),
    )


def assert_same(left, right, rtol=1e-10):
    for name in NAMES:
        torch.testing.assert_close(getattr(left, name), getattr(right, name), rtol=rtol, atol=rtol, msg=name)


class TestMoments:
    def test_definitions(self):
        h, y = blobs([30, 7, 12, 2])
        assert_same(Moments.of(h, y), textbook(h, y))

    def test_chunks_do_not_matter(self, monkeypatch):
        h, y = blobs([30, 7, 12, 2])
        monkeypatch.setattr(arrays, "CHUNK", 13)
        assert_same(Moments.of(h, y), textbook(h, y))

    @pytest.mark.parametrize("counts", [[300, 70, 120, 20], [100, 70, 90, 20, 80, 60, 90]])
    def test_parts_in_threads(self, monkeypatch, three_threads, counts):
        h, y = blobs(counts)
        monkeypatch.setattr(arrays, "PART", 100)
        assert_same(Moments.of(h, y), textbook(h, y))
        assert_same(Moments.of(h, y), Moments.of(h, y), 0)

    def test_float32_features_are_measured_in_float64(self):
        h, y = blobs([40, 50], offset=100.0)
        h = h.astype(np.float32)
        assert_same(Moments.of(torch.from_numpy(h), y), textbook(h.astype(np.float64), y), 1e-9)

    def test_far_from_the_origin_no_digit_is_lost(self):
        h, y = blobs([40, 50, 60])
        h = np.round(h * 2**20) / 2**20  # exact also after the shift by 2**30
        near, far = Moments.of(h, y), Moments.of(h + 2.0**30, y)
        torch.testing.assert_close(far.scatter, near.scatter, rtol=1e-9, atol=0)
        torch.testing.assert_close(far.projected, near.projected, rtol=1e-5, atol=1e-5)
        near, far = (collapse_metrics(x, y, np.eye(3, h.shape[1]))["nc1"] for x in (h, h + 2.0**30))
        # means are rounded by eps * 2**30 = 2e-7 beside gaps of about 3; 200 draws: at most 5.5e-7
        assert far == pytest.approx(near, rel=2e-6)

    def test_no_large_array_is_made(self, monkeypatch):
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # what other threads make is not seen
        h = torch.randn(6_000, 2_048, generator=torch.Generator().manual_seed(0))
        with LargestArray() as largest:
            Moments.of(h, torch.arange(6_000) % 10)
        assert 2**20 < largest.nbytes < 2_048 * 2_048 * 8 / 4

    @pytest.mark.parametrize(("classes", "dim"), [(2, 16), (6, 16), (7, 16), (16, 16), (17, 16), (300, 16)])
    def test_few_and_many_classes(self, classes, dim):
        h, y = blobs(2 + np.arange(classes) % 5, dim)
        assert_same(Moments.of(h, y), textbook(h, y), 1e-9)
        assert_same(ClassMoments.of(h, y).summary(), textbook(h, y), 1e-9)

    def test_thousand_classes_in_blocks_of_columns(self, monkeypatch):
        monkeypatch.setattr(moments, "GRAM_COLUMNS", 7)
        h, y = blobs(1 + np.arange(1_000) % 3, 32)
        assert_same(Moments.of(h, y), textbook(h, y), 1e-9)

    def test_tensors_round_trip(self):
        m = Moments.of(*blobs([5, 6]))
        assert_same(Moments.from_tensors(m.tensors()), m, 0)

    def test_empty_class_is_named(self):
        with pytest.raises(ValueError, match=r"3 classes needs 1 samples or more; class 1 has 0"):
            Moments.of(np.zeros((2, 4)), [0, 2])
        with pytest.raises(ValueError, match=r"class 0 has 0: number classes from 0 on.*numpy\.unique"):
            Moments.of(np.zeros((2, 4)), [1, 2])


class TestGrouped:
    @settings(max_examples=20, deadline=None)
    @given(
        counts=st.lists(st.integers(1, 40), min_size=3, max_size=8),
        coarse=st.integers(1, 3),
        seed=st.integers(0, 99),
    )
    def test_equals_moments_with_coarse_labels(self, counts, coarse, seed):
        h, y = blobs(counts, seed=seed)
        group = np.random.default_rng(seed).permutation(np.arange(len(counts)) % coarse)
        assert_same(Moments.of(h, y).grouped(group), textbook(h, group[y]), 1e-9)

    @pytest.mark.parametrize(("classes", "coarse"), [(40, 20), (40, 8), (40, 3), (8, 3)])
    def test_across_the_dimension(self, classes, coarse):
        h, y = blobs(1 + np.arange(classes) % 4, dim=8)
        group = np.random.default_rng(1).permutation(np.arange(classes) % coarse)
        assert_same(Moments.of(h, y).grouped(group), textbook(h, group[y]), 1e-9)

    def test_of_single_classes_changes_their_order_only(self):
        h, y = blobs([9, 20, 4])
        order = np.array([2, 0, 1])
        assert_same(Moments.of(h, y).grouped(order), Moments.of(h, order[y]))

    @pytest.mark.parametrize(("group", "message"), [([0, 2, 2], "class 1 has 0"), ([0, 1], "one per sample")])
    def test_refuses_gaps_and_other_lengths(self, group, message):
        with pytest.raises(ValueError, match=message):
            Moments.of(*blobs([5, 6, 7])).grouped(group)


class TestAccumulator:
    def test_covariance(self):
        h, y = blobs([30, 7, 12])
        z = h - np.stack([h[y == c].mean(0) for c in range(3)])[y]
        np.testing.assert_allclose(ClassMoments.of(h, y).within, np.cov(z.T, bias=True), rtol=1e-10)

    def test_stream_of_batches_equals_the_whole(self):
        h, y = blobs([30, 7, 12, 1])
        m = ClassMoments(4, 6)
        for rows in np.array_split(np.arange(50), 9):
            assert m.update(h[rows], y[rows]) is m
        assert_same(m.summary(), textbook(h, y))

    @settings(max_examples=15, deadline=None)
    @given(
        cuts=st.lists(st.integers(0, 50), max_size=6),
        seed=st.integers(0, 99),
    )
    def test_any_split_in_any_order_equals_the_whole(self, cuts, seed):
        h, y = blobs([30, 7, 12, 1], seed=seed)
        rng = np.random.default_rng(seed)
        parts = np.split(rng.permutation(50), sorted(cuts))
        accumulators = [ClassMoments(4, 6)] + [ClassMoments.of(h[p], y[p], 4) for p in parts if len(p)]
        while len(accumulators) > 1:  # any two of them, so that merges form any tree
            one, other = (accumulators.pop(rng.integers(len(accumulators))) for _ in range(2))
            accumulators.append(one.merge(other))
        assert_same(accumulators[0].summary(), textbook(h, y))

    def test_long_stream_in_constant_memory(self):
        m = ClassMoments(4, 8)
        size = sum(tensor.nbytes for tensor in vars(m).values())
        y = np.repeat(np.arange(4), 25_000)
        steps = np.arange(25_000.0) - 12_499.5  # mean 0, variance (25_000^2 - 1) / 12
        for batch in range(10):
            h = np.zeros((100_000, 8))
            h[:, 0], h[:, 1] = np.tile(steps, 4), 100 * y + batch
            m.update(h, y)
        assert sum(tensor.nbytes for tensor in vars(m).values()) == size
        assert m.counts.tolist() == [250_000] * 4
        variances = [(25_000**2 - 1) / 12, 99 / 12, *[0] * 6]
        np.testing.assert_allclose(m.within, np.diag(variances), rtol=1e-12, atol=1e-6)
        np.testing.assert_allclose(m.means[:, 1], 100 * np.arange(4) + 4.5, rtol=1e-14)

    def test_merges_in_any_order(self):
        h, y = blobs([30, 7, 12, 1])
        parts = np.split(np.argsort(y, kind="stable"), [4, 31, 45])  # some classes absent in each
        for order in itertools.permutations(range(4)):
            m = ClassMoments(4, 6)
            for part in order:
                m.merge(ClassMoments.of(h[parts[part]], y[parts[part]], 4))
            assert_same(m.summary(), textbook(h, y))

    def test_merge_leaves_the_other_as_it_was(self):
        h, y = blobs([8, 8])
        one, other = ClassMoments.of(h, y), ClassMoments.of(h + 1, y)
        one.merge(other).merge(other)
        assert_same(other.summary(), textbook(h + 1, y))
        assert one.counts.tolist() == [24, 24]

    def test_distant_parts_merge_without_loss(self):
        h, y = blobs([400, 300], offset=1e7)
        m = ClassMoments(2, 6)
        for rows in np.array_split(np.arange(700), 50):
            m.update(h[rows], y[rows])
        torch.testing.assert_close(m.scatter, textbook(h, y).scatter, rtol=1e-9, atol=0)

    def test_empty_class_waits_until_the_summary(self):
        m = ClassMoments(3, 6).update(*blobs([5, 5]))
        assert m.counts.tolist() == [5, 5, 0]
        assert m.means[2].count_nonzero() == 0
        with pytest.raises(ValueError, match="class 2 has 0"):
            m.summary()

    def test_refuses_other_dimensions(self):
        with pytest.raises(ValueError, match="dimension 3 here; got 6"):
            ClassMoments(2, 3).update(*blobs([5, 5]))
        with pytest.raises(ValueError, match=r"got \(2, 3\) and \(2, 4\)"):
            ClassMoments(2, 3).merge(ClassMoments(2, 4))

    def test_refuses_labels_out_of_range(self):
        with pytest.raises(ValueError, match="class count 2; label 0 is 2"):
            ClassMoments(2, 3).update(np.zeros((1, 3)), [2])
