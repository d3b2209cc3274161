"""t-SNE of features: for the eye, and for clustering what lies apart only locally."""

from __future__ import annotations

import numpy as np
import torch

from nclib.errors import MissingPackage
from nclib.measures.arrays import SEEDS, ArrayLike, as_features, as_whole

INSTALL = "t-SNE needs openTSNE: pip install openTSNE; clustering has methods without it, such as 'kmeans'"
STARTS = ("pca", "random")
FEWEST = 5  # samples; with fewer no perplexity above one is left
SPREAD = 1e-4  # standard deviation of a start, below which early forces are attractive
EXPONENT = 40  # of two, of a size whose squares float32 holds well; t-SNE depends on no unit
GRID_FROM = 8_000  # samples from which forces on a grid are cheaper than a tree's


def tsne(
    h: ArrayLike, perplexity: float = 30, seed: int = 0, initialization: str | np.ndarray = "pca"
) -> np.ndarray:
    """Embed features in the plane.

    Parameters
    ----------
    h : (N, D) features.
    perplexity : effective number of neighbours, lowered to (N - 1) / 3 where that is less.
    seed : of the neighbour search, and of a random start.
    initialization : where points start: "pca", the principal components; "random"; or (N, 2) coordinates, of
        which t-SNE takes the arrangement and not the scale, such as the embedding of an earlier epoch.

    Returns
    -------
    (N, 2) float64 coordinates without unit, the same for the same seed on one machine.

    Raises
    ------
    MissingPackage : openTSNE is not installed.
    ValueError : features that are not finite, fewer than five samples, all samples equal (to the
        precision of squared distances), a perplexity below 1, an unknown start, or one of another shape.

    Notes
    -----
    van der Maaten and Hinton (2008), as openTSNE computes it by default: 250 iterations with
    exaggeration 12, then 500 without. Repulsion comes from a tree (Barnes-Hut), O(N log N), or for
    many samples from interpolation on a grid, O(N).
    """
    try:
        from openTSNE import TSNE  # not needed to train and to measure, so not to import nclib either
    except ModuleNotFoundError:
        raise MissingPackage(INSTALL) from None
    if isinstance(initialization, str) and initialization not in STARTS:
        raise ValueError(f"unknown initialization {initialization!r}; choose one of {', '.join(STARTS)}")
    if not perplexity >= 1:
        raise ValueError(f"perplexity={perplexity!r}: expected 1 neighbour or more, for example 30")
    seed = as_whole(seed, "seed", *SEEDS)
    h = as_features(h).to(torch.float64).cpu()
    if len(h) < FEWEST:
        raise ValueError(f"t-SNE needs at least {FEWEST} samples; got {len(h)}")
    if not (h - h[0]).square().any():
        raise ValueError(f"t-SNE needs samples that differ; all {len(h)} are equal")
    h = _of_moderate_size(h - h.mean(dim=0))
    if h.shape[1] == 1:  # a start in the plane needs two components
        h = torch.nn.functional.pad(h, (0, 1))
    if not isinstance(initialization, str):
        initialization = _start(initialization, len(h))
    embedding = TSNE(
        perplexity=min(perplexity, (len(h) - 1) / 3),
        initialization=initialization,
        negative_gradient_method="fft" if len(h) >= GRID_FROM else "bh",
        n_jobs=1,  # threads that wait for each other every iteration crawl on a shared machine
        random_state=seed,
    ).fit(h.numpy())
    return np.array(embedding, dtype=np.float64)


def _of_moderate_size(h: torch.Tensor) -> torch.Tensor:
    """Features of which float32 holds squared distances: others times a power of two, which loses nothing."""
    exponent = int(torch.frexp(h.abs().max()).exponent)
    return h * 2.0**-exponent if abs(exponent) > EXPONENT else h


def _start(points: ArrayLike, count: int) -> np.ndarray:
    """Coordinates to start from, (count, 2): small, as t-SNE wants them, and about the origin."""
    points = as_features(points, "initialization").to(torch.float64).cpu().numpy()
    if points.shape != (count, 2):
        raise ValueError(f"initialization must have shape ({count}, 2); got {points.shape}")
    points = points - points.mean(axis=0)
    return points / (points[:, 0].std() or 1) * SPREAD
