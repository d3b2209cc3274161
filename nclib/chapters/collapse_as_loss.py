"""Chapter 10: collapse as a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes

from nclib.chapters.conclusions import CLOSE, Case, Statement
from nclib.chapters.figures import MARKERS, described, epochs_axis, theme
from nclib.chapters.neural_collapse import COLLAPSE_NAMES
from nclib.chapters.statistics import (
    NOT_NEGATIVE,
    SHARE,
    UP_TO_ONE,
    error_bar,
    paired_by_seed,
    with_interval,
)
from nclib.runs.evaluation import (
    METHOD_NAMES,
    METHODS,
    coarse_nc1,
    count_images,
    mean_explained_variance,
    measures,
    results,
)
from nclib.runs.released import ReleasedRun, released_runs
from nclib.runs.run import Run

LOSS_NAMES = {"cross-entropy": "cross entropy", "mse": "squared error", "nc": "NC loss"}
LOSSES = {name: {"loss": loss} for loss, name in LOSS_NAMES.items()}
ABLATIONS = {"all terms": {"loss": "nc"}} | {
    f"without {part.upper()}": {"loss": f"nc-without-{part}"} for part in ("nc1", "nc2", "nc3")
}
NORMALISED = {
    name + (", L2-normalised" if l2 else ""): {"loss": loss, "l2_features": l2}
    for loss, name in (("cross-entropy", "cross entropy"), ("nc", "NC loss"))
    for l2 in (False, True)
}

BURIED = 0.1  # of accuracy: how far a probe has to be above k-means


def released_losses() -> dict[str, list[ReleasedRun]]:
    """Released runs on FashionMNIST by the name of their loss."""
    return {name: released_runs(f"fashion-narrow-{loss}-seed*") for loss, name in LOSS_NAMES.items()}


def end_table(runs_of: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Collapse of the super-classes and what is left of the fine classes at the end of training, by name.

    A cell is the mean over seeds with its 95 % interval. On train, unless it says test.
    """
    rows = []
    for name, runs in runs_of.items():
        ends = [{row["split"]: row for row in measures(run)[-2:]} for run in runs]
        found = [results(run, methods=METHODS[:1]) for run in runs]
        row = {"": name, "seeds": len(runs)}
        for split in ("train", "test"):
            row[f"accuracy on super-classes, {split}"] = with_interval(
                (end[split]["accuracy"] for end in ends), SHARE
            )
        for key in ("nc1", "nc2_maxangle_means", "nc2_maxangle_weights", "nc3", "nc4"):
            limits = SHARE if key == "nc4" else NOT_NEGATIVE
            row[COLLAPSE_NAMES[key]] = with_interval((end["train"][key] for end in ends), limits, "{:.2g}")
        explained = (end["train"]["explained_variance"] for end in ends)
        row["explained variance"] = with_interval(explained, UP_TO_ONE, "{:.2f}")
        row["MSDR of fine classes"] = with_interval(
            (end["train"]["msdr"] for end in ends), NOT_NEGATIVE, "{:.2f}"
        )
        accuracies = [r["reconstruction"][METHODS[0]]["train"] for r in found]
        row[f"reconstruction accuracy, {METHOD_NAMES[METHODS[0]]}"] = with_interval(accuracies, SHARE)
        row["probe on fine labels, test"] = with_interval((r["probe"] for r in found), SHARE)
        rows.append(row)
    return pd.DataFrame(rows).set_index("").T


COMPARED_PANELS = {  # title: measure, what is possible, scale of its axis
    "NC1: variability": ("nc1", NOT_NEGATIVE, "log"),
    "NC2: maximal angle, means": ("nc2_maxangle_means", NOT_NEGATIVE, "log"),
    "NC3: self-duality": ("nc3", NOT_NEGATIVE, "log"),
    "accuracy on super-classes": ("accuracy", SHARE, "linear"),
    "NC4: nearest mean": ("nc4", SHARE, "linear"),
    "explained variance": ("explained_variance", UP_TO_ONE, "linear"),
}


