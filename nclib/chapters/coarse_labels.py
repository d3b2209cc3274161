"""Chapter 2: coarse labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from nclib.chapters import distance_heatmaps
from nclib.chapters.conclusions import MOVED, Case, Statement
from nclib.chapters.distance_heatmaps import SPLITS
from nclib.chapters.figures import WIDTH, described, epochs_axis, theme, wrapped
from nclib.chapters.neural_collapse import Measures, of_split
from nclib.chapters.statistics import over_seeds
from nclib.data.datasets import ImageSet
from nclib.data.grouping import Grouping
from nclib.measures.collapse import share_along_means
from nclib.measures.distances import msdr_of
from nclib.measures.moments import Moments, centred
from nclib.measures.variance import explained_variance_of
from nclib.runs.baselines import pixel_distances
from nclib.runs.evaluation import count_images, halfway, mean_explained_variance
from nclib.runs.run import Run

SOME = 0.05  # explained variance: a twentieth; the choice is ours


def directions_table(runs_of: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """What is inside super-classes along the directions of their means, and across them, at both ends.

    "variance" and "fine offsets": the share along these directions of the variance, and of the squared
    offsets of fine classes from their super-class mean; of a random direction it is the number of these
    directions over that of all. "explained": by fine classes, along and across. Means over seeds, with the
    lowest and the highest.
    """
    rows = {}
    for name, runs in runs_of.items():
        for split in SPLITS:
            row = {
                f"{title}, {when}": over_seeds((value(run, split, epoch) for run in runs), "{:.2f}")
                for title, value in DIRECTIONS.items()
                for when, epoch in (("initialisation", 0), ("end", -1))
            }
            directions = int(_joined(runs[0]).max())  # one less than super-classes
            row["random direction"] = f"{directions / runs[0].moments(split).means.shape[1]:.3f}"
            rows[name, split] = row | {"seeds": str(len(runs))}
    return pd.DataFrame(rows).T.rename_axis(["data", "images"])


@theme()
def directions_figure(runs_of: Mapping[str, Sequence[Run]], title: str) -> Axes:
    """Along and across the directions of the super-class means, on train over epochs.

    Above both shares of ``directions_table``, below explained variance along and across. A colour for a name,
    a line for a run.
    """
    names = (
        "variance: share along",
        "fine offsets, squared: share along",
        "explained variance along",
        "explained variance across",
    )
    figure, panels = plt.subplots(2, 2, figsize=(WIDTH, 5.2), sharex=True, sharey=True, layout="constrained")
    words = []
    for panel, name, value in zip(panels.flat, names, DIRECTIONS.values(), strict=True):
        for number, (label, runs) in enumerate(runs_of.items()):
            for run in runs:
                epochs = run.measured_epochs
                values = [value(run, "train", epoch) for epoch in epochs]
                panel.plot(epochs, values, "o-", color=f"C{number}", lw=1.2, ms=3, label=label)
            words.append(f"{name}, {label}: {values[-1]:.2f}")
        panel.set_title(name, fontsize="medium")
    panels[0, 0].set_ylim(0, 1)
    epochs_axis(panels[0, 0], max(run.measured_epochs[-1] for runs in runs_of.values() for run in runs))
    handles = dict(zip(*reversed(panels[0, 0].get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles, fontsize="small", loc="outside right center")
    figure.supxlabel("epoch (0: at initialisation)", fontsize="medium")
    figure.suptitle(title)
    return described(panels[0, 0], f"{title}. At the end, the last run of each: {'; '.join(words)}.")


def explained_along(run: Run, split: str, epoch: int = -1) -> tuple[float, float]:
    """Variance inside super-classes that fine classes explain along the means' directions, and across them.

    Squares between fine classes over all, summed over super-classes; not corrected for the number of samples.
    """
    fine = run.moments(split, epoch)
    coarse, offsets, axes = _offsets(fine, _joined(run))
    weights = fine.counts.to(torch.float64) / fine.counts.sum()  # (C,)
    between = weights @ offsets.square().sum(dim=1)
    along = weights @ (offsets @ axes.T).square().sum(dim=1)
    whole = coarse.counts.to(torch.float64) @ coarse.scatter / coarse.counts.sum()
    seen = share_along_means(coarse) * whole
    return float(along / seen), float((between - along) / (whole - seen))


def directions_statements(runs_of: Mapping[str, Sequence[Run]]) -> list[Statement]:
    """Whether fine classes lie across the directions of the super-class means; the table had been seen.

    Where fine classes explain more across than along, their offsets have a smaller share along than the
    variance, and the other way round.
    """

    def cases(effect: Callable[[Run, str], float]) -> list[Case]:
        return [
            Case(
                f"{name}, {split}",
                [effect(run, split) for run in runs],
                count_images(runs[0], split),
            )
            for name, runs in runs_of.items()
            for split in SPLITS
        ]

    return [
        Statement(
            "Fine structure leaves the directions of the super-class means during training: the share of its"
            f" squares falls by more than {MOVED:g}",
            "share of the squared offsets of fine classes along these directions, those of the same epoch, at"
            " initialisation minus at the end (asked after the table was seen; that of the variance falls,"
            " too)",
            cases(lambda run, split: _offsets_seen(run, split, 0) - _offsets_seen(run, split)),
            MOVED,
        ),
        Statement(
            "At the end fine classes explain more variance across the directions of the super-class means"
            f" than along them, by more than {MOVED:g}",
            "explained variance across minus along, squares summed over super-classes (asked after the figure"
            " was seen)",
            cases(lambda run, split: float(np.diff(explained_along(run, split))[0])),
            MOVED,
        ),
    ]


def _variance_seen(run: Run, split: str, epoch: int = -1) -> float:
    return share_along_means(run.moments(split, epoch).grouped(_joined(run)))


def _offsets_seen(run: Run, split: str, epoch: int = -1) -> float:
    _, offsets, axes = _offsets(run.moments(split, epoch), _joined(run))
    return float((offsets @ axes.T).square().sum() / offsets.square().sum())


DIRECTIONS: dict[str, Callable[[Run, str, int], float]] = {
    "variance": _variance_seen,
    "fine offsets": _offsets_seen,
    "explained along": lambda *of: explained_along(*of)[0],
    "explained across": lambda *of: explained_along(*of)[1],
}


def _joined(run: Run) -> Tensor:
    """Super-class of every fine class (C,); of a run that was trained on fine classes modulo 5."""
    group = run.grouping.fine_to_coarse
    return group if run.grouping.num_coarse < len(group) else torch.arange(len(group)) % 5


def _offsets(fine: Moments, group: Tensor) -> tuple[Moments, Tensor, Tensor]:
    """Moments of super-classes, offsets (C, D) of fine classes from their means, directions of these."""
    coarse = fine.grouped(group)
    axes = torch.linalg.svd(centred(coarse.means), full_matrices=False)[2]  # (min(G, D), D)
    return coarse, fine.means - coarse.means[group], axes[: len(coarse.means) - 1]


def statements(
    measures_of: Mapping[str, Sequence[Measures]],
    n_of: Mapping[str, Mapping[str, int]],
    elsewhere: Mapping[str, float],
) -> list[Statement]:
    """What this chapter's runs decide.

    Parameters
    ----------
    measures_of : for each name a list of ``nclib.runs.evaluation.measures``, one entry a seed.
    n_of : number of images by split, by the same names.
    elsewhere : ``explained_elsewhere`` of the runs on test, by the same names.
    """

    def cases(effect: Callable[[Measures], float], *splits: str) -> list[Case]:
        return [
            Case(f"{name}, {split}", [effect(of_split(m, split)) for m in of], n_of[name][split])
            for name, of in measures_of.items()
            for split in splits
        ]

    still = [
        Case(name, [of_split(m, "test")[-1]["explained_variance"] - max(SOME, elsewhere[name]) for m in of],
             n_of[name]["test"])
        for name, of in measures_of.items()
    ]  # fmt: skip
    return [
        Statement(
            "The super-classes collapse: NC1 of the coarse labels ends below 0.1",
            "minus log10 of NC1 at the end, train (the bound is ours, set after the runs)",
            cases(lambda rows: -float(np.log10(rows[-1]["nc1"])), "train"),
            above=1,
        ),
        Statement(
            f"At the end of training, fine classes explain more than {SOME:g} of the variance inside their"
            " super-class, and more than pixels and networks at initialisation show",
            f"explained variance on test, mean over super-classes, minus the largest of {SOME:g}, its value"
            " in pixels and that of any seed at initialisation",
            still,
        ),
        Statement(
            "Fine classes explain more variance inside super-classes at the end than at initialisation",
            "explained variance at the end minus that at initialisation",
            cases(lambda rows: rows[-1]["explained_variance"] - rows[0]["explained_variance"], *SPLITS),
        ),
        Statement(
            f"The share of variance that fine classes explain falls late in training, by more than {MOVED:g}",
            "explained variance at the measured epoch nearest to half of training minus that at the end",
            cases(
                lambda rows: _halfway(rows)["explained_variance"] - rows[-1]["explained_variance"], *SPLITS
            ),
            MOVED,
        ),
    ]


def _halfway(rows: Measures) -> Mapping[str, float]:
    """The row of the measured epoch nearest to half of training."""
    epoch = halfway([row["epoch"] for row in rows])
    return next(row for row in rows if row["epoch"] == epoch)


def explained_elsewhere(runs: Sequence[Run], split: str) -> float:
    """The most that fine classes explain in pixels and at initialisation, over runs of one experiment."""
    pixels = distance_heatmaps.explained_by(pixel_distances(runs[0], split), runs[0].grouping.fine_to_coarse)
    return max(pixels, *(mean_explained_variance(run, split, epoch=0) for run in runs))


def structure_table(run: Run) -> pd.DataFrame:
    """Explained variance of every super-class and MSDR of every fine class on test at the end of training.

    A row for each fine class, siblings side by side.
    """
    group, moments = run.grouping.fine_to_coarse, run.moments("test")
    explained = explained_variance_of(moments, group)[group]
    columns = {
        "super-class": group.tolist(),
        "explained variance, test": explained.tolist(),
        "MSDR, test": msdr_of(moments, group).tolist(),
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
    axes.set_title("Sample images of every fine class, a row for each super-class")
    return described(axes, f"Sample images; rows are the super-classes {', '.join(grouping.coarse_names)}.")
