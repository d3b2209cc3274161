"""Feature files: what is written is read back, and what is no feature file is refused in words."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
from numpy.lib.format import write_array_header_1_0

import nclib
from nclib.errors import DataError, NclibError
from nclib.measures.arrays import PrecisionWarning
from nclib.storage import feature_files

H = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
Y = np.array([0, 1, 2, 0, 1, 2])
NAMES = ["<script>alert(1)</script>", "\"'&", "Füße \U0001f430 \u202e", "", "a" * 10_000, "../../etc/passwd"]
ENDINGS = (".safetensors", ".npz")


@pytest.mark.parametrize("ending", ENDINGS)
def test_everything_comes_back(tmp_path, ending):
    path = tmp_path / f"features{ending}"
    nclib.save_features(path, torch.tensor(H, dtype=torch.float64), Y.tolist(), 2 * H, NAMES, NAMES[:4])
    f = nclib.load_features(path)
    assert (f.h.dtype, f.y.dtype, f.logits.dtype) == (np.float32, np.int64, np.float32)
    assert (f.h == H).all() and (f.y == Y).all() and (f.logits == 2 * H).all()
    assert f.ids == tuple(NAMES) and f.class_names == tuple(NAMES[:4])
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_not_given_is_not_there(tmp_path, ending):
    nclib.save_features(tmp_path / f"f{ending}", H, Y)
    assert nclib.load_features(str(tmp_path / f"f{ending}"))[2:] == (None, None, None)


def test_numbers_and_strange_characters_are_names_too(tmp_path):
    nclib.save_features(
        tmp_path / "f.safetensors", H[:2], Y[:2], ids=np.array([7, 8]), class_names=["\ud800", "b"]
    )
    f = nclib.load_features(tmp_path / "f.safetensors")
    assert f.ids == ("7", "8") and f.class_names == ("?", "b")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("ids", [[b"a0", "\xe4".encode()], np.array([b"a0", "\xe4".encode()])])
def test_bytes_are_the_names_that_they_spell(tmp_path, ending, ids):
    nclib.save_features(tmp_path / f"f{ending}", H[:2], Y[:2], ids=ids)
    assert nclib.load_features(tmp_path / f"f{ending}").ids == ("a0", "\xe4")


@pytest.mark.parametrize("ids", [torch.arange(2), list(torch.arange(2)), np.arange(2)])
def test_numbers_of_tensors_are_names_without_their_type(tmp_path, ids):
    nclib.save_features(tmp_path / "f.npz", H[:2], Y[:2], ids=ids)
    assert nclib.load_features(tmp_path / "f.npz").ids == ("0", "1")


def test_names_that_numpy_would_cut_are_refused(tmp_path):
    names = ["a\0", "a"]
    with pytest.raises(DataError, match="ends in"):
        nclib.save_features(tmp_path / "f.npz", np.eye(2), [0, 1], ids=names)
    nclib.save_features(tmp_path / "f.safetensors", np.eye(2), [0, 1], ids=names)
    assert list(nclib.load_features(tmp_path / "f.safetensors").ids) == names


def test_no_names_of_classes_at_all(tmp_path):
    np.savez(tmp_path / "f.npz", h=H, y=Y, class_names=np.array([], dtype=str))
    with pytest.raises(DataError, match="label 2 is beyond the 0 class_names"):
        nclib.load_features(tmp_path / "f.npz")


def test_files_of_other_programs(tmp_path):
    np.savez(tmp_path / "f.npz", h=H.astype(np.float16), y=Y.astype(np.uint8), weights=np.ones(3))
    np.save(tmp_path / "h.npy", H.astype(">f8"))
    np.save(tmp_path / "y.npy", Y[::-1].astype(float))
    other = r"f\.npz: not read: 'weights'; known are h, y, logits, ids, class_names"
    with pytest.warns(UserWarning, match=other) as said:
        assert (nclib.load_features(tmp_path / "f.npz").h == H.astype(np.float16)).all()
    assert said[0].filename == __file__
    assert (nclib.load_features(tmp_path / "h.npy", tmp_path / "y.npy").h == H).all()
    with pytest.warns(UserWarning, match=other):
        assert (nclib.load_features(tmp_path / "f.npz", tmp_path / "y.npy").y == Y[::-1]).all()


def test_names_that_are_nearly_right_are_not_passed_over(tmp_path):
    np.savez(tmp_path / "f.npz", h=H, y=Y, logit=H, id=NAMES, fine=Y)
    with pytest.warns(UserWarning, match="not read: 'logit', 'id', 'fine'; known are"):
        assert nclib.load_features(tmp_path / "f.npz").logits is None


def test_labels_of_a_second_file_are_named(tmp_path):
    np.save(tmp_path / "h.npy", H)
    for name, labels in (("short", Y[:-1]), ("half", Y + 0.5), ("absent", None)):
        if labels is not None:
            np.save(tmp_path / f"{name}.npy", labels)
        with pytest.raises(NclibError, match=rf"{name}\.npy"):
            nclib.load_features(tmp_path / "h.npy", tmp_path / f"{name}.npy")


@pytest.mark.parametrize("far, share", [(1e4, 3), (1e5, 23), (1e6, 100)])
def test_features_that_float32_rounds_away_are_named(tmp_path, far, share):
    """A step s errs by s / 12^0.5: of 2^-10 about 1e4 and 2^-7 about 1e5. About 1e6 one number is left."""
    h = np.random.default_rng(0).normal(size=(2000, 3))
    h[:, 1] = far + 0.01 * h[:, 1]
    h[:, 2] = 0.1  # a constant has no spread to lose
    y = np.zeros(2000, int)
    with pytest.warns(PrecisionWarning, match=r"rounds 1 of 3 features.*subtract the mean first") as said:
        nclib.save_features(tmp_path / "f.npz", h, y)
    assert said[0].filename == __file__
    found = int(re.search(r"feature 1 by (\d+)%", str(said[0].message))[1])
    assert found == pytest.approx(share, abs=1)
    nclib.save_features(tmp_path / "f.npz", h - h.mean(axis=0), y)
    nclib.save_features(tmp_path / "f.npz", h.astype(np.float32), y)  # as they are


def test_a_table_of_columns(tmp_path, monkeypatch):
    wide = pd.DataFrame(H, columns=list("abc")).assign(y=Y, id=NAMES)
    lists = pd.DataFrame({"h": list(H), "y": Y, "logits": list(2 * H)})
    (tmp_path / "f.parquet").touch()
    for table in (wide, lists):
        monkeypatch.setattr(pd, "read_parquet", lambda path, table=table: table.copy())
        f = nclib.load_features(tmp_path / "f.parquet")
        assert (f.h == H).all() and (f.y == Y).all()
        assert (f.ids is None) == (f.logits is not None) == (table is lists)
    monkeypatch.setattr(pd, "read_parquet", lambda path: wide.rename(columns={"id": "file"}))
    with pytest.raises(DataError, match="column 'file' holds no numbers"):
        nclib.load_features(tmp_path / "f.parquet")


def test_a_table_by_a_real_reader(tmp_path):
    pytest.importorskip("pyarrow")
    pd.DataFrame({"h": list(H), "y": Y, "id": NAMES}).to_parquet(tmp_path / "f.parquet")
    f = nclib.load_features(tmp_path / "f.parquet")
    assert (f.h == H).all() and (f.y == Y).all() and f.ids == tuple(NAMES)


def test_a_table_without_a_reader_says_what_to_install(tmp_path, monkeypatch):
    def no_reader(path):
        raise ImportError("no pyarrow")

    (tmp_path / "f.parquet").touch()
    monkeypatch.setattr(pd, "read_parquet", no_reader)
    with pytest.raises(DataError, match=r"install it, or save as \.npz"):
        nclib.load_features(tmp_path / "f.parquet")


BAD = np.where(np.arange(18).reshape(6, 3) == 7, np.nan, H)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": None}, "no array y of labels"),
        ({"y": Y[:-1]}, r"labels must have shape \(6,\)"),
        ({"logits": H[:-1]}, "features of 6 samples, and logits of 5"),
        ({"ids": NAMES[:-1]}, "features of 6 samples, and ids of 5"),
        ({"ids": "abcdef"}, "ids must be a list of names"),
        ({"ids": 3}, "ids must be a list of names"),
        ({"h": BAD}, "h must be finite in float32; row 2"),
        ({"h": H.astype(float) * 1e300}, "finite in float32; row 0"),
        ({"logits": BAD}, "logits must be finite"),
        ({"h": H[:, 0]}, r"real \(N, D\) array"),
        ({"h": H[:0], "y": Y[:0]}, "not empty"),
        ({"h": H[:, :0]}, "not empty"),
        ({"h": NAMES}, "expected numbers"),
        ({"y": Y - 1}, "must not be negative"),
        ({"y": Y + 0.5}, "must be integers"),
        ({"y": NAMES}, "expected numbers"),
        ({"logits": H[:, :2]}, "label 2 is beyond the 2 outputs in logits"),
        ({"class_names": ["a", "b"]}, "label 2 is beyond the 2 class_names"),
        ({"class_names": []}, "label 2 is beyond the 0 class_names"),
    ],
)
@pytest.mark.parametrize("ending", ENDINGS)
def test_refuses_to_write(tmp_path, change, message, ending):
    with pytest.raises(DataError, match=message) as caught:
        nclib.save_features(tmp_path / f"f{ending}", **({"h": H, "y": Y} | change))
    assert str(tmp_path / "f") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors_are_refused(tmp_path, layout):
    nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=layout)
    for parts in ({"h": nested, "y": Y[:2]}, {"h": H[:2], "y": nested}):
        with pytest.raises(DataError, match="is a nested tensor"):
            nclib.save_features(tmp_path / "f.npz", **parts)


def test_refuses_other_endings_and_places(tmp_path):
    with pytest.raises(DataError, match=r"must be one of \.safetensors, \.npz"):
        nclib.save_features(tmp_path / "f.pt", H, Y)
    with pytest.raises(DataError, match=r"must be one of \.safetensors, \.npz, \.npy, \.parquet"):
        nclib.load_features(tmp_path / "f.pkl")
    (tmp_path / "file").touch()
    with pytest.raises(NclibError, match="cannot write"):
        nclib.save_features(tmp_path / "file" / "f.npz", H, Y)
    with pytest.raises(DataError, match=r"use \.safetensors"):
        nclib.save_features(tmp_path / "f.npz", np.ones((7000, 1)), np.zeros(7000), ids=["a" * 10_000] * 7000)


@pytest.mark.parametrize("ending", feature_files.READERS)
@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"{}", b"x" * 1000, b"[" * 10**5]
)
def test_refuses_what_is_not_that_format(tmp_path, ending, content):
    path = tmp_path / f"f{ending}"
    path.write_bytes(content)
    with pytest.raises(NclibError) as caught:
        nclib.load_features(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("ending", feature_files.READERS)
def test_a_file_that_is_not_there(tmp_path, ending):
    with pytest.raises(NclibError, match="No such file"):
        nclib.load_features(tmp_path / f"f{ending}")


class Trap:
    def __reduce__(self):
        return Path.touch, (Path("opened"),)


@pytest.mark.parametrize("ending", [".npy", ".npz", ".safetensors"])
def test_no_pickle_is_opened(tmp_path, monkeypatch, ending):
    monkeypatch.chdir(tmp_path)
    content = np.array([Trap()], dtype=object)
    np.savez("a.npz", h=content, y=Y)
    np.save("a.npy", content)
    Path("a.safetensors").write_bytes(pickle.dumps(Trap()))
    Path(f"b{ending}").write_bytes(pickle.dumps(Trap()))
    for name in (f"a{ending}", f"b{ending}"):
        with pytest.raises(NclibError):
            nclib.load_features(name)
    assert not Path("opened").exists()


def test_an_array_that_claims_to_be_larger_than_its_file(tmp_path):
    with (tmp_path / "h.npy").open("wb") as file:
        write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 512)})
    with pytest.raises(DataError, match=r"cannot be read as \.npy"):
        nclib.load_features(tmp_path / "h.npy")


def test_missing_parts(tmp_path):
    np.savez(tmp_path / "a.npz", y=Y)
    np.savez(tmp_path / "b.npz", h=H)
    np.save(tmp_path / "c.npy", H)
    np.savez(tmp_path / "d.npz", features=H, labels=Y)
    for name in ("a.npz", "d.npz"):
        with pytest.raises(DataError, match=r"arrays must be called h, the features, and y, the labels"):
            nclib.load_features(tmp_path / name)
    for name in ("b.npz", "c.npy"):
        with pytest.raises(DataError, match="no labels: give them as a second file"):
            nclib.load_features(tmp_path / name)
    with pytest.raises(DataError, match=r"labels must have shape \(6,\)"):
        nclib.load_features(tmp_path / "c.npy", tmp_path / "c.npy")


def test_newer_versions_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_files, "VERSION", 2)
    for ending in ENDINGS:
        nclib.save_features(tmp_path / f"f{ending}", H, Y)
    monkeypatch.undo()
    for ending in ENDINGS:
        with pytest.raises(DataError, match="version 2 of the format, this nclib reads up to 1: update it"):
            nclib.load_features(tmp_path / f"f{ending}")


def test_other_and_damaged_safetensors(tmp_path):
    path = tmp_path / "f.safetensors"
    for metadata in (
        None,
        {"format": "pt"},
        *({"format": feature_files.FORMAT, "version": v} for v in ("x", "9" * 5000)),
    ):
        safetensors.numpy.save_file({"h": H, "y": Y}, path, metadata)
        with pytest.raises(DataError, match=r"is no feature file|is no number"):
            nclib.load_features(path)
    nclib.save_features(path, H, Y)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(NclibError, match="damaged"):
        nclib.load_features(path)
    header = json.dumps({"__metadata__": 3}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(DataError, match="no feature file"):
        nclib.load_features(path)


def test_a_million_samples(tmp_path):
    nclib.save_features(
        tmp_path / "f.safetensors", np.ones((10**6, 2), np.float32), np.arange(10**6) % 10_000
    )
    assert nclib.load_features(tmp_path / "f.safetensors").h.shape == (10**6, 2)
