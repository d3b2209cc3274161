"""Features in shards: what comes out does not depend on how samples are shared out among files."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from fractions import Fraction
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

import nclib
from nclib.errors import DataError, NclibError
from nclib.storage import feature_files, shards, tensor_files
from nclib.storage.files import Damaged, write_tensors

pytestmark = pytest.mark.numeric

N, DIM, CLASSES = 60, 3, 4
REACH = 1000
RNG = np.random.default_rng(0)
H = RNG.integers(-REACH, REACH, size=(N, DIM), endpoint=True)  # whole numbers: sums in Fraction are exact
Y = RNG.permutation(np.repeat(np.arange(CLASSES), [20, 7, 30, 3]))
BAD = np.where(np.arange(N)[:, None] == 30, np.nan, H)
IDS = [f"image {i}" * (i % 3) for i in range(N)]
NAMES = ["ant", "bee", "cat", "dog", "none"]
METADATA = {"format": feature_files.FORMAT, "version": "1"}


def written(folder, cuts=(), **parts):
    """Shards of the samples above, cut at some rows."""
    folder.mkdir(exist_ok=True)
    for number, (a, b) in enumerate(pairwise([0, *cuts, N])):
        nclib.save_features(folder / f"{number:03}.safetensors", H[a:b], Y[a:b], **parts)
    return folder


def complete(folder, cuts=()):
    """The same with all that a feature file may hold."""
    folder.mkdir(exist_ok=True)
    for number, (a, b) in enumerate(pairwise([0, *cuts, N])):
        rows = slice(a, b)
        path = folder / f"{number:03}.safetensors"
        nclib.save_features(path, H[rows], Y[rows], np.eye(5)[Y[rows]], IDS[rows], NAMES)
    return nclib.FeatureShards(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All samples in one file."""
    return complete(tmp_path_factory.mktemp("whole"))


@cache
def exact_moments():
    """Class means, scatter and pooled covariance in rational arithmetic, rounded once."""
    rows = [[tuple(map(Fraction, h.tolist())) for h in H[c == Y]] for c in range(CLASSES)]
    means = [[sum(column) / len(x) for column in zip(*x, strict=True)] for x in rows]
    residuals = [
        [[a - b for a, b in zip(h, mean, strict=True)] for h in x]
        for x, mean in zip(rows, means, strict=True)
    ]
    scatter = [sum(a * a for z in x for a in z) / len(x) for x in residuals]
    pooled = [z for x in residuals for z in x]
    within = [[sum(z[i] * z[j] for z in pooled) / N for j in range(DIM)] for i in range(DIM)]
    return [np.array(values, dtype=float) for values in (means, scatter, within)]


