"""References for features: the pixels, and the features at initialisation.

    neighbours(run)["test"]["all"]      # agreement in "features", "untrained", "pixels"

A run that was published with these results carries them; for others they are computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from nclib.config import RunConfig
from nclib.data.grouping import task
from nclib.measures.distances import class_distances
from nclib.measures.neighbours import neighbour_purity, purity_by_chance
from nclib.networks.features import FeatureSet, features_of
from nclib.networks.models import initial_model
from nclib.runs.rows import of_rows, stratified_rows
from nclib.runs.run import Run

NEIGHBOURS = 10
NEIGHBOUR_SAMPLES = 10_000  # of a split, whose neighbours are looked for among themselves
PIXEL_COMPONENTS = 50  # principal components of the images, where all pixels would be too many


def pixels(images: Tensor) -> Tensor:
    """Images (N, C, H, W) uint8 as vectors of numbers from 0 to 1, (N, C H W) float32."""
    return images.flatten(1).float() / 255


def pixel_components(images: Tensor) -> np.ndarray:
    """Principal components of the ``pixels`` of images, (N, 50) or fewer, float32."""
    x = pixels(images).numpy()  # (N, C H W)
    return PCA(min(PIXEL_COMPONENTS, *x.shape), random_state=0).fit_transform(x)


def pixel_distances(run: Run, split: str) -> Tensor:
    """``class_distances`` of the images themselves, (C, C); a released run carries them."""
    if "pixel_distances" in run.results:
        return torch.tensor(run.results["pixel_distances"][split], dtype=torch.float64)
    return _pixel_distances(replace(run.config, seed=0), split)


@cache  # the images of all seeds are the same
def _pixel_distances(config: RunConfig, split: str) -> Tensor:
    images = getattr(task(config)[0], split)
    return class_distances(pixels(images.images), images.labels)


def untrained(run: Run, split: str, rows: slice | Tensor = slice(None)) -> FeatureSet:
    """Features of the network at initialisation, of some rows of a split.

    The data set is read; weights are drawn again from the seed.
    """
    splits, grouping = task(run.config)
    model = initial_model(run.config, splits.train.images, grouping.num_coarse)
    images = getattr(splits, split)
    fine = images.labels[rows]
    weight, bias = (parameter.detach() for parameter in (model.head.weight, model.head.bias))
    return FeatureSet(features_of(model, images.images[rows]), fine, grouping.coarse(fine), weight, bias)


def spaces(run: Run, split: str) -> dict[str, FeatureSet]:
    """One split as features, as features at initialisation ("untrained"), and as pixels.

    Of more than ``NEIGHBOUR_SAMPLES`` samples a random choice of so many, the same in all three. Of test a
    run that was published with these ``references`` has them; for others the data set is read.
    """
    if split == "test" and run.references:
        return dict(run.references)
    f, images = run.features(split), getattr(task(run.config)[0], split)
    kept = stratified_rows(images.labels, len(f.h))  # a released run has some of train
    rows = np.random.default_rng(0).permutation(len(f.h))[:NEIGHBOUR_SAMPLES]
    rows = torch.as_tensor(np.sort(rows))
    return {
        "features": of_rows(f, rows),
        "untrained": untrained(run, split, kept[rows]),
        "pixels": replace(of_rows(f, rows), h=pixels(images.images[kept[rows]])),
    }


def neighbours(run: Run, k: int = NEIGHBOURS) -> dict[str, Any]:
    """k-NN label agreement in features, in features at initialisation and in pixels.

    Parameters
    ----------
    run : whose features; one that was published with the result for this k carries it.
    k : neighbours, see ``nclib.neighbour_purity``.

    Returns
    -------
    dict, JSON-ready. By split whose features are at hand: "features", "untrained" and "pixels",
    the mean agreement of each fine class, and "all", by the same names, the mean over samples; "n"
    samples and "chance".
    """
    if run.results.get("neighbours", {}).get("k") == k:
        return run.results["neighbours"]
    found: dict[str, Any] = {"k": k}
    for split in run.feature_splits:
        found[split] = neighbours_in(spaces(run, split), k)
    return found


def neighbours_in(spaces_of: Mapping[str, FeatureSet], k: int = NEIGHBOURS) -> dict[str, Any]:
    """``neighbours`` of one split, from its ``spaces``."""
    found: dict[str, Any] = {"all": {}}
    for name, f in spaces_of.items():
        purity = neighbour_purity(f.h, f.fine, f.coarse, k)
        fine = f.fine.numpy()
        found[name] = (np.bincount(fine, purity) / np.bincount(fine)).tolist()
        found["all"][name] = float(purity.mean())
    return found | {"chance": float(purity_by_chance(f.fine, f.coarse).mean()), "n": len(f.h)}
