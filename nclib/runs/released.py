"""Released runs: small, self-contained results that travel with the book.

    book/released/NAME/run.json             configuration, provenance, history, results
    book/released/NAME/arrays.safetensors   moments and heads at the measured epochs; t-SNE of the
                                            test features; for one run a data set, these features
    book/released/NAME/manifest.json        SHA-256 and length of both

A released run answers the same questions as one in the store, except for train features and weights.
Its test features are residuals from the coarse-class means, in two bytes each. ``results["feature_error"]``
is the largest error, in units of the root mean square residual.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nclib.config import RunConfig, recipe_config
from nclib.errors import StoreError
from nclib.networks.features import FeatureSet
from nclib.networks.models import Classifier
from nclib.paths import RELEASED
from nclib.runs.run import Run
from nclib.storage import store
from nclib.storage.files import read_tensors

FEATURES = "features/test/"  # where the test features lie among the arrays
EMBEDDING = "tsne/test"


class ReleasedRun(Run):
    """A run that was published with the book; ``results`` holds the numbers of ``nclib.runs.evaluation``."""

    released = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.results: dict[str, Any] = self.record["results"]

    @cached_property
    def _arrays(self) -> dict[str, Tensor]:
        return read_tensors(self.folder / "arrays.safetensors")[0]

    @cached_property
    def snapshots(self) -> dict[str, Tensor]:
        return {name: t for name, t in self._arrays.items() if name[0].isdigit()}  # "EPOCH/..."

    @property
    def embedding(self) -> np.ndarray | None:
        """t-SNE of the test features inside each super-class, (N, 2), if it was released."""
        return self._arrays[EMBEDDING].numpy() if EMBEDDING in self._arrays else None

    @property
    def feature_splits(self) -> tuple[str, ...]:
        """("test",), or none: test features were released with one run a data set."""
        return ("test",) if FEATURES + "residual" in self._arrays else ()

    def features(self, split: str, epoch: int = -1) -> FeatureSet:
        """Features of the test split at the end, rounded as ``results["feature_error"]`` says."""
        if self._measured(epoch) != self.measured_epochs[-1]:
            raise self._lacks(f"features of epoch {epoch}")
        if split != "test" or FEATURES + "residual" not in self._arrays:
            raise self._lacks(f"{split} features")
        residual, means, scale, fine = (
            self._arrays[FEATURES + part] for part in ("residual", "means", "scale", "fine")
        )
        fine = fine.long()
        coarse = self.grouping.coarse(fine)
        weight, bias = self.head()
        h = means[coarse] + residual.float() * scale
        return FeatureSet(h, fine, coarse, weight, bias)

    def model(self, epoch: int = -1) -> Classifier:
        """Not released: the weights are not part of a released run."""
        raise self._lacks("weights")

    def _lacks(self, what: str) -> StoreError:
        return StoreError(
            f"the released run {self.folder.name} holds no {what}. get_run(..., released=False) trains it "
            f"again; that took {self.provenance['seconds'] / 60:.0f} minutes on {self.provenance['device']}."
        )


def released_runs(*names: str) -> list[ReleasedRun]:
    """Released runs, by name; each is verified before it is read.

    Parameters
    ----------
    names : patterns, one of which a name must match, for example "cifar10-laptop-*"; without any, all runs.
    """
    found = {path.parent for pattern in names or "*" for path in RELEASED.glob(f"{pattern}/run.json")}
    return [_verified(folder) for folder in sorted(found) if not folder.name.startswith(".")]


def find_released(config: RunConfig) -> ReleasedRun | None:
    """The released run of exactly this configuration, or None."""
    return next((run for run in released_runs() if run.config == config), None)


def released_cases(cases: Mapping[str, Mapping[str, Any]], recipe: str) -> dict[str, list[ReleasedRun]]:
    """Released runs of a recipe by case, in the order of their seeds; a case that has none is left out.

    Parameters
    ----------
    cases : by name, the fields of ``RunConfig`` in which the case differs, as for ``nclib.get_cases``.
    recipe : a name in ``recipes.toml``.
    """
    runs = sorted(released_runs(), key=lambda run: run.config.seed)
    found = {}
    for name, fields in cases.items():
        config = recipe_config(recipe, **fields)
        found[name] = [run for run in runs if replace(run.config, seed=config.seed) == config]
    return {name: of_case for name, of_case in found.items() if of_case}


def encode_features(f: FeatureSet) -> tuple[dict[str, Tensor], float]:
    """Test features as half-precision residuals, and their largest error in units of the spread."""
    means = torch.stack([f.h[f.coarse == c].mean(0) for c in range(len(f.weight))])  # (C, D)
    residual = f.h - means[f.coarse]  # (N, D)
    scale = residual.square().mean().sqrt()
    half = (residual / scale).half()
    error = float((half.float() * scale - residual).abs().max() / scale)
    parts = {"residual": half, "means": means, "scale": scale, "fine": f.fine.to(torch.uint8)}
    return {FEATURES + name: tensor for name, tensor in parts.items()}, error


def _verified(folder: Path) -> ReleasedRun:
    problem = store.damage(folder)
    if problem:
        raise StoreError(f"the released run {folder} is damaged: {problem}. Restore it with git checkout.")
    return ReleasedRun(folder)
