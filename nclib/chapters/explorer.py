"""What the explorer in the browser shows: features at every measured epoch in the plane, images and labels.

    write(run, folder)                        # data.json and sheets of images, once, from a run of the store
    browser_data(folder, images=50)           # as the page carries it, with the first 50 images of each class

The form of both is that of ``nclib.report.explorer``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from scipy.linalg import orthogonal_procrustes
from torch import Tensor

from nclib.chapters.figures import MARKERS, described, theme
from nclib.data.datasets import load
from nclib.measures.collapse import collapse_of
from nclib.measures.embedding import tsne
from nclib.measures.reconstruction import match_labels, reconstruct_labels
from nclib.measures.variance import explained_variance_of
from nclib.paths import REPOSITORY
from nclib.report.explorer import (
    COLUMNS,
    EACH,
    decoded,
    encoded,
    for_script,
    of_one_size,
    quantised,
    sheets,
    webp_url,
)
from nclib.runs.evaluation import count_images, fine_per_coarse
from nclib.runs.provenance import provenance
from nclib.runs.run import Run
from nclib.storage.files import write_bytes, write_json

FOLDER = REPOSITORY / "book" / "explorer"
PER_CLASS = 150  # test images, the first of each class in the data set's order
PANELS = 4  # epochs side by side, where there is no JavaScript
TITLES = {"cifar10": "CIFAR-10"}
LICENCES = {
    "cifar10": "CIFAR-10 (A. Krizhevsky, Learning multiple layers of features from tiny images, technical "
    "report, University of Toronto, 2009). Its authors ask to cite the report and state no licence.",
}


def write(run: Run, folder: Path) -> None:
    """Write what the explorer shows of a run of the store: data.json and sheets of test images."""
    test = load(run.config.dataset).test
    rows = chosen_images(test.labels.numpy(), PER_CLASS)
    for i, sheet in enumerate(sheets(test.images[rows])):
        write_bytes(folder / f"sheet-{i:02d}.webp", sheet)
    write_json(folder / "data.json", run_data(run, rows))


def chosen_images(fine: np.ndarray, per_class: int) -> np.ndarray:
    """The first images of every class, ``EACH`` of each class in turn: so any first part is balanced.

    Parameters
    ----------
    fine : (N,) fine labels, in the data set's order.
    per_class : a multiple of ``EACH``.

    Returns
    -------
    (per_class C,) rows of ``fine``: 50 of class 0, 50 of class 1, ..., the next 50 of class 0, ...
    """
    of_class = [np.flatnonzero(fine == c)[:per_class] for c in range(fine.max() + 1)]
    return np.concatenate(
        [rows[start : start + EACH] for start in range(0, per_class, EACH) for rows in of_class]
    )


def run_data(run: Run, rows: np.ndarray) -> dict[str, Any]:
    """What ``nclib.report.explorer`` describes, of the test images ``rows``, without addresses of sheets."""
    epochs = run.measured_epochs
    features = [run.features("test", epoch) for epoch in epochs]
    grouping = run.grouping
    fine = features[0].fine[rows].numpy()
    coarse = grouping.coarse(features[0].fine)[rows].numpy()
    pseudo = [
        match_labels(reconstruct_labels(f.h, f.coarse, fine_per_coarse(run), "kmeans"), f.fine)
        for f in features
    ]
    shown = [f.logits().argmax(dim=1).numpy()[rows] for f in features]
    groups = grouping.fine_to_coarse.tolist()
    names = {"fine": list(grouping.fine_names), "coarse": list(grouping.coarse_names)}
    members = [np.flatnonzero(coarse == c) for c in range(grouping.num_coarse)]
    return {
        "title": f"{TITLES.get(run.config.dataset, run.config.dataset)} test features",
        "caption": caption(run),
        "source": LICENCES.get(run.config.dataset, ""),
        "provenance": {"key": run.key, "config": run.record["config"], "trained": run.provenance,
                       "embedded": provenance(torch.device("cpu"))},
        "unit": "test image",
        "ids": encoded(rows, np.uint16),
        "epochs": epochs,
        "views": [
            view(name, chosen, [f.h[rows[chosen]] for f in features])
            for name, chosen in zip(
                [*grouping.coarse_names, "All super-classes"], [*members, np.arange(len(rows))], strict=True
            )
        ],
        "colourings": [
            {"name": "Class", "categories": names["fine"], "groups": groups, "values": encoded(fine)},
            {"name": "Pseudo-label (k-means)", "categories": names["fine"], "groups": groups,
             "values": encoded([match.labels[rows] for match in pseudo])},
            {"name": "Super-class", "categories": names["coarse"], "values": encoded(coarse)},
            {"name": "Predicted super-class", "categories": names["coarse"], "values": encoded(shown)},
            {"name": "Prediction", "categories": ["right", "wrong"],
             "values": encoded([p != coarse for p in shown])},
        ],
        "curves": curves(run, [match.labels for match in pseudo]),
        "sheets": {"tile": run.image_shape[-1], "columns": COLUMNS, "each": EACH},
    }  # fmt: skip


def caption(run: Run) -> str:
    """What was trained, and on what the curves are measured."""
    c = run.config
    network = {"resnet18": "ResNet-18"}.get(c.arch, c.arch)
    augment = {"crop-flip": "random crops and flips", "none": "no augmentation"}.get(c.augment, c.augment)
    measured = count_images(run, "test")
    return (
        f"One run: {TITLES.get(c.dataset, c.dataset)}, {network} of width {c.width}, {c.epochs} epochs, "
        f"{augment}, seed {c.seed}. "
        f"All curves but the last are measured on all {measured:,} test images."
    )


def view(name: str, rows: np.ndarray, features: Iterable[Tensor]) -> dict[str, Any]:
    """Some of the points by themselves. ``features`` are theirs, (n, D) at every epoch."""
    return {
        "name": name,
        "rows": encoded(rows, np.uint16),
        "points": encoded(quantised(trail(features)), np.uint16),
    }


def trail(features: Iterable[Tensor]) -> np.ndarray:
    """t-SNE at every epoch, (E, n, 2): the first from principal components, each other from the last."""
    points: list[np.ndarray] = []
    for h in features:
        points.append(tsne(h, initialization=points[-1] if points else "pca"))
    return of_one_size(turned(np.stack(points)))


def turned(points: np.ndarray) -> np.ndarray:
    """Embeddings (E, n, 2), each rotated or mirrored to move least; t-SNE does not fix their orientation.

    The first, of the untrained network, has little in common with the second: it is laid with its long axis
    along the first coordinate, as all others together are, and only mirrored to move least.
    """
    later = list(points[1:2])
    for each in points[2:]:
        later.append(each @ orthogonal_procrustes(each, later[-1])[0])
    first = along(points[:1])[0]
    if not later:
        return first[None]
    rest = along(np.stack(later))
    mirrored = [first * signs for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
    return np.stack([min(mirrored, key=lambda each: np.square(each - rest[0]).sum()), *rest])


def along(points: np.ndarray) -> np.ndarray:
    """Points (E, n, 2), all turned alike, so that they vary most along the first coordinate."""
    return points @ np.linalg.svd(points.reshape(-1, 2), full_matrices=False)[2].T


def curves(run: Run, pseudo: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Numbers of every view and epoch: of each super-class, then of all.

    Parameters
    ----------
    pseudo : of every epoch (N,) matched pseudo-labels of all test images.
    """
    epochs, of_class = run.measured_epochs, run.grouping.fine_to_coarse
    fine = run.features("test").fine
    coarse = run.grouping.coarse(fine)
    views = [(coarse == c).numpy() for c in range(run.grouping.num_coarse)] + [np.full(len(fine), True)]
    explained = [explained_variance_of(run.moments("test", epoch), of_class) for epoch in epochs]
    explained = [[*shares.tolist(), float(shares.nanmean())] for shares in explained]  # (E, views)
    nc1 = [collapse_of(run.moments("test", epoch).grouped(of_class))["nc1"] for epoch in epochs]
    accuracy = {record["epoch"]: record.get("train_accuracy") for record in run.history}
    reconstructed = [[np.mean(labels[rows] == fine.numpy()[rows]) for rows in views] for labels in pseudo]
    return [
        {"name": "Explained variance η²", "values": rounded(np.transpose(explained)), "digits": 2},
        {"name": "Pseudo-labels that match", "values": rounded(np.transpose(reconstructed)), "percent": True},
        {"name": "NC1 of the super-classes", "values": rounded([nc1] * len(views)), "digits": 2, "log": True},
        {"name": "Accuracy on training images", "percent": True,
         "values": rounded([[accuracy[epoch] for epoch in epochs]] * len(views))},
    ]  # fmt: skip


