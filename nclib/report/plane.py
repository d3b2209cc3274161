"""A random part of the features in the plane, for the explorer of ``nclib.report.explorer``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from nclib.measures.arrays import rows_by_class
from nclib.measures.embedding import FEWEST, tsne
from nclib.report.explorer import COLUMNS, EACH, encoded, of_one_size, quantised, sheets, webp_url
from nclib.report.findings import shortened
from nclib.report.pictures import TILE, tile

MOST = 1500  # samples that are embedded
CLASSES = 20  # that are shown together: those with sub-populations, then the largest


def chosen_rows(y: np.ndarray, classes: Sequence[int], seed: int) -> np.ndarray:
    """Random samples, about as many of each class as of every other, in random order."""
    rng = np.random.default_rng(seed)
    each = MOST // len(classes)
    return rng.permutation(np.concatenate([rng.permutation(np.flatnonzero(y == c))[:each] for c in classes]))


def embedded(h: np.ndarray, seed: int) -> tuple[np.ndarray, str] | None:
    """Coordinates (n, 2) and how they were found; None for fewer than five samples, or equal ones."""
    if len(h) < FEWEST or not np.ptp(h, axis=0).any():
        return None
    try:
        return tsne(h, seed=seed), "t-SNE"
    except ImportError:  # openTSNE is an extra
        x = h - h.mean(axis=0, dtype=np.float64)
        x = np.pad(x, ((0, 0), (0, max(0, 2 - x.shape[1]))))
        return x @ np.linalg.svd(x, full_matrices=False)[2][:2].T, "the first two principal components"


def explorer_data(
    points: np.ndarray,
    method: str,
    names: Sequence[str],
    classes: np.ndarray,
    parts: np.ndarray,
    class_names: Sequence[str],
    counts: Sequence[int],
    images: Sequence[Any] | None,
) -> dict[str, Any]:
    """The JSON object that the explorer reads.

    Parameters
    ----------
    points : (n, 2) coordinates.
    method : how they were found.
    names : of the n samples.
    classes, parts : (n,) position among ``class_names``, and sub-population.
    class_names, counts : of the classes that are shown, and how many sub-populations each has.
    images : n images or None each; None if there are none at all.
    """
    first = np.concatenate([[0], np.cumsum(counts)])  # of each class's sub-populations
    rows = {"All classes shown here" if len(counts) > 1 else class_names[0]: np.arange(len(points))}
    of_class = rows_by_class(classes, len(counts))
    several = [c for c, count in enumerate(counts) if count > 1 and len(counts) > 1]
    views = [*rows.items(), *((shortened(class_names[c]), of_class[c]) for c in several if len(of_class[c]))]
    short = [shortened(name) for name in class_names]
    parts_named = [
        f"{name}: {k + 1}" if count > 1 else name
        for name, count in zip(short, counts, strict=True)
        for k in range(count)
    ]
    return {
        "title": method,
        "unit": "sample",
        "ids": [shortened(name) for name in names],
        "epochs": [0],
        "views": [
            {
                "name": shortened(name),
                "rows": encoded(at, np.uint16),
                "points": encoded(quantised(of_one_size(points[at][None])), np.uint16),
            }
            for name, at in views
        ],
        "colourings": [
            {
                "name": "Sub-population",
                "categories": parts_named,
                "groups": np.repeat(np.arange(len(counts)), counts).tolist(),
                "values": encoded(first[classes] + parts),
            },
            {"name": "Class", "categories": short, "values": encoded(classes)},
        ],
        "curves": [],
        "sheets": {"tile": TILE, "columns": COLUMNS, "each": EACH, "urls": _sheet_urls(images)},
    }


def _sheet_urls(images: Sequence[Any] | None) -> list[str]:
    if images is None:
        return []
    tiles = np.stack([tile(image) for image in images])
    missing = -len(tiles) % COLUMNS
    tiles = np.concatenate([tiles, np.zeros((missing, *tiles.shape[1:]), tiles.dtype)])
    return [webp_url(sheet) for sheet in sheets(torch.from_numpy(tiles))]