def over_training(runs_of: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """The rows of ``nclib.runs.evaluation.measures`` of every run on train, with its "name" and "seed"."""
    return pd.DataFrame(
        [
            {"name": name, "seed": run.config.seed} | row
            for name, runs in runs_of.items()
            for run in runs
            for row in measures(run)
            if row["split"] == "train"
        ]
    )


@theme()
def compared_figure(table: pd.DataFrame, title: str = "") -> Axes:
    """Collapse of the super-classes and structure of the fine classes over training, a line for each name.

    Lines are means over seeds, bands those of ``error_bar``, on a logarithmic axis from a tenth of the mean.

    Parameters
    ----------
    table : of ``over_training``.
    """
    figure, panels = plt.subplots(2, 3, figsize=(11, 5.6), sharex=True, layout="constrained")
    ends = []
    for number, (name, rows) in enumerate(table.groupby("name", sort=False)):
        by_epoch = rows.groupby("epoch")
        for panel, (measure, limits, scale) in zip(panels.flat, COMPARED_PANELS.values(), strict=True):
            mean, below, above = np.array(by_epoch[measure].agg(error_bar, limits).tolist()).T
            style = {"color": f"C{number}", "marker": MARKERS[number % len(MARKERS)], "ms": 3}
            epochs = np.array(sorted(by_epoch.groups))
            panel.plot(epochs, mean, label=name, **style)
            bottom = mean - (np.minimum(below, 0.9 * mean) if scale == "log" else below)
            panel.fill_between(epochs, bottom, mean + above, color=f"C{number}", alpha=0.2, lw=0)
            panel.set_yscale(scale)
        last = by_epoch[["nc1", "explained_variance"]].mean().iloc[-1]
        ends.append(f"{name}: NC1 {last['nc1']:.3g}, explained variance {last['explained_variance']:.3g}")
    for panel, name in zip(panels.flat, COMPARED_PANELS, strict=True):
        panel.set_title(name, fontsize="medium")
    for panel in panels[1]:
        panel.set_xlabel("epoch (0: at initialisation)")
    for panel in panels.flat:
        epochs_axis(panel, epochs[-1])
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize="small")
    figure.suptitle(title or "What training makes of features")
    return described(panels[0, 0], f"Six panels. At the end, mean over seeds: {'; '.join(ends)}.")


def statements(
    runs_of: Mapping[str, Mapping[str, Sequence[Run]]],
    ablated: Mapping[str, Mapping[str, Sequence[Run]]],
    normalised: Mapping[str, Mapping[str, Sequence[Run]]],
    with_features: Mapping[str, Mapping[str, Sequence[Run]]],
) -> list[Statement]:
    """What runs with the NC loss decide, against cross entropy and seed by seed.

    Parameters
    ----------
    runs_of : by name of the data, runs by name of the loss, see ``LOSSES``.
    ablated, normalised : the same for ``ABLATIONS`` and ``NORMALISED``.
    with_features : the same as ``runs_of``, where runs have their features.
    """
    plain, nc = "cross entropy", "NC loss"
    less_nc1 = "decimal logarithm of NC1 of super-classes, train"
    outside_first, along_three = _located(with_features, nc)
    return [
        Statement(
            f"The accuracy after the NC loss is less than {CLOSE:g} below that after cross entropy",
            "accuracy on super-classes, test, NC loss minus cross entropy",
            _paired(runs_of, nc, plain, _accuracy),
            -CLOSE,
        ),
        Statement(
            "The super-classes collapse further under the NC loss than under cross entropy",
            f"{less_nc1}, cross entropy minus NC loss",
            _paired(runs_of, plain, nc, _log_nc1, "train"),
        ),
        Statement(
            "The fine classes explain less of the variance after the NC loss than after cross entropy",
            "explained variance on test, cross entropy minus NC loss",
            _paired(runs_of, plain, nc, lambda run: mean_explained_variance(run, "test")),
        ),
        Statement(
            f"After the NC loss a probe on true fine labels is right more often than k-means, by {BURIED:g}",
            "accuracy on test of the probe minus reconstruction accuracy on test",
            [_case(data, runs[nc], [_buried(run) for run in runs[nc]]) for data, runs in runs_of.items()],
            BURIED,
        ),
        Statement(
            "After the NC loss sibling classes lie mostly apart along other directions than the one in which "
            "their super-class varies most, and more so than parts at random do",
            "share of the squared distance of sibling means outside the first principal direction, train,"
            " minus the larger of one half and the same with fine labels permuted",
            outside_first,
        ),
        Statement(
            "After the NC loss sibling classes lie mostly apart along the three directions in which their "
            "super-class varies most, and more so than parts at random do",
            "share of the squared distance of sibling means along three principal directions, train, minus"
            " the larger of one half and the same with fine labels permuted",
            along_three,
        ),
        Statement(
            "Without NC3 the classifier is less accurate",
            "accuracy on super-classes, test, all terms minus without NC3",
            _paired(ablated, "all terms", "without NC3", _accuracy),
        ),
        Statement(
            "L2-normalised features collapse earlier under cross entropy than free ones",
            f"{less_nc1} after a tenth of the epochs, free minus normalised",
            _paired(normalised, plain, f"{plain}, L2-normalised", _early_log_nc1, "train"),
        ),
    ]