@settings(max_examples=10)
@given(
    cuts=st.lists(st.integers(1, N - 1), unique=True, max_size=5).map(sorted),
    block=st.sampled_from([DIM, 7 * DIM, 2**24]),
    seed=st.integers(0, 9),
    count=st.integers(1, N + 5),
)
def test_any_shards_give_the_same(tmp_path_factory, whole, cuts, block, seed, count):
    """Moments against exact ones, samples against those of one file, bit by bit.

    With u the rounding of float64, R the largest feature and K merges: class sums of whole numbers are exact,
    so that a merge adds at most 9 u R to the error of a mean, e = 10 (K + 1) u R in all. Squares of n samples
    are D R^2 at most; their mean errs by 4 (n + D) u of that in summing, by 12 u in rounding residuals, and
    in each merge, where gaps reach 2 R, by 6 u + 4 e / R.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "BLOCK", block)
        cut = complete(tmp_path_factory.mktemp("cut"), cuts)
        moments = cut.moments()
        merges = sum(-(-size // max(1, block // DIM)) for size in cut.counts)
    means, scatter, within = exact_moments()
    unit = 2.0**-53
    of_mean = 10 * (merges + 1) * unit * REACH
    of_square = (4 * (N + DIM) + 12 + merges * (6 + 40 * (merges + 1))) * unit * DIM * REACH**2
    assert len(cut) == N and cut.dim == DIM and cut.class_names == tuple(NAMES)
    assert moments.counts.tolist() == np.bincount(Y).tolist()
    np.testing.assert_allclose(moments.means, means, rtol=0, atol=of_mean)
    np.testing.assert_allclose(moments.scatter, scatter, rtol=0, atol=of_square)
    np.testing.assert_allclose(moments.within, within, rtol=0, atol=of_square)
    for per_class in (False, True):
        one, other = (each.sample(count, seed, per_class) for each in (whole, cut))
        for part, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, same)


class TestSample:
    def test_is_of_rows_as_they_are(self, whole):
        f = whole.sample(20, seed=1)
        rows = [int(np.flatnonzero((h == H).all(axis=1))[0]) for h in f.h]
        assert len(set(rows)) == 20 and rows == sorted(rows)
        assert (f.h.dtype, f.y.dtype, f.logits.dtype) == (np.float32, np.int64, np.float32)
        assert (f.y == Y[rows]).all() and (f.logits == np.eye(5)[Y[rows]]).all()
        assert f.ids == tuple(IDS[row] for row in rows) and f.class_names == tuple(NAMES)

    def test_of_each_class(self, whole):
        sizes = np.bincount(Y)
        count = int(np.sort(sizes)[1])  # more than the smallest class has
        assert (sizes < count).any()
        assert np.bincount(whole.sample(count, per_class=True).y).tolist() == sizes.clip(max=count).tolist()

    def test_of_more_than_there_are_is_all(self, whole):
        np.testing.assert_array_equal(whole.sample(N + 1).h, H)

    @pytest.mark.parametrize("strata", [[np.zeros(5, int)], [np.zeros(2, int), np.zeros(3, int)]])
    def test_every_subset_is_equally_likely(self, strata):
        subsets = Counter()
        for seed in range(1_000):
            rows = [part + 10 * i for i, part in enumerate(shards._draw(lambda: strata, 2, seed))]
            subsets[tuple(np.concatenate(rows))] += 1
        assert len(subsets) == 10
        assert chisquare([*subsets.values()]).pvalue > 1e-3

    def test_classes_are_drawn_apart(self):
        """Joint counts of what is drawn from two classes of four: 16 pairs, equally often."""
        pairs = Counter(
            tuple(np.concatenate([*shards._draw(lambda: [np.arange(8) % 2], 1, seed)]))
            for seed in range(1_000)
        )
        assert len(pairs) == 16
        assert chisquare([*pairs.values()]).pvalue > 1e-3

    def test_has_what_all_files_have(self, tmp_path):
        written(tmp_path, [20])
        nclib.save_features(tmp_path / "001.safetensors", H[20:], Y[20:], ids=IDS[20:])
        f = nclib.FeatureShards(tmp_path).sample(N)
        assert f.ids is None and f.logits is None and (f.h == H).all()

    def test_goes_into_a_feature_file(self, tmp_path, whole):
        f = whole.sample(9)
        nclib.save_features(tmp_path / "f.safetensors", *f)
        assert (nclib.load_features(tmp_path / "f.safetensors").h == f.h).all()

    @pytest.mark.parametrize("arguments", [(0,), (2.5,), (None,), (3, -1)])
    def test_refuses_other_numbers(self, whole, arguments):
        with pytest.raises(ValueError, match="expected a whole number"):
            whole.sample(*arguments)


def test_blocks_join_to_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "BLOCK", 8 * DIM)
    h, y = zip(*nclib.FeatureShards(written(tmp_path, [13, 50])).blocks(), strict=True)
    assert [len(part) for part in y] == [8, 5, 8, 8, 8, 8, 5, 8, 2]
    assert (np.concatenate(h) == H).all() and (np.concatenate(y) == Y).all()


def test_a_file_is_never_in_memory(tmp_path, monkeypatch):
    """8 MB of features in blocks of 64 KB: two blocks, 128 KB of labels, and pieces for the checksum."""
    monkeypatch.setattr(shards, "BLOCK", 2**14)
    monkeypatch.setattr(tensor_files, "PIECE", 2**16)
    nclib.save_features(tmp_path / "f.safetensors", np.ones((2**14, 128), np.float32), np.zeros(2**14))
    tracemalloc.start()
    try:
        assert sum(len(y) for _, y in nclib.FeatureShards(tmp_path).blocks()) == 2**14
        nclib.FeatureShards(tmp_path).sample(10)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_folder_a_list_and_a_file(tmp_path):
    written(tmp_path, [10, 20])
    (tmp_path / "notes.txt").touch()
    paths = [tmp_path / f"{number:03}.safetensors" for number in range(3)]
    assert nclib.FeatureShards(str(tmp_path)).paths == paths
    assert nclib.FeatureShards([str(paths[2]), paths[0]]).counts == [40, 10]
    assert nclib.FeatureShards(paths[1]).moments(9).counts.tolist() == np.bincount(Y[10:20], None, 9).tolist()


def test_endings_in_capitals_are_endings(tmp_path):
    nclib.save_features(tmp_path / "0.SAFETENSORS", H[:4], Y[:4])
    nclib.save_features(tmp_path / "1.safetensors", H[4:9], Y[4:9])
    assert nclib.FeatureShards(tmp_path).counts == [4, 5]


def by_hand(path, h=H, y=Y, **others):
    """A feature file that save_features would not write, with the right checksum."""
    arrays = {"h": h.astype(np.float32), "y": y, **others}
    write_tensors(path, {name: nclib.measures.arrays.as_tensor(a) for name, a in arrays.items()}, METADATA)


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda path: nclib.save_features(path, H[:, :2], Y), "has h of dimension 2, .* of 3"),
            (lambda path: nclib.save_features(path, H, Y, np.eye(9)[Y]), "has logits of dimension 9"),
            (lambda path: nclib.save_features(path, H, Y, class_names=NAMES[::-1]), "different class names"),
            (lambda path: by_hand(path, H[:0], Y[:0]), r"not empty; got \(0, 3\)"),
            (lambda path: by_hand(path, H[:, 0]), r"must be \(N, D\)"),
            (lambda path: by_hand(path, y=Y[1:]), "y must have 60 rows"),
            (lambda path: by_hand(path, logits=np.ones((2, 5), np.float32)), "logits must have 60 rows"),
            (lambda path: by_hand(path, ids=np.ones(3, np.uint8)), "ids_ends must have 60 rows"),
            (lambda path: safetensors.numpy.save_file({"h": H}, path), "is no feature file"),
            (lambda path: safetensors.numpy.save_file({"h": np.int16(H)}, path, METADATA), "another kind"),
            (lambda path: nclib.save_moments(path, nclib.ClassMoments(2, 3)), "no feature file"),
            (lambda path: path.write_bytes(b"x" * 99), "damaged"),
            (lambda path: path.write_bytes(path.read_bytes()[:-1]), "it should have"),
            (lambda path: path.unlink() or path.mkdir(), "cannot read"),
        ],
    )  # fmt: skip
    def test_is_named_when_shards_are_opened(self, tmp_path, change, message):
        complete(tmp_path, [20])
        change(tmp_path / "001.safetensors")
        with pytest.raises(NclibError, match=message) as caught:
            nclib.FeatureShards(tmp_path)
        assert "001.safetensors" in str(caught.value)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda path: by_hand(path, BAD),
                "rows 0 to 59: features must be fin",
            ),
            (lambda path: by_hand(path, y=Y - 1), "must not be negative"),
            (lambda path: by_hand(path, y=Y + 10**6), "must be below 32768"),
            (lambda path: by_hand(path, y=Y + 1), "below the class count 4"),
        ],
    )
    def test_is_named_when_it_is_read(self, tmp_path, change, message):
        written(tmp_path, [20])
        change(tmp_path / "001.safetensors")
        with pytest.raises(DataError, match=r"001\.safetensors.*" + message):
            nclib.FeatureShards(tmp_path).moments(CLASSES)

    def test_a_drawn_row_that_is_not_finite(self, tmp_path):
        by_hand(tmp_path / "f.safetensors", BAD)
        with pytest.raises(DataError, match=r"f\.safetensors, rows drawn: h must be finite"):
            nclib.FeatureShards(tmp_path).sample(N)

    @pytest.mark.parametrize("ends", [[2] * N, [*range(N - 1, 0, -1), 3]])
    def test_ids_that_do_not_fit(self, tmp_path, ends):
        ids = {"ids": np.ones(3, np.uint8), "ids_ends": np.array(ends)}
        by_hand(tmp_path / "f.safetensors", **ids)
        with pytest.raises(DataError, match="ids cannot be read"):
            nclib.FeatureShards(tmp_path).sample(5)

    def test_a_flipped_byte_is_found_before_its_features_count(self, tmp_path):
        path = written(tmp_path) / "000.safetensors"
        content = bytearray(path.read_bytes())
        content[-N * 8 - 5] ^= 1  # a feature: labels are the last tensor
        path.write_bytes(content)
        with pytest.raises(Damaged, match="checksum"):
            next(nclib.FeatureShards(tmp_path).blocks())

    @pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
    def test_a_file_that_goes_while_it_is_read(self, tmp_path, change):
        opened = nclib.FeatureShards(written(tmp_path, [20]))
        change(tmp_path / "001.safetensors")
        for use in (opened.moments, lambda: opened.sample(N)):
            with pytest.raises(NclibError, match=r"001\.safetensors"):
                use()

    def test_no_file_and_other_formats(self, tmp_path):
        with pytest.raises(DataError, match=r"no \.safetensors file in"):
            nclib.FeatureShards(tmp_path)
        with pytest.raises(NclibError, match=r"cannot read .*No such file"):
            nclib.FeatureShards(tmp_path / "f.safetensors")
        with pytest.raises(DataError, match=r"no file or folder .*absent$"):
            nclib.FeatureShards(tmp_path / "absent")
        nclib.save_features(tmp_path / "f.npz", H, Y)
        with pytest.raises(DataError, match=r"only \.safetensors is read a block at a time"):
            nclib.FeatureShards(tmp_path / "f.npz")
