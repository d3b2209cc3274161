"""What is let in, what is refused, and in which words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nclib.measures import arrays
from nclib.measures.arrays import as_features, as_labels, as_samples, as_whole, float64_rows, of_parts


class TestFeatures:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_keep_dtype_and_memory(self, dtype):
        h = torch.ones(3, 2, dtype=dtype)
        assert as_features(h).data_ptr() == h.data_ptr()
        assert as_features(h).dtype == dtype

    def test_share_memory_with_numpy(self):
        h = np.ones((3, 2), dtype=np.float32)
        assert as_features(h).data_ptr() == h.ctypes.data

    def test_read_only_and_foreign_arrays_pass_without_warning(self, recwarn):
        h = np.arange(6.0).reshape(3, 2)
        h.flags.writeable = False
        for view in (h, h[::-1], h.astype(">f4"), h.astype(int), h.tolist()):
            assert as_features(view).tolist() == np.asarray(view, dtype=float).tolist()
        assert not recwarn

    def test_drop_the_gradient(self):
        assert not as_features(torch.ones(3, 2, requires_grad=True)).requires_grad

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_name_the_first_bad_row(self, bad):
        h = np.zeros((9, 4), dtype=np.float32)
        h[[3, 7], 1] = bad
        with pytest.raises(ValueError, match=r"features must be finite; row 3 "):
            as_features(h)

    @pytest.mark.parametrize("h", [np.ones((1, 2))[::-1], np.ones((2, 3)).T, np.ones((4, 4))[::2, ::-2]])
    def test_any_layout_in_memory(self, h):
        assert as_features(h).tolist() == h.tolist()

    def test_masks_are_refused(self):
        h = np.ma.masked_greater(np.arange(6.0).reshape(3, 2), 4)
        with pytest.raises(TypeError, match="leave the rows"):
            as_features(h)
        assert as_features(h[:2]).tolist() == [[0, 1], [2, 3]]  # no number there is masked

    def test_floats_of_one_byte(self):
        assert as_features(torch.ones(2, 2).to(torch.float8_e4m3fn)).dtype == torch.float64

    def test_long_doubles(self):
        assert as_features(np.eye(2, dtype=np.longdouble)).tolist() == [[1, 0], [0, 1]]

    def test_beyond_squares(self):
        assert as_features(np.full((2, 2), -1e60)).min() == -1e60
        assert as_features(torch.full((2, 2), torch.finfo(torch.float32).max)).dtype == torch.float32
        with pytest.raises(ValueError, match=r"features reach 1e\+200; divide them"):
            as_features([[0, -1e200]])

    @pytest.mark.parametrize(
        "h", [None, "ab", [["a"]], [[object()]], torch.eye(2).to_sparse(), torch.ones(2, 2, device="meta")]
    )
    def test_refuse_what_holds_no_numbers(self, h):
        with pytest.raises(TypeError, match="expected"):
            as_features(h)

    @pytest.mark.parametrize("h", [np.zeros(3), np.zeros((0, 2)), np.zeros((2, 2), dtype=complex)])
    def test_refuse_other_shapes(self, h):
        with pytest.raises(ValueError, match=r"real \(N, D\) array"):
            as_features(h)


class TestLabels:
    @pytest.mark.parametrize("dtype", [*"bBhHiIlLqQefd", ">u2", ">f4", ">i8"])
    @pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor, list], ids=["numpy", "torch", "list"])
    def test_become_int64(self, dtype, convert):
        array = np.array([0, 2, 1], dtype=dtype)
        labels = as_labels(
            array if dtype in ("Q", ">u2", ">f4", ">i8") else convert(array), n=3, num_classes=3
        )
        assert labels.dtype == torch.int64
        assert labels.tolist() == [0, 2, 1]

    def test_false_and_true(self):
        assert as_labels([False, True]).tolist() == [0, 1]

    @pytest.mark.parametrize("y", [[2**63], [2**64 - 1]])
    def test_beyond_int64(self, y):
        with pytest.raises(ValueError, match=f"below 2..63; label 0 is {y[0]}"):
            as_labels(np.array(y, dtype=np.uint64))

    @pytest.mark.parametrize("y", [[0, 10**9], np.array([0, 1e18]), torch.tensor([0, 2**15])])
    def test_absurd_class_numbers_take_no_memory(self, y):
        with pytest.raises(ValueError, match=r"labels of 2 samples must be below 32768: .*; label 1 is"):
            as_labels(y)
        assert as_labels(y, num_classes=2**62).max() == y[1]

    @pytest.mark.parametrize("y", [[], np.zeros(0, dtype=int), [1j]])
    def test_refuse_none_at_all_and_complex_ones(self, y):
        with pytest.raises(ValueError, match="must be integers, one at least"):
            as_labels(y)

    @pytest.mark.parametrize(
        ("y", "message"),
        [
            ([0, -1], "not be negative; label 1 is -1"),
            ([0.0, 1.5], "be integers; label 1 is 1.5"),
            ([0.0, np.nan], "be integers; label 1 is nan"),
            ([3, 0], "below the class count 3; label 0 is 3"),
            ([0, 1, 2], r"shape \(2,\), one per sample; got \(3,\)"),
            ([[0, 1]], r"got \(1, 2\)"),
        ],
    )
    def test_refuse_with_position(self, y, message):
        with pytest.raises(ValueError, match=message):
            as_labels(y, n=2, num_classes=3)

    @pytest.mark.parametrize("y", [["cat", "dog"], np.array(["cat", "dog"], dtype=object), [b"cat", b"dog"]])
    def test_names_are_to_be_numbered(self, y):
        with pytest.raises(
            TypeError, match=r"expected numbers.*names, y = numpy\.unique\(labels, return_inv"
        ):
            as_labels(y)
        names, y = np.unique(y, return_inverse=True)
        assert as_labels(y).tolist() == [0, 1] and len(names) == 2

    def test_class_count_follows_the_largest_label(self):
        h = np.zeros((3, 2))
        assert as_samples(h, [0, 4, 1])[2] == 5
        assert as_samples(h, [0, 4, 1], 7)[2] == 7


class TestWhole:
    @pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), torch.tensor(3)])
    def test_any_integer(self, value):
        found = as_whole(value, "k", 1)
        assert (found, type(found)) == (3, int)

    @pytest.mark.parametrize("value", [2.5, 2.0, "2", None, True, np.True_, [2], 0, 11, 10**30, float("nan")])
    def test_refuses_by_name(self, value):
        with pytest.raises(ValueError, match=r"k=.*: expected a whole number, from 1 to 10"):
            as_whole(value, "k", 1, 10)


def test_chunks_join_to_the_whole(monkeypatch):
    monkeypatch.setattr(arrays, "CHUNK", 10)
    h = torch.arange(21, dtype=torch.float32).reshape(7, 3)
    chunks = [x.clone() for _, x in float64_rows(h)]
    assert [len(x) for x in chunks] == [3, 3, 1]
    assert torch.equal(torch.cat(chunks), h.double())


@pytest.mark.usefixtures("three_threads")
class TestParts:
    @pytest.mark.parametrize(("part", "least", "count"), [(1, 0, 3), (11, 0, 1), (5, 0, 2), (1, 30, 1)])
    def test_join_to_the_whole(self, monkeypatch, part, least, count):
        monkeypatch.setattr(arrays, "PART", part)
        h, y = torch.arange(14.0).reshape(7, 2), torch.arange(7)
        parts = of_parts(lambda h, y: (h.clone(), y.clone()), h, y, least=least)
        assert len(parts) == count
        assert torch.equal(torch.cat([part[0] for part in parts]), h)
        assert torch.equal(torch.cat([part[1] for part in parts]), y)

    def test_leave_the_number_of_threads(self, monkeypatch):
        monkeypatch.setattr(arrays, "PART", 1)
        assert of_parts(lambda h: torch.get_num_threads(), torch.ones(4, 2)) == [1, 1, 1]
        assert torch.get_num_threads() == 3

    def test_raise_what_the_function_raises(self, monkeypatch):
        monkeypatch.setattr(arrays, "PART", 1)
        with pytest.raises(ZeroDivisionError):
            of_parts(lambda h: 1 / 0, torch.ones(4, 2))
        assert torch.get_num_threads() == 3


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_rows_by_class_are_those_that_a_comparison_finds(labels):
    found = arrays.rows_by_class(np.array(labels), 8)
    assert [rows.tolist() for rows in found] == [
        np.flatnonzero(np.equal(labels, c)).tolist() for c in range(8)
    ]
