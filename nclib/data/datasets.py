"""Data sets as uint8 tensors, verified byte for byte.

    train, test = load("cifar10")

``digits`` comes with the package and needs no download. The others are read from ``NCLIB_DATA`` in
torchvision's layout, or downloaded there by torchvision when the machine has a network.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import socket
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nclib.errors import DataError
from nclib.paths import data_root

DOWNLOAD_TIMEOUT = 30.0  # seconds without an answer, after which a download is given up
FOLLOWED = 10_000  # images of train that are measured while a network trains; at the end all are
DIGITS = Path(__file__).with_name("digits.npz")  # {train,test}_images (N, 1, 8, 8), {train,test}_labels (N,)
DIGITS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS_SHA256 = "3616d13d9b8a0a7a70107bddfd1b1572ec4785e7884f0571b848e039b01e1a3f"  # of its arrays


@dataclass(frozen=True)
class ImageSet:
    """One split of a data set.

    Attributes
    ----------
    images : (N, C, H, W) uint8.
    labels : (N,) int64, the fine labels.
    names : name of each fine class.
    superclass : coarse label of each fine class where the data set has its own (CIFAR-100), else None.
    superclass_names : name of each such coarse label.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    superclass: tuple[int, ...] | None = None
    superclass_names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def stratified(self, count: int) -> ImageSet:
        """At most so many samples, the first of every class in proportion to its size."""
        if len(self) <= count:
            return self
        by_class = self.labels.argsort(stable=True)
        sizes = torch.bincount(self.labels)  # (C,)
        first = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)  # (N,) where a sample's class begins
        place = (torch.arange(len(self)) - first + 0.5) / sizes.repeat_interleave(sizes)  # from 0 to 1
        rows = by_class[place.argsort(stable=True)[:count]].sort().values
        return replace(self, images=self.images[rows], labels=self.labels[rows])

    def of_classes(self, classes: Sequence[int]) -> ImageSet:
        """The samples of some fine classes, which are numbered anew in the order given."""
        new_label = torch.full((len(self.names),), -1)
        new_label[list(classes)] = torch.arange(len(classes))
        labels = new_label[self.labels]
        kept = labels >= 0
        own = None if self.superclass is None else tuple(self.superclass[c] for c in classes)
        names = tuple(self.names[c] for c in classes)
        return replace(self, images=self.images[kept], labels=labels[kept], names=names, superclass=own)


class Splits(NamedTuple):
    """The two splits of a data set."""

    train: ImageSet
    test: ImageSet


@cache
def _published() -> dict[str, dict[str, Any]]:
    return tomllib.loads(Path(__file__).with_name("datasets.toml").read_text(encoding="utf-8"))


def dataset_names() -> tuple[str, ...]:
    """Names that ``load`` knows."""
    return ("digits", *_published())


