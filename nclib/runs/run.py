"""A finished run, read from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nclib.config import RunConfig
from nclib.data.datasets import followed_images
from nclib.data.grouping import Grouping, task
from nclib.errors import ConfigError
from nclib.measures.moments import Moments
from nclib.networks.features import FeatureSet, features_of
from nclib.networks.models import Classifier, build_model
from nclib.storage.files import epoch_file, read_tensors
from nclib.storage.integrity import read_record


class Run:
    """A finished run, read from its folder.

    Raises
    ------
    StoreError : the folder's run.json is no record of a run, or cannot be read.
    ConfigError : it is the record of a run of another version.

    Attributes
    ----------
    folder : where it lies.
    record : content of its run.json, from which the following are read.
    key : its key in the store.
    config : what was trained.
    history : list of records, one per epoch; see ``nclib.training.loop.Trained``.
    grouping : fine classes and coarse labels.
    image_shape : (C, H, W).
    provenance : commit, versions, device, threads, seconds, date. Of a resumed run those of its last attempt,
        seconds of all; "attempts" then lists each one, and the first epoch that it trained.
    released : whether it came with the book instead of the store.
    results : the numbers of ``nclib.runs.evaluation`` that it was published with; none for a run of the
        store, for which they are computed.
    embedding : likewise (N, 2), t-SNE of the test features inside each super-class, or None.
    references : likewise some of the test images by ``nclib.runs.baselines.spaces``: as features, as features
        at initialisation and as principal components of their pixels.
    """

    released = False
    results: Mapping[str, Any] = MappingProxyType({})
    embedding: np.ndarray | None = None
    references: Mapping[str, FeatureSet] = MappingProxyType({})

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        record = read_record(folder)
        self.record = record
        self.key: str = record["key"]
        self.history: list[dict[str, Any]] = record["history"]
        self.provenance: dict[str, Any] = record["provenance"]
        self.image_shape: tuple[int, int, int] = tuple(record["image_shape"])
        names = record["grouping"]
        try:
            self.config = RunConfig(**record["config"])
            self.grouping = Grouping(
                torch.tensor(names["fine_to_coarse"]), tuple(names["fine"]), tuple(names["coarse"])
            )
        except (KeyError, TypeError, ValueError) as error:  # fields that this version does not have, or lacks
            raise ConfigError(f"{folder} holds a run of another version of nclib ({error}).") from error

    def __repr__(self) -> str:
        c = self.config
        return f"Run({self.key[:12]}: {c.dataset}, {c.grouping}, {c.arch}, {c.epochs} epochs, seed {c.seed})"

    @cached_property
    def snapshots(self) -> dict[str, Tensor]:
        """What was kept of measured epochs, by name.

        "EPOCH/SPLIT/..." are the arrays of ``nclib.Moments`` of the fine classes, "EPOCH/weight" and
        "EPOCH/bias" those of the last layer.

        Raises
        ------
        StoreError : the file that holds them cannot be read, or is damaged.
        """
        return read_tensors(self.folder / "moments.safetensors")[0]

    @property
    def measured_epochs(self) -> list[int]:
        """Epochs whose moments were kept, ascending; 0 is the untrained network."""
        return sorted({int(name.partition("/")[0]) for name in self.snapshots})

    @property
    def feature_splits(self) -> tuple[str, ...]:
        """Splits whose features at the end of training are at hand."""
        return ("train", "test")

    def moments(self, split: str, epoch: int = -1) -> Moments:
        """Fine-class moments of a split ("train" or "test") at a measured epoch; -1 is the last.

        Raises
        ------
        ValueError : another split, or an epoch that was not measured.
        StoreError : as ``snapshots``.
        """
        prefix = f"{self._measured(epoch)}/{_checked_split(split)}/"
        names = [name for name in self.snapshots if name.startswith(prefix)]
        return Moments.from_tensors({name.removeprefix(prefix): self.snapshots[name] for name in names})

    def head(self, epoch: int = -1) -> tuple[Tensor, Tensor]:
        """Weight (C, D) and bias (C,) of the last layer at a measured epoch, float32; -1 is the last.

        Raises
        ------
        ValueError : an epoch that was not measured.
        StoreError : as ``snapshots``.
        """
        epoch = self._measured(epoch)
        return self.snapshots[f"{epoch}/weight"], self.snapshots[f"{epoch}/bias"]

    def features(self, split: str, epoch: int = -1) -> FeatureSet:
        """Features of a split, "train" or "test", at a measured epoch; -1 is the last.

        Before the last epoch those of ``nclib.data.datasets.followed_images`` of train, and of all of
        test: read where they were kept, else computed from the weights, for which the data set is read.

        Raises
        ------
        ValueError : another split, or an epoch that was not measured.
        StoreError : a file that cannot be read, or is damaged; a released run that does not hold them.
        DataError : the data set is needed, and absent or altered.
        """
        epoch, end = self._measured(epoch), self.measured_epochs[-1]
        file = self.folder / ("features.safetensors" if epoch == end else epoch_file("features", epoch))
        if file.exists():
            tensors = read_tensors(file)[0]
            h, fine = tensors[f"{_checked_split(split)}/h"], tensors[f"{split}/fine"].long()
        else:
            splits, _ = task(self.config)
            images = followed_images(splits.train) if _checked_split(split) == "train" else splits.test
            h, fine = features_of(self.model(epoch), images.images), images.labels
        return FeatureSet(h, fine, self.grouping.coarse(fine), *self.head(epoch))

    def model(self, epoch: int = -1) -> Classifier:
        """The network at a measured epoch, -1 is the last; on the CPU, in evaluation mode.

        Raises
        ------
        ValueError : an epoch that was not measured.
        StoreError : a file that cannot be read, or is damaged; a released run, which holds no weights.
        """
        epoch, end = self._measured(epoch), self.measured_epochs[-1]
        name = "model.safetensors" if epoch == end else epoch_file("weights", epoch)
        tensors = read_tensors(self.folder / name)[0]
        channels, *size = self.image_shape
        c = self.config
        model = build_model(c.arch, c.width, channels, tuple(size), self.grouping.num_coarse, c.l2_features)
        model.load_state_dict(tensors)
        return model.eval()

    def _measured(self, epoch: int) -> int:
        allowed = self.measured_epochs
        if epoch == -1:
            return allowed[-1]
        if epoch not in allowed:
            raise ValueError(f"epoch {epoch} was not measured; measured: {', '.join(map(str, allowed))}")
        return epoch


def _checked_split(split: str) -> str:
    if split not in ("train", "test"):
        raise ValueError(f"unknown split {split!r}; allowed: train, test")
    return split
