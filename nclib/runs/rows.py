"""Some of a run's samples. Apart from what measures them, which loads scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from nclib.data.datasets import ImageSet
from nclib.networks.features import FeatureSet


def stratified_rows(labels: Tensor, count: int) -> Tensor:
    """Rows (count,) of the images that ``ImageSet.stratified`` takes, from their labels (N,) alone."""
    return ImageSet(torch.arange(len(labels)), labels, ()).stratified(count).images


def of_rows(f: FeatureSet, rows: Tensor) -> FeatureSet:
    """Some of the samples, by number or by a mask (N,)."""
    return replace(f, h=f.h[rows], fine=f.fine[rows], coarse=f.coarse[rows])