def fingerprint(dataset: str) -> str:
    """SHA-256 that identifies a data set's content, without reading downloaded files.

    ``load`` refuses data that differ from their published checksums, so the checksums are the content.
    """
    if dataset == "digits":
        return DIGITS_SHA256
    content = json.dumps(_published()[dataset]["files"], sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def missing_files(dataset: str) -> list[Path]:
    """Files of a data set that are not under ``data_root()``; empty for the embedded one."""
    return [path for path in _files(dataset) if not path.is_file()]


def load(dataset: str) -> Splits:
    """Load a data set, downloading it if it is not there.

    Parameters
    ----------
    dataset : one of ``dataset_names()``.

    Returns
    -------
    Splits : train and test, each an ``ImageSet``.

    Raises
    ------
    DataError : files absent and not to be downloaded, truncated or altered.
    """
    if dataset == "digits":
        return _digits()
    if missing_files(dataset):
        _download(dataset)
    _verify(dataset)
    return Splits(*(_read(dataset, split) for split in ("train", "test")))


def followed_images(split: ImageSet) -> ImageSet:
    """The images of a split that are measured on the way: 10,000 at most, the same ones in every run."""
    return split.stratified(FOLLOWED)


def _files(dataset: str) -> dict[Path, str]:
    """Path and MD5 of every file of a data set."""
    if dataset == "digits":
        return {}
    entry = _published()[dataset]
    return {data_root() / entry["folder"] / name: md5 for name, md5 in entry["files"].items()}


def _verify(dataset: str) -> None:
    for path, md5 in _files(dataset).items():
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != md5:
            raise DataError(
                f"{path} is truncated or altered: {path.stat().st_size} bytes with MD5 {found}, expected "
                f"{md5}. Delete it and try again with a network, or copy an intact file there."
            )


def _download(dataset: str) -> None:
    missing, timeout = missing_files(dataset), socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        for split in ("train", "test"):
            _torchvision_set(dataset, split, download=True)
    except (
        OSError,
        RuntimeError,
    ) as error:  # URLError is an OSError; torchvision raises RuntimeError
        raise DataError(
            f"data set {dataset!r} is not on this machine and could not be downloaded "
            f"({_first_line(error)}).\nLooked for: {', '.join(map(str, missing))}\nEither run the same "
            f"command once with a network: torchvision then downloads it to {data_root()};\nor set "
            f"NCLIB_DATA to a folder that holds {_published()[dataset]['folder']} in torchvision's layout."
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _torchvision_set(dataset: str, split: str, download: bool = False) -> Any:
    from nclib.data.torchvision_import import import_torchvision

    loader = getattr(import_torchvision("torchvision.datasets"), _published()[dataset]["loader"])
    choice = {"split": split} if dataset == "svhn" else {"train": split == "train"}
    return loader(str(data_root()), download=download, **choice)


def _read(dataset: str, split: str) -> ImageSet:
    source = _torchvision_set(dataset, split)
    images = torch.as_tensor(source.data)
    if dataset.startswith("cifar"):
        images = images.permute(0, 3, 1, 2)  # (N, H, W, 3) -> (N, 3, H, W)
    elif images.ndim == 3:
        images = images[:, None]  # (N, H, W) -> (N, 1, H, W)
    labels = torch.as_tensor(source.labels if dataset == "svhn" else source.targets).long()
    names = getattr(source, "classes", DIGITS_NAMES)
    if dataset == "mnist":
        names = DIGITS_NAMES
    own = _cifar100_superclasses() if dataset == "cifar100" else (None, None)
    return ImageSet(images.contiguous(), labels, tuple(names), *own)


def _cifar100_superclasses() -> tuple[tuple[int, ...], tuple[str, ...]]:
    """CIFAR-100's own coarse label of each fine class, and the names of the twenty."""
    folder = data_root() / _published()["cifar100"]["folder"]
    # The only pickles read: the published files themselves, after their checksums were verified.
    batch, names = (
        pickle.loads((folder / name).read_bytes(), encoding="latin1") for name in ("test", "meta")
    )
    coarse = dict(zip(batch["fine_labels"], batch["coarse_labels"], strict=True))
    return tuple(coarse[fine] for fine in range(100)), tuple(names["coarse_label_names"])


@cache
def _digits() -> Splits:
    """scikit-learn's 8 x 8 digits, a stratified fifth of them as the test split.

    Alpaydin and Kaynak (1998), UCI, CC BY 4.0. A copy: to import scikit-learn takes as long as to train on
    them.
    """
    with np.load(DIGITS) as file:
        parts = [file[f"{split}_{part}"] for split in ("train", "test") for part in ("images", "labels")]
    if hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest() != DIGITS_SHA256:
        raise DataError(f"{DIGITS} is not the file of this package; install the package anew")
    train_x, train_y, test_x, test_y = map(torch.as_tensor, parts)
    return Splits(ImageSet(train_x, train_y, DIGITS_NAMES), ImageSet(test_x, test_y, DIGITS_NAMES))
