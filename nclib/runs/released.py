"""Released runs: small, self-contained results that travel with the book.

    book/released/NAME/run.json             format, configuration, provenance, history, results
    book/released/NAME/arrays.safetensors   moments and heads at the measured epochs; t-SNE of the
                                            test features; for one run a data set, features
    book/released/NAME/manifest.json        SHA-256 and length of both
    book/released/names.json                names of early runs, whose records lack them, by key

A released run answers the same questions as one in the store, except for weights. Where it has features,
these are those of all test images and of ``TRAIN_IMAGES`` of train, at the end of training, and
``references``: ``REFERENCE_IMAGES`` of test at initialisation, and as principal components of their pixels.
With these a page needs no data set. Runs of earlier releases have test features only.

All are residuals from the coarse-class means, in two bytes each. ``results["feature_errors"]`` has the
largest error of each, in units of the root mean square residual; ``results["feature_error"]`` that of test.

Class means among the moments are rounded to float32, by at most 2^-24 of each number; the measures in
``results`` come from the unrounded. Of covariances, which are symmetric but for rounding, the lower triangle
is kept, row by row; early releases of ten classes have all of it.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nclib.config import RunConfig, recipe_config
from nclib.errors import NclibError, StoreError
from nclib.networks.features import FeatureSet
from nclib.networks.models import Classifier
from nclib.paths import RELEASED
from nclib.runs.rows import of_rows, stratified_rows
from nclib.runs.run import Run
from nclib.storage import integrity, store
from nclib.storage.files import Damaged, read_tensors

EARLY_NAMES = RELEASED / "names.json"
FEATURES = "features/"  # before the names of features among the arrays
TRAIN_IMAGES = 5_000  # whose features are released; as REFERENCE_IMAGES those of ``stratified_rows``
REFERENCE_IMAGES = 2_000
EMBEDDING = "tsne/test"
FILES = {"run.json", "arrays.safetensors"}
REPLACED = ".old-"  # before the name of a run whose place a new release takes
RETRIES = (0.01, 0.1)  # seconds until a run that could not be read is read again, where there are no locks


class ReleasedRun(Run):
    """A run that was published with the book; ``results`` holds the numbers of ``nclib.runs.evaluation``."""

    released = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if not isinstance(self.record.get("results"), dict):
            raise Damaged("run.json holds no results")
        self.results: dict[str, Any] = self.record["results"]

    @cached_property
    def arrays(self) -> dict[str, Tensor]:
        """All that was released, by name: moments, features, embedding."""
        return read_tensors(self.folder / "arrays.safetensors")[0]

    @cached_property
    def snapshots(self) -> dict[str, Tensor]:
        """As those of ``Run``, but for the rounding that the module names."""
        kept = {name: t for name, t in self.arrays.items() if name[0].isdigit()}  # "EPOCH/..."
        return decode_moments(kept)

    @property
    def embedding(self) -> np.ndarray | None:
        """t-SNE of the test features inside each super-class, (N, 2), if it was released."""
        return self.arrays[EMBEDDING].numpy() if EMBEDDING in self.arrays else None

    @property
    def feature_splits(self) -> tuple[str, ...]:
        """Splits of which features were released; they come with one run a data set."""
        return tuple(split for split in ("train", "test") if self._holds(split))

    @cached_property
    def references(self) -> dict[str, FeatureSet]:
        """Some test images in three ways, see ``Run``; empty if they were not released."""
        if not self._holds("untrained"):
            return {}
        test = self.features("test")
        return {
            "features": of_rows(test, stratified_rows(test.fine, REFERENCE_IMAGES)),
            "untrained": self._decoded("untrained", epoch=0),
            "pixels": self._decoded("pixels"),
        }

    def features(self, split: str, epoch: int = -1) -> FeatureSet:
        """Features at the end, of test or of some images of train, rounded as the module says."""
        if self._measured(epoch) != self.measured_epochs[-1]:
            raise self._lacks(f"features of epoch {epoch}")
        if split not in self.feature_splits:
            raise self._lacks(f"{split} features")
        return self._decoded(split)

    def _holds(self, name: str) -> bool:
        return f"{FEATURES}{name}/residual" in self.arrays

    def _decoded(self, name: str, epoch: int = -1) -> FeatureSet:
        residual, means, scale, fine = (
            self.arrays[f"{FEATURES}{name}/{part}"] for part in ("residual", "means", "scale", "fine")
        )
        fine = fine.long()
        coarse = self.grouping.coarse(fine)
        return FeatureSet(means[coarse] + residual.float() * scale, fine, coarse, *self.head(epoch))

    def model(self, epoch: int = -1) -> Classifier:
        """Not released: the weights are not part of a released run."""
        raise self._lacks("weights")

    def _lacks(self, what: str) -> StoreError:
        return StoreError(
            f"the released run {self.folder.name} holds no {what}. get_run(..., released=False) trains it "
            f"again; that took {self.provenance['seconds'] / 60:.0f} minutes on {self.provenance['device']}."
        )


def released_runs(*names: str) -> list[ReleasedRun]:
    """Released runs, by name; each is verified before it is read. A damaged one is left out, named on stderr.

    Parameters
    ----------
    names : patterns, one of which a name must match, for example "cifar10-laptop-*"; without any, all runs.

    Returns
    -------
    list of ReleasedRun by ascending name, empty if none matches.
    """
    wanted = [name for name in _names() if any(fnmatchcase(name, pattern) for pattern in names or "*")]
    return [run for run in (_or_warning(_named, name) for name in wanted) if run]


def find_released(config: RunConfig) -> ReleasedRun | None:
    """The released run of exactly this configuration, or None.

    Raises
    ------
    StoreError : it is there, and damaged. Others that cannot be read are named on stderr, and if none is of
        this configuration also those that say something else than they did.
    """
    read = {name: run for name in _names() if (run := _or_warning(_unverified, name))}
    for name, run in read.items():
        if run.config == config:
            return _patiently(_verified, name)
    for name in read:  # one of these may have been it
        _or_warning(_recorded, name)
    return None


def released_cases(cases: Mapping[str, Mapping[str, Any]], recipe: str) -> dict[str, list[ReleasedRun]]:
    """Released runs of a recipe by case, in the order of their seeds; a case that has none is left out.

    Parameters
    ----------
    cases : by name, the fields of ``RunConfig`` in which the case differs, as for ``nclib.get_cases``.
    recipe : a name in ``recipes.toml``.

    Returns
    -------
    dict by name of the case: a list of ReleasedRun by ascending seed.
    """
    runs = sorted(released_runs(), key=lambda run: run.config.seed)
    found = {}
    for name, fields in cases.items():
        config = recipe_config(recipe, **fields)
        found[name] = [run for run in runs if replace(run.config, seed=config.seed) == config]
    return {name: of_case for name, of_case in found.items() if of_case}


def encode_moments(snapshots: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a run keeps of its measured epochs, in half of the bytes: see the module."""
    encoders = {"means": Tensor.float, "projected": _triangle}
    return {name: encoders.get(name.split("/")[-1], _as_it_is)(t) for name, t in snapshots.items()}