def rounded(values: ArrayLike) -> list[list[float]]:
    return np.round(values, 5).tolist()


def browser_data(folder: Path, images: int = PER_CLASS) -> str:
    """JSON text for a page: the first ``images`` of each class, and these images.

    Parameters
    ----------
    folder : that ``write`` has written.
    images : of each class, a multiple of ``EACH``, ``PER_CLASS`` at most.

    Raises
    ------
    ValueError : another number of images.
    """
    data = json.loads((folder / "data.json").read_text("utf-8"))
    if images % EACH or not 0 < images <= PER_CLASS:
        raise ValueError(f"images={images}: expected a multiple of {EACH}, {PER_CLASS} at most")
    del data["provenance"]
    count = len(decoded(data["ids"], np.uint16)) * images // PER_CLASS
    data = first_points(data, count)
    files = sorted(folder.glob("sheet-*.webp"))[: count // EACH]
    data["sheets"]["urls"] = [webp_url(path.read_bytes()) for path in files]
    return for_script(data)


def first_points(data: dict[str, Any], count: int) -> dict[str, Any]:
    """The data of the first ``count`` points only."""
    epochs, ids = len(data["epochs"]), decoded(data["ids"], np.uint16)
    views, colourings = [], []
    for of in data["views"]:
        rows = decoded(of["rows"], np.uint16)
        points = decoded(of["points"], np.uint16).reshape(epochs, len(rows), 2)
        kept = rows < count
        views.append(
            of | {"rows": encoded(rows[kept], np.uint16), "points": encoded(points[:, kept], np.uint16)}
        )
    for of in data["colourings"]:
        values = decoded(of["values"]).reshape(-1, len(ids))
        colourings.append(of | {"values": encoded(values[:, :count])})
    return data | {"ids": encoded(ids[:count], np.uint16), "views": views, "colourings": colourings}


def full_caption(data: dict[str, Any], images: int) -> str:
    """The caption of a page that shows the first ``images`` of each class."""
    return (
        f"{data['caption']} Points: the first {images} test images of each class. The t-SNE of "
        f"each epoch starts from that of the epoch before; its axes have no unit. Images: {data['source']}"
    )


def panels_of(data: dict[str, Any]) -> list[int]:
    """Positions of epochs that are spread evenly over those measured, the first and the last among them."""
    return np.linspace(0, len(data["epochs"]) - 1, PANELS).round().astype(int).tolist()


def epochs_text(data: dict[str, Any]) -> str:
    """What ``epochs_figure`` shows, in words."""
    at = panels_of(data)
    first, last = (data["curves"][0]["values"][0][i] for i in (at[0], at[-1]))
    return (
        f"t-SNE of test features of the super-class {data['views'][0]['name']} at epochs "
        f"{', '.join(str(data['epochs'][i]) for i in at)}, coloured by class. They explain {first:.2f} "
        f"of the variance inside the super-class at first and {last:.2f} at the end."
    )


@theme()
def epochs_figure(data: dict[str, Any]) -> Axes:
    """The first view of ``data.json`` at a few epochs side by side, coloured by fine class."""
    rows = decoded(data["views"][0]["rows"], np.uint16)
    points = decoded(data["views"][0]["points"], np.uint16).reshape(len(data["epochs"]), len(rows), 2)
    names = data["colourings"][0]["categories"]
    fine = decoded(data["colourings"][0]["values"])[rows]
    figure, axes = plt.subplots(
        1, PANELS, figsize=(2.5 * PANELS, 2.1), sharex=True, sharey=True, layout="constrained"
    )
    for panel, i in zip(axes, panels_of(data), strict=True):
        for member, marker in zip(np.unique(fine), ("o", "^", *MARKERS), strict=False):
            chosen = points[i, fine == member]
            panel.scatter(*chosen.T, s=9, lw=0, marker=marker, label=names[member])
        explained = data["curves"][0]["values"][0][i]
        panel.set(xticks=[], yticks=[], aspect="equal")
        panel.set_title(f"epoch {data['epochs'][i]}: η² = {explained:.2f}", fontsize="medium")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=len(handles[0]), markerscale=2, frameon=False)
    return described(axes[0], epochs_text(data))