def _paired(
    runs_of: Mapping[str, Mapping[str, Sequence[Run]]],
    one: str,
    other: str,
    value: Callable[[Run], float],
    split: str = "test",
) -> list[Case]:
    """A value of the runs of one name minus that of another, for the seeds that both have."""
    cases = []
    for data, runs in runs_of.items():
        if both := paired_by_seed(runs[one], runs[other]):
            values = [value(a) - value(b) for a, b in both]
            cases.append(_case(data, runs[one], values, split))
    return cases


def _case(data: str, runs: Sequence[Run], values: Sequence[float], split: str = "test") -> Case:
    return Case(data, values, count_images(runs[0], split))


def _accuracy(run: Run) -> float:
    return run.history[-1]["test_accuracy"]


def _log_nc1(run: Run) -> float:
    return float(np.log10(coarse_nc1(run)))


def _early_log_nc1(run: Run) -> float:
    return float(np.log10(early_nc1(run)))


def early_nc1(run: Run) -> float:
    """NC1 of the super-classes after a tenth of the epochs."""
    epoch = next(epoch for epoch in run.measured_epochs if epoch >= run.config.epochs / 10)
    return coarse_nc1(run, epoch=epoch)


def along_principal_directions(run: Run, counts: Sequence[int], permuted: bool = False) -> list[float]:
    """How much of the squared distance between sibling means lies along principal directions, on train.

    Parameters
    ----------
    run : with features.
    counts : of directions, those in which the features of a super-class vary most.
    permuted : whether fine labels are permuted inside their super-class first, from a fixed seed.

    Returns
    -------
    For each count, the share of the scatter of fine-class means about that of their super-class, averaged
    over super-classes; nan where one of them has a single fine class.
    """
    f = run.features("train")
    shares, generator = [], torch.Generator().manual_seed(0)
    for c in f.coarse.unique():
        h, fine = f.h[f.coarse == c].double(), f.fine[f.coarse == c]  # (n, D), (n,)
        if permuted:
            fine = fine[torch.randperm(len(fine), generator=generator)]
        h = h - h.mean(dim=0)
        gaps = torch.stack([h[fine == k].mean(dim=0) for k in fine.unique()])  # (siblings, D)
        directions = torch.linalg.svd(h, full_matrices=False).Vh  # (min(n, D), D)
        weights = fine.unique(return_counts=True)[1].double()
        along = weights @ (gaps @ directions.T).square()  # (min(n, D),)
        whole = weights @ gaps.square().sum(dim=1)
        shares.append([float(along[:k].sum() / whole) if len(gaps) > 1 else np.nan for k in counts])
    return np.mean(shares, axis=0).tolist()


def _located(runs_of: Mapping[str, Mapping[str, Sequence[Run]]], name: str) -> tuple[list[Case], list[Case]]:
    """Shares outside the first principal direction, and along the first three, in the runs of one name.

    Minus the larger of one half and what fine labels that are permuted inside their super-class give.
    """
    outside_first, along_three = [], []
    for data, runs in runs_of.items():
        found = [
            [along_principal_directions(run, (1, 3), permuted) for permuted in (False, True)]
            for run in runs[name]
        ]
        shares = [[(1 - one, three) for one, three in of_run] for of_run in found]
        outside, along = ([of_run[0][at] - max(0.5, of_run[1][at]) for of_run in shares] for at in (0, 1))
        outside_first.append(_case(data, runs[name], outside, "train"))
        along_three.append(_case(data, runs[name], along, "train"))
    return outside_first, along_three


def _buried(run: Run) -> float:
    found = results(run, methods=METHODS[:1])
    return found["probe"] - found["reconstruction"][METHODS[0]]["test"]