def decode_moments(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``encode_moments``, but for rounding."""
    decoders = {"means": Tensor.double, "projected": _symmetric}
    return {name: decoders.get(name.split("/")[-1], _as_it_is)(t) for name, t in arrays.items()}


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _triangle(matrix: Tensor) -> Tensor:
    """The lower triangle of a matrix (C, C), row by row."""
    return matrix[*torch.tril_indices(*matrix.shape)]


def _symmetric(triangle: Tensor) -> Tensor:
    """The symmetric matrix (C, C) of a lower triangle; a whole matrix is returned as it is."""
    if triangle.ndim == 2:
        return triangle
    size = math.isqrt(2 * len(triangle))
    matrix = triangle.new_zeros(size, size)
    matrix[*torch.tril_indices(size, size)] = triangle
    return matrix + matrix.tril(-1).T


def encode_features(f: FeatureSet, name: str = "test") -> tuple[dict[str, Tensor], float]:
    """Features as half-precision residuals, and their largest error in units of the spread."""
    means = torch.stack([f.h[f.coarse == c].mean(0) for c in range(len(f.weight))])  # (C, D)
    residual = f.h - means[f.coarse]  # (N, D)
    scale = residual.square().mean().sqrt().clamp(min=torch.finfo(f.h.dtype).tiny)
    half = (residual / scale).half()
    error = float((half.float() * scale - residual).abs().max() / scale)
    parts = {"residual": half, "means": means, "scale": scale, "fine": f.fine.to(torch.uint8)}
    return {f"{FEATURES}{name}/{part}": tensor for part, tensor in parts.items()}, error


def _names() -> list[str]:
    """Names of the runs under book/released, ascending; of one that is being replaced too."""
    if not RELEASED.is_dir():
        return []
    files = ("run.json", "manifest.json")
    with in_place():
        runs = [path for path in RELEASED.iterdir() if any((path / file).is_file() for file in files)]
    names = {path.name.removeprefix(REPLACED) for path in runs}
    return sorted(name for name in names if not name.startswith("."))


@contextmanager
def in_place(change: bool = False) -> Iterator[None]:
    """No release takes the place of another meanwhile, but one's own with ``change``.

    A lock on the folder itself, for which nothing is written.
    """
    folder = os.open(RELEASED, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks, as some of a network
            fcntl.flock(folder, fcntl.LOCK_EX if change else fcntl.LOCK_SH)
        yield
    finally:
        os.close(folder)


def _or_warning(read: Callable[[str], ReleasedRun], name: str) -> ReleasedRun | None:
    """The run of a name, or what is wrong with it on stderr: the others can still be read."""
    try:
        return _patiently(read, name)
    except NclibError as error:
        print(f"left out: {error}", file=sys.stderr)
        return None


def _patiently(read: Callable[[str], ReleasedRun], name: str) -> ReleasedRun:
    """Read a run, several times if need be: without locks a release may take its place just now."""
    for seconds in RETRIES:
        try:
            with in_place():
                return read(name)
        except NclibError:
            time.sleep(seconds)
    return read(name)


def _verified(name: str) -> ReleasedRun:
    """A run whose every file was checked."""
    folder = _folder(name)
    if problem := integrity.damage(folder, lambda record: FILES):
        raise _damaged(folder, problem)
    run = _unverified(name)
    if problem := store.mislabelled(run.record):
        raise _damaged(folder, problem)
    return run


def _named(name: str) -> ReleasedRun:
    """A run whose every file was checked, and that it was released under this name."""
    run = _verified(name)
    released_as = run.record.get("name") or _early_names().get(run.key, name)
    if released_as != name:
        raise _damaged(run.folder, f"it is {released_as}, under another name")
    return run


@cache
def _early_names() -> dict[str, str]:
    """Names, by key, of runs that were released before their records held them.

    Raises
    ------
    StoreError : the file is missing or damaged.
    """
    try:
        return json.loads(EARLY_NAMES.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{EARLY_NAMES} cannot be read, take it from the repository again: {error}"
        ) from error


def _recorded(name: str) -> ReleasedRun:
    """A run whose run.json was checked."""
    folder = _folder(name)
    if problem := integrity.record_damage(folder):
        raise _damaged(folder, problem)
    return _unverified(name)


def _unverified(name: str) -> ReleasedRun:
    """A run as its run.json describes it."""
    folder = _folder(name)
    try:
        return ReleasedRun(folder)
    except Damaged as error:
        raise _damaged(folder, error) from error


def require_free(name: str) -> None:
    """Raise StoreError if there is a released folder of this name."""
    if (folder := _folder(name)).exists():
        raise StoreError(
            f"{folder} is another run's, or damaged: nothing is released there. Give the run another name, "
            "restore the folder with git checkout, or delete it."
        )


def _damaged(folder: Path, problem: object) -> StoreError:
    return StoreError(f"the released run {folder} is damaged: {problem}. Restore it with git checkout.")


def _folder(name: str) -> Path:
    """Where a run lies: beside its place while it is replaced, and if the process was killed then."""
    folder = RELEASED / name
    return folder if folder.exists() else RELEASED / (REPLACED + name)
