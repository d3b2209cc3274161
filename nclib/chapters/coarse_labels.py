"""Chapter 2: coarse labels."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes

from nclib.chapters.figures import described, theme, wrapped
from nclib.data.datasets import ImageSet
from nclib.data.grouping import Grouping
from nclib.measures.distances import msdr_of
from nclib.measures.variance import explained_variance_of
from nclib.runs.run import Run


def structure_table(run: Run, split: str = "test") -> pd.DataFrame:
    """Explained variance of every super-class and MSDR of every fine class at the end of training.

    A row for each fine class, siblings side by side.
    """
    group, moments = run.grouping.fine_to_coarse, run.moments(split)
    explained = explained_variance_of(moments, group)[group]
    columns = {
        "super-class": group.tolist(),
        f"explained variance, {split}": explained.tolist(),
        f"MSDR, {split}": msdr_of(moments, group).tolist(),
    }
    table = pd.DataFrame(columns, index=pd.Index(run.grouping.fine_names, name="class"))
    return table.sort_values("super-class", kind="stable").round(2)


@theme()
def example_images_figure(images: ImageSet, grouping: Grouping, per_class: int = 4) -> Axes:
    """The first images of every fine class, one row for each super-class."""
    widest = max(len(grouping.members(c)) for c in range(grouping.num_coarse))
    rows = []
    for coarse in range(grouping.num_coarse):
        chosen = [
            index
            for fine in grouping.members(coarse)
            for index in torch.nonzero(images.labels == fine).flatten()[:per_class].tolist()
        ]
        tiles = images.images[chosen].permute(0, 2, 3, 1).numpy()  # (n, H, W, C)
        tiles = np.pad(
            tiles, ((0, widest * per_class - len(tiles)), (1, 1), (1, 1), (0, 0)), constant_values=255
        )
        rows.append(np.concatenate(tiles, axis=1))
    height = rows[0].shape[0]
    _, axes = plt.subplots(figsize=(8, 0.95 * len(rows) + 0.6), layout="constrained")
    axes.imshow(np.concatenate(rows).squeeze(), cmap="gray", aspect="equal")
    axes.set_yticks([height * (row + 0.5) for row in range(len(rows))], wrapped(grouping.coarse_names))
    axes.set_xticks([])
    axes.grid(False)
    axes.set_title("Each row is one super-class: one label for the network, several fine classes")
    return described(axes, f"Sample images; rows are the super-classes {', '.join(grouping.coarse_names)}.")
