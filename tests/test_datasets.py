"""Data sets: the embedded one, and small stand-ins for the published files, written as their makers do.

The stand-ins go all the way through torchvision; only the published checksums are replaced.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from nclib.data import datasets
from nclib.data.torchvision_import import import_torchvision
from nclib.errors import DataError

DOWNLOADED = ("cifar10", "cifar100", "fashion", "mnist", "svhn")
FINE = [f"fine{i}" for i in range(100)]
COARSE = [f"coarse{i}" for i in range(20)]


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "data root"
    monkeypatch.setenv("NCLIB_DATA", str(folder))
    return folder


@pytest.fixture
def no_network(monkeypatch) -> None:
    def refuse(*_args, **_kwargs):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def publish(root, monkeypatch):
    """Write a small data set, and make its checksums the published ones for nclib and torchvision."""

    def publish(dataset: str) -> dict:
        entry = datasets._published()[dataset]
        folder = root / entry["folder"]
        folder.mkdir(parents=True)
        written = WRITERS[dataset](folder)
        sums = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in entry["files"]}
        monkeypatch.setattr(datasets, "_published", lambda: {dataset: entry | {"files": sums}})
        loader = getattr(import_torchvision("torchvision.datasets"), entry["loader"])
        if dataset.startswith("cifar"):
            for part in ("train_list", "test_list"):
                names = [name for name, _ in getattr(loader, part)]
                monkeypatch.setattr(loader, part, [[name, sums[name]] for name in names])
            monkeypatch.setattr(loader, "meta", loader.meta | {"md5": sums[loader.meta["filename"]]})
        if dataset == "svhn":
            lists = {s: (url, name, sums.get(name)) for s, (url, name, _) in loader.split_list.items()}
            monkeypatch.setattr(loader, "split_list", lists)
        return written

    return publish


def some_pixels(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def write_cifar10(folder: Path) -> dict:
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    rows = {name: some_pixels(4, 3072, seed=i) for i, name in enumerate(names)}
    for i, name in enumerate(names):
        batch = {"data": rows[name], "labels": [(i + j) % 10 for j in range(4)]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": FINE[:10]}, protocol=2))
    return {"train": np.concatenate([rows[name] for name in names[:5]]), "test": rows["test_batch"]}


def write_cifar100(folder: Path) -> dict:
    rows = {"train": some_pixels(200, 3072, seed=0), "test": some_pixels(100, 3072, seed=1)}
    for name, pixels in rows.items():
        fine = [(7 * i) % 100 for i in range(len(pixels))]
        batch = {"data": pixels, "fine_labels": fine, "coarse_labels": [(3 * f + 1) % 20 for f in fine]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {"fine_label_names": FINE, "coarse_label_names": COARSE}
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    return rows


def write_idx(folder: Path) -> dict:
    written = {}
    for split, name, n in (("train", "train", 30), ("test", "t10k", 20)):
        pixels = some_pixels(n, 28, 28, seed=n)
        labels = bytes(i % 10 for i in range(n))
        header = struct.pack(">4i", 2051, n, 28, 28)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, n) + labels)
        written[split] = pixels
    return written


def write_svhn(folder: Path) -> dict:
    written = {}
    for split, n in (("train", 30), ("test", 20)):
        pixels = some_pixels(32, 32, 3, n, seed=n)  # height, width, channel, sample
        labels = np.array([[1 + i % 10] for i in range(n)], dtype=np.uint8)  # 10 means the digit zero
        scipy.io.savemat(folder / f"{split}_32x32.mat", {"X": pixels, "y": labels})
        written[split] = pixels
    return written


WRITERS = {
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
    "fashion": write_idx,
    "mnist": write_idx,
    "svhn": write_svhn,
}


class TestDigits:
    def test_shapes_and_types(self):
        train, test = datasets.load("digits")
        assert train.images.shape == (1437, 1, 8, 8)
        assert test.images.shape == (360, 1, 8, 8)
        assert (len(train), len(test)) == (1437, 360)
        assert {part.images.dtype for part in (train, test)} == {torch.uint8}
        assert {part.labels.dtype for part in (train, test)} == {torch.int64}

    def test_is_that_of_scikit_learn(self):
        pixels, labels = load_digits(return_X_y=True)  # (1797, 64) of 0..16
        images = np.rint(pixels * 255 / 16).reshape(-1, 1, 8, 8)
        parts = train_test_split(images, labels, test_size=0.2, random_state=0, stratify=labels)
        train, test = datasets.load("digits")
        for mine, theirs in zip((train.images, test.images, train.labels, test.labels), parts, strict=True):
            assert np.array_equal(mine, theirs)

    def test_another_file_is_refused(self, tmp_path, monkeypatch):
        with np.load(datasets.DIGITS) as file:
            arrays = dict(file)
        arrays["test_labels"][0] += 1
        np.savez(tmp_path / "digits.npz", **arrays)
        monkeypatch.setattr(datasets, "DIGITS", tmp_path / "digits.npz")
        with pytest.raises(DataError, match="install the package anew"):
            datasets._digits.__wrapped__()

    def test_darkest_is_255(self):
        assert int(datasets.load("digits").train.images.max()) == 255

    def test_split_is_stratified(self):
        train, test = (torch.bincount(part.labels) for part in datasets.load("digits"))
        assert ((test - 0.2 * (train + test)).abs() < 1).all()

    def test_needs_no_file(self, root):
        datasets.load("digits")
        assert datasets.missing_files("digits") == []
        assert not root.exists()


class TestThroughTorchvision:
    def test_svhn(self, publish):
        written = publish("svhn")
        for split, images in zip(("train", "test"), datasets.load("svhn"), strict=True):
            pixels = written[split]
            assert images.images.shape == (pixels.shape[3], 3, 32, 32)
            assert images.images[7, 2, 5, 11] == pixels[5, 11, 2, 7]
            # labels were 1, 2, ..., 9, 10, 1, ...: ten means zero
            assert images.labels.tolist() == [(1 + i % 10) % 10 for i in range(len(images))]
        assert images.names[0] == "zero"

    @pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
    def test_cifar_pixels_lie_as_published(self, publish, dataset):
        written = publish(dataset)
        for split, images in zip(("train", "test"), datasets.load(dataset), strict=True):
            # a row holds all of red, then green, then blue, each line by line
            assert images.images.shape == (len(written[split]), 3, 32, 32)
            assert images.images[3, 2, 5, 11] == written[split][3, 2 * 1024 + 5 * 32 + 11]

    def test_cifar10_labels_follow_the_batches(self, publish):
        publish("cifar10")
        train, test = datasets.load("cifar10")
        assert train.labels.tolist() == [(i + j) % 10 for i in range(5) for j in range(4)]
        assert train.names == tuple(FINE[:10])
        assert test.superclass is None

    def test_cifar100_knows_its_own_superclasses(self, publish):
        publish("cifar100")
        train, _ = datasets.load("cifar100")
        assert train.labels[:3].tolist() == [0, 7, 14]
        assert train.superclass == tuple((3 * fine + 1) % 20 for fine in range(100))
        assert train.superclass_names == tuple(COARSE)

    @pytest.mark.parametrize("dataset", ["mnist", "fashion"])
    def test_idx_files(self, publish, dataset):
        written = publish(dataset)
        train, test = datasets.load(dataset)
        assert test.images.shape == (20, 1, 28, 28)
        assert np.array_equal(train.images[:, 0].numpy(), written["train"])
        assert test.labels.tolist() == [i % 10 for i in range(20)]
        assert train.names[1] == {"mnist": "one", "fashion": "Trouser"}[dataset]

    @pytest.mark.parametrize("dataset", DOWNLOADED)
    def test_published_sums_are_torchvisions(self, dataset):
        entry = datasets._published()[dataset]
        loader = getattr(import_torchvision("torchvision.datasets"), entry["loader"])
        if dataset.startswith("cifar"):
            theirs = dict(loader.train_list + loader.test_list)
            theirs[loader.meta["filename"]] = loader.meta["md5"]
        elif dataset == "svhn":
            theirs = {name: md5 for _, name, md5 in (loader.split_list[s] for s in ("train", "test"))}
        else:  # archives only
            theirs = {Path(name).stem: entry["files"][Path(name).stem] for name, _ in loader.resources}
        assert entry["files"] == theirs


class TestAbsent:
    @pytest.mark.parametrize("dataset", DOWNLOADED)
    def test_says_where_it_looked_and_both_ways_to_get_it(self, root, no_network, dataset):
        with pytest.raises(DataError) as caught:
            datasets.load(dataset)
        message = str(caught.value)
        entry = datasets._published()[dataset]
        assert all(str(root / entry["folder"] / name) in message for name in entry["files"])
        assert f"with a network: torchvision then downloads it to {root}" in message
        assert "set NCLIB_DATA" in message

    def test_socket_timeout_is_left_as_it_was(self, root, no_network):
        before = socket.getdefaulttimeout()
        with pytest.raises(DataError):
            datasets.load("svhn")
        assert socket.getdefaulttimeout() == before

    def test_only_the_missing_file_is_named(self, root, no_network, publish):
        publish("cifar10")
        path = root / "cifar-10-batches-py" / "data_batch_3"
        path.unlink()
        with pytest.raises(DataError) as caught:
            datasets.load("cifar10")
        assert str(path) in str(caught.value)
        assert "data_batch_2" not in str(caught.value)


class TestDamaged:
    @pytest.mark.parametrize(
        ("dataset", "name"),
        [("cifar10", "data_batch_2"), ("cifar100", "meta"), ("mnist", "t10k-labels-idx1-ubyte"),
         ("svhn", "train_32x32.mat")],
    )  # fmt: skip
    @pytest.mark.parametrize("how", ["altered", "truncated"])
    def test_is_named_and_left_alone(self, root, publish, dataset, name, how):
        publish(dataset)
        path = root / datasets._published()[dataset]["folder"] / name
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content if how == "altered" else content[:-1])
        with pytest.raises(DataError, match="truncated or altered") as caught:
            datasets.load(dataset)
        assert str(path) in str(caught.value)
        assert path.is_file()

    def test_altered_pickle_is_never_opened(self, root, publish):
        publish("cifar10")
        trap = root / "sprung"
        path = root / "cifar-10-batches-py" / "test_batch"
        path.write_bytes(b"cos\nmkdir\n(V" + str(trap).encode() + b"\ntR.")
        with pytest.raises(DataError):
            datasets.load("cifar10")
        assert not trap.exists()


class TestFingerprint:
    def test_one_for_each_data_set(self):
        assert len({datasets.fingerprint(name) for name in datasets.dataset_names()}) == 6

    def test_follows_the_content(self, publish):
        before = datasets.fingerprint("mnist")
        publish("mnist")
        assert datasets.fingerprint("mnist") != before


@pytest.mark.skipif(
    not (Path(os.environ.get("NCLIB_DATA", "/nowhere")) / "cifar-10-batches-py").is_dir(),
    reason="NCLIB_DATA does not hold CIFAR-10",
)
def test_real_cifar10():
    train, test = datasets.load("cifar10")
    assert train.images.shape == (50_000, 3, 32, 32)
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    means = [float(train.images[:, channel].float().mean()) / 255 for channel in range(3)]
    assert means == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)  # the channel means that papers print


class TestStratified:
    def images(self, sizes: list[int]) -> datasets.ImageSet:
        labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
        return datasets.ImageSet(torch.arange(len(labels)), labels, tuple("abc"))

    def test_the_first_of_every_class_in_proportion(self):
        whole = self.images([60, 30, 10])
        part = whole.stratified(20)
        assert torch.bincount(part.labels).tolist() == [12, 6, 2]
        for c, number in enumerate((12, 6, 2)):
            first = whole.images[whole.labels == c][:number]
            assert torch.equal(part.images[part.labels == c], first)
        assert torch.equal(part.images, part.images.sort().values)

    def test_a_small_split_is_taken_whole(self):
        whole = self.images([4, 5, 6])
        assert whole.stratified(15) is whole

    def test_followed_images_are_the_same_in_every_run(self, monkeypatch):
        monkeypatch.setattr(datasets, "FOLLOWED", 100)
        train, _ = datasets.load("digits")
        assert len(datasets.followed_images(train)) == 100
        assert torch.equal(datasets.followed_images(train).images, datasets.followed_images(train).images)
