"""Class moments in files: every digit comes back, and merged files are merged moments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import nclib
from nclib.errors import DataError, NclibError
from nclib.storage import moment_files
from nclib.storage.files import read_tensors, write_tensors

pytestmark = pytest.mark.numeric

H = np.random.default_rng(0).normal(size=(30, 4))
Y = np.arange(30) % 3


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True))


def test_every_digit_comes_back(tmp_path):
    moments = nclib.ClassMoments.of(H, Y, 5)  # the last two classes are empty
    nclib.save_moments(tmp_path / "m.safetensors", moments)
    assert same(nclib.load_moments(str(tmp_path / "m.safetensors")), moments)
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_files_merge_as_moments_do(tmp_path):
    parts = [nclib.ClassMoments.of(H[rows], Y[rows], 3) for rows in np.split(np.arange(30), [4, 21])]
    for number, part in enumerate(parts):
        nclib.save_moments(tmp_path / f"{number}.safetensors", part)
    merged = nclib.load_moments(tmp_path)
    assert same(merged, parts[0].merge(parts[1]).merge(parts[2]))
    assert same(merged, nclib.load_moments(sorted(tmp_path.iterdir())))


def by_hand(path, **change):
    state = {name.strip("_"): value for name, value in vars(nclib.ClassMoments.of(H, Y)).items()}
    tensors = {name: value for name, value in (state | change).items() if value is not None}
    write_tensors(path, tensors, {"format": moment_files.FORMAT, "version": "1"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: nclib.save_moments(path, nclib.ClassMoments(4, 4)), "equal .* merge; .*num_classes"),
        (lambda path: nclib.save_features(path, H, Y), "holds no class moments"),
        (lambda path: by_hand(path, means=None), "'means'"),
        (lambda path: by_hand(path, means=torch.ones(3)), "damaged or of another kind"),
        (lambda path: by_hand(path, means=torch.ones(2, 3, 4)), "damaged or of another kind"),
        (lambda path: by_hand(path, squares=torch.ones(2).double()), "squares"),
        (lambda path: by_hand(path, counts=torch.ones(3)), r"counts are torch\.float32"),
        (lambda path: by_hand(path, counts=torch.tensor([1, -1, 1])), "negative"),
        (lambda path: by_hand(path, products=torch.full((4, 4), torch.nan).double()), "not finite"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "damaged"),
        (lambda path: path.unlink() or path.mkdir(), "cannot read"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said(tmp_path, change, message):
    for number in range(2):
        nclib.save_moments(tmp_path / f"{number}.safetensors", nclib.ClassMoments.of(H, Y))
    change(tmp_path / "1.safetensors")
    with pytest.raises(NclibError, match=message) as caught:
        nclib.load_moments(tmp_path)
    assert "1.safetensors" in str(caught.value)


def test_newer_versions_are_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(moment_files, "VERSION", 2)
        nclib.save_moments(tmp_path / "m.safetensors", nclib.ClassMoments(2, 2))
    with pytest.raises(DataError, match="version 2 of the format, this nclib reads up to 1: update it"):
        nclib.load_moments(tmp_path)


def test_refuses_to_write_something_else(tmp_path):
    moments = nclib.ClassMoments.of(H, Y)
    with pytest.raises(TypeError, match="only ClassMoments are saved; got Moments"):
        nclib.save_moments(tmp_path / "m.safetensors", moments.summary())
    with pytest.raises(DataError, match=r"its ending must be \.safetensors"):
        nclib.save_moments(tmp_path / "m.npz", moments)
    with pytest.raises(DataError, match=r"no \.safetensors file in"):
        nclib.load_moments(tmp_path)


def test_a_single_number_of_any_stride(tmp_path):
    """Contiguous for torch, as it has no neighbour."""
    number = torch.arange(5.0)[::5]
    assert number.stride() == (5,) and number.is_contiguous()
    write_tensors(tmp_path / "x.safetensors", {"x": number})
    assert read_tensors(tmp_path / "x.safetensors")[0]["x"].tolist() == [0]
