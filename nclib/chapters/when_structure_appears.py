"""When structure appears, and when it vanishes: over training, and condition by condition.

trajectory_figure(trajectories(contrast_runs()), "With and without augmentation")
ends(get_cases(GRID, "digits", range(5)))      # a row for each run
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import LogLocator
from torch import Tensor

from nclib.chapters.conclusions import MOVED, Case, Statement
from nclib.chapters.figures import MARKERS, OFF_SCALE, described, epochs_axis, theme
from nclib.chapters.long_runs import STYLES
from nclib.chapters.statistics import NOT_NEGATIVE, SHARE, UP_TO_ONE, error_bar, with_interval
from nclib.config import RunConfig
from nclib.data.grouping import SEMANTIC, Grouping, task
from nclib.measures.collapse import collapse_of
from nclib.measures.distances import msdr_of
from nclib.measures.moments import Moments
from nclib.measures.reconstruction import match_labels, reconstruct_labels
from nclib.measures.variance import explained_variance_of
from nclib.networks.activations import activations
from nclib.networks.models import initial_model
from nclib.runs.baselines import pixels
from nclib.runs.evaluation import (
    coarse_nc1,
    count_images,
    fine_per_coarse,
    halfway,
    mean_explained_variance,
    mean_msdr,
    terminal_epoch,
)
from nclib.runs.get import get_cases
from nclib.runs.released import ReleasedRun, released_cases, released_runs
from nclib.runs.remember import remembered
from nclib.runs.run import Run
from nclib.training.loop import DROPS

RATES = (0.1, 0.01, 0.001)
DECAYS = (5e-3, 5e-4, 5e-5)
GRID = {
    f"lr {lr:g}, weight decay {decay:g}": {"lr": lr, "weight_decay": decay}
    for lr in RATES
    for decay in DECAYS
}  # Yang, Steinhardt and Hu (2023)


def groupings(dataset: str) -> dict[str, dict[str, str]]:
    """Cases for ``nclib.get_cases``: class index modulo 5, look-alikes, and three random groups of five."""
    alike = {"look-alikes": {"grouping": "semantic"}} if dataset in SEMANTIC else {}
    drawn = {f"random {seed}": {"grouping": f"random5:{seed}"} for seed in (1, 2, 3)}
    return {"modulo 5": {"grouping": "mod5"}} | alike | drawn


def joined(grouping: Grouping) -> str:
    """Which fine classes a grouping joins, by their names."""
    return ", ".join(
        " + ".join(grouping.fine_names[fine] for fine in grouping.members(c))
        for c in range(grouping.num_coarse)
    )


def scaled(config: RunConfig, field: str, factors: Iterable[str]) -> dict[str, dict[str, int]]:
    """Cases for ``nclib.get_cases``: a whole number of a configuration times each factor, such as "1/4"."""
    number = getattr(config, field)
    return {factor: {field: max(1, round(number * Fraction(factor)))} for factor in factors}


def cases_of(config: RunConfig) -> dict[str, dict[str, dict[str, Any]]]:
    """The chapter's questions and their cases for ``question_runs``: fields that differ from a recipe's."""
    return {
        "grouping": groupings(config.dataset),
        "width": scaled(config, "width", ("1/16", "1/4", "1/2", "1", "2")),
        "epochs": scaled(config, "epochs", ("1/3", "1", "3")),
        "noise": {f"{share:g}": {"label_noise": share} for share in (0.0, 0.1, 0.4)},
        "loss": {"cross entropy": {"loss": "cross-entropy"}, "squared error": {"loss": "mse"}},
    }


def question_runs(
    questions: Mapping[str, Mapping[str, Mapping[str, Any]]],
    recipe: str,
    seeds: Iterable[int],
    **overrides: Any,
) -> dict[str, dict[str, list[Run]]]:
    """Runs for each case of each question, as ``nclib.get_cases`` gives them, all trained side by side."""
    places = {
        f"{question}, {case}": (question, case) for question, cases in questions.items() for case in cases
    }
    cases = {name: questions[question][case] for name, (question, case) in places.items()}
    found = get_cases(cases, recipe, seeds, **overrides)
    sorted_in: dict[str, dict[str, list[Run]]] = {question: {} for question in questions}
    for name, (question, case) in places.items():
        sorted_in[question][case] = found[name]
    return sorted_in


def ends(cases: Mapping[str, Sequence[Run]], method: str = "kmeans") -> pd.DataFrame:
    """What is left of fine structure at the end of training, on train, a row for each run.

    Parameters
    ----------
    cases : runs by case, as ``nclib.get_cases`` gives them.
    method : of clustering, see ``nclib.reconstruct_labels``.

    Returns
    -------
    Columns "case", "seed", "lr", "weight_decay"; "accuracy" on the true super-classes; "found", "msdr",
    "explained_variance" and "nc1" as in ``remains``; a released run states its own.
    """
    return pd.DataFrame([{"case": case} | _end(run, method) for case, runs in cases.items() for run in runs])


def with_released(
    name: str, live: Mapping[str, Sequence[Run]], cases: Mapping[str, Mapping[str, Any]], recipe: str
) -> pd.DataFrame:
    """``ends`` of runs, in "data" called by their name, and of a recipe's released runs of the same cases.

    Released runs of fewer than two of the cases have nothing to compare, and are left out.
    """
    everything = {name: live}
    released = released_cases(cases, recipe)
    if len(released) > 1:
        everything[recipe] = released
    return pd.concat([ends(of_data).assign(data=data) for data, of_data in everything.items()])


def seeds_stated(table: pd.DataFrame) -> str:
    """How many seeds the cases of each data set have in a table of ``with_released``, for a caption."""
    counts = table.groupby(["data", "case"], sort=False)["seed"].nunique()
    ranges = {data: sorted({of.min(), of.max()}) for data, of in counts.groupby("data", sort=False)}
    return ", ".join(f"{' to '.join(map(str, range_))} of {data}" for data, range_ in ranges.items())


def found_by_setting(grids: Mapping[str, Mapping[str, Sequence[Run]]], method: str) -> pd.DataFrame:
    """Reconstruction accuracy on train by data and learning rate (rows) and weight decay (columns).

    Parameters
    ----------
    grids : runs for each case of ``GRID``, by a name for each.
    method : of clustering, see ``nclib.reconstruct_labels``.

    Returns
    -------
    text: mean over seeds with its 95 % interval, a dash for a setting without a run.
    """
    rows = pd.concat([ends(cases, method).assign(data=name) for name, cases in grids.items() if cases])
    cells = rows.groupby(["data", "lr", "weight_decay"])["found"].agg(with_interval, SHARE).unstack()
    cells = cells.sort_index(ascending=[True, False]).sort_index(axis=1, ascending=False).fillna("-")
    cells = cells.rename("{:g}".format, axis=1).rename("{:g}".format, level="lr")
    return cells.rename_axis(index=["data", "learning rate"], columns="weight decay")


def _end(run: Run, method: str) -> dict[str, Any]:
    config = run.config
    row = {"seed": config.seed, "lr": config.lr, "weight_decay": config.weight_decay}
    row["accuracy"] = run.history[-1]["train_accuracy"]
    if run.results:
        found = run.results["reconstruction"][method]["train"]
        row |= {"found": found, "msdr": mean_msdr(run), "nc1": coarse_nc1(run)}
        return row | {"explained_variance": mean_explained_variance(run)}
    return row | remembered(run, _remains_of, method)


def _remains_of(run: Run, method: str) -> dict[str, float]:
    f = run.features("train")
    return remains(f.h, f.fine, run.grouping, method)


def remains(h: Tensor, fine: Tensor, grouping: Grouping, method: str = "kmeans") -> dict[str, float]:
    """Structure in features (N, D) with fine labels (N,), in four numbers.

    Returns
    -------
    dict. "found": reconstruction accuracy, by clustering inside each super-class with as many clusters as
    classes; "msdr": mean over the fine classes that have siblings; "explained_variance": mean over the
    super-classes; "nc1" of the super-classes.
    """
    moments = Moments.of(h, fine, len(grouping.fine_names))
    group = grouping.fine_to_coarse
    k = [len(grouping.members(c)) for c in range(grouping.num_coarse)]
    pseudo = reconstruct_labels(h, grouping.coarse(fine), k, method)
    return {
        "found": match_labels(pseudo, fine).accuracy,
        "msdr": float(torch.nanmean(msdr_of(moments, group))),
        "explained_variance": float(torch.nanmean(explained_variance_of(moments, group))),
        "nc1": collapse_of(moments.grouped(group))["nc1"],
    }


def by_layer(runs: Iterable[Run], split: str = "train") -> pd.DataFrame:
    """``remains`` of the pixels and after every layer, of the trained network and at initialisation.

    Parameters
    ----------
    runs : with weights; a released run has none.

    Returns
    -------
    A row for each seed, "network" ("trained" or "at initialisation") and layer, which stands in "case".
    """
    rows = []
    for run in runs:
        splits, grouping = task(run.config)
        images = getattr(splits, split)
        before = initial_model(run.config, splits.train.images, grouping.num_coarse)
        for network, model in (("trained", run.model()), ("at initialisation", before)):
            held = activations(model, run.config.arch, images.images)
            for layer, h in ({"pixels": pixels(images.images)} | held).items():
                row = {"case": layer, "network": network, "seed": run.config.seed}
                rows.append(row | remains(h, images.labels, grouping))
    return pd.DataFrame(rows)


ENDS_PANELS = {  # columns of ``nclib.chapters.when_structure_appears.ends``: title
    "accuracy": "accuracy on super-classes",
    "found": "reconstruction accuracy",
    "explained_variance": "explained variance",
    "nc1": "NC1 of super-classes",
}
LIMITS = {"accuracy": SHARE, "found": SHARE, "explained_variance": UP_TO_ONE, "nc1": NOT_NEGATIVE}


CONTRAST = {  # data set: patterns of released runs, without augmentation first
    "CIFAR-10": (
        "cifar10-unaugmented-seed*",
        "cifar10-laptop-seed*",
        "cifar10-terminal*-seed*",
        "cifar10-full*-seed*",
        "cifar10-paper-seed*",
    ),
    "FashionMNIST": ("fashion-unaugmented-seed*", "fashion-laptop-seed*", "fashion-terminal*-seed*"),
}
CONTRAST_PANELS = {  # column of ``trajectories``: title, scale of its axis, splits that are drawn
    "explained_variance": ("explained variance", "linear", ("train", "test")),
    "nc1": ("NC1 of super-classes", "log", ("train",)),
    "accuracy": ("train accuracy", "linear", ("train",)),
    "kmeans": ("reconstruction accuracy", "linear", ("train", "test")),
}
PAIRS = {"unaugmented": "laptop", "terminal": "terminal-augmented"}  # ends of names of experiments
SUGGESTED = {  # statement: the run after whose curves it was written, which cannot also decide it
    "rises again": ("cifar10-paper", 0),
    "fall between": ("fashion-terminal", 0),
}
CHANGES = {  # what is changed: question of ``cases_of`` or "grid", case before, case after
    "largest weight decay at the largest learning rate": (
        "grid",
        "lr 0.1, weight decay 0.0005",
        "lr 0.1, weight decay 0.005",
    ),
    "a quarter of the width": ("width", "1", "1/4"),
    "three times the epochs": ("epochs", "1", "3"),
    "a tenth of the labels wrong": ("noise", "0", "0.1"),
    "squared error": ("loss", "cross entropy", "squared error"),
}


def contrast_runs() -> dict[str, list[ReleasedRun]]:
    """Released runs on super-classes by data set, in the order of ``CONTRAST``."""
    found = {data: [run for name in names for run in released_runs(name)] for data, names in CONTRAST.items()}
    joined = {data: [run for run in runs if max(fine_per_coarse(run)) > 1] for data, runs in found.items()}
    return {data: runs for data, runs in joined.items() if runs}


def trajectories(runs_of: Mapping[str, Sequence[ReleasedRun]]) -> pd.DataFrame:
    """How collapse and structure develop in released runs, from what was kept of every measured epoch.

    Returns
    -------
    A row for each run, epoch and split. Columns "data", "experiment", "seed", "augmentation", "schedule",
    "weight decay", "width", "epoch", "split", "n" images, "accuracy" on super-classes,
    "explained_variance", "nc1"; "kmeans", the reconstruction accuracy, not a number where only the end was
    clustered; "terminal", the run's first measured epoch with 99.9 % train accuracy, not a number if there
    is none; "drop", the epoch after which the learning rate falls for the first time, likewise, of schedules
    that go in steps; "settled", the first measured epoch from which on train accuracy is 99.9 % and the rate
    stays, likewise.
    """
    return pd.DataFrame(
        [{"data": d} | row for d, runs in runs_of.items() for run in runs for row in _rows(run)]
    )


def _rows(run: ReleasedRun) -> list[dict[str, Any]]:
    begin = terminal_epoch([run])
    same = {"experiment": run.folder.name.rpartition("-seed")[0], "seed": run.config.seed}
    same |= {"schedule": run.config.schedule, "weight decay": run.config.weight_decay}
    same |= {"augmentation": run.config.augment, "terminal": np.nan if begin is None else begin}
    drops = DROPS.get(run.config.schedule)  # None of a rate that changes all the time
    same |= {"width": run.config.width, "drop": drops[0] * run.config.epochs if drops else np.nan}
    same |= {"settled": np.nan if begin is None else _settled(run, begin)}
    recorded = {record["epoch"]: record for record in run.history}
    rows = []
    for measured in run.results["measures"]:
        epoch, split = measured["epoch"], measured["split"]
        row = same | {"epoch": epoch, "split": split, "accuracy": recorded[epoch][f"{split}_accuracy"]}
        row |= {"explained_variance": mean_explained_variance(run, split, epoch), "nc1": measured["nc1"]}
        row["n"] = count_images(run, split, epoch)
        at_end = epoch == run.measured_epochs[-1]
        end = run.results["reconstruction"]["kmeans"][split] if at_end else np.nan
        rows.append(row | {"kmeans": measured.get("kmeans", end)})
    return rows


def _settled(run: ReleasedRun, begin: int) -> float:
    """The first measured epoch from ``begin`` on that ran at the last learning rate; nan if none.

    A rate that drops at some epoch is that of the epochs after it.
    """
    drops = DROPS.get(run.config.schedule)
    if drops is None:
        return np.nan
    last = run.config.epochs * max(drops, default=0)
    return min((epoch for epoch in run.measured_epochs if epoch >= begin and epoch > last), default=np.nan)


def trajectory_ends(table: pd.DataFrame) -> pd.DataFrame:
    """Explained variance at the start, at its peak and so on, a row for each run of ``trajectories``.

    A peak is the largest of many values that vary from epoch to epoch: it is that of the epochs at which all
    runs of the same data and length were measured, so that these have as many chances. "Halfway" is the
    measured epoch nearest to half of training.
    """
    rows, shared = [], _shared_epochs(table)
    for (data, experiment, seed), of_run in table.groupby(["data", "experiment", "seed"], sort=False):
        train, test = (of_run[of_run["split"] == split] for split in ("train", "test"))
        end = test.iloc[-1]
        among = test[test["epoch"].isin(shared[data, end["epoch"]])]
        peak = among.loc[among["explained_variance"].idxmax()]
        row = {"data": data, "experiment": experiment, "seed": seed, "augmentation": end["augmentation"]}
        row |= {"width": end["width"], "epochs": end["epoch"], "99.9 % train accuracy from": end["terminal"]}
        row |= {"and the learning rate stays, from": end["settled"]}
        row |= {"accuracy, train": train.iloc[-1]["accuracy"], "NC1, train": train.iloc[-1]["nc1"]}
        row |= {
            "explained variance at its peak, test": peak["explained_variance"],
            "peak of shared epochs at": peak["epoch"],
        }
        for split, rows_of in (("train", train), ("test", test)):
            row |= {f"explained variance {when}, {split}": v for when, v in _stages(rows_of).items()}
            row |= {f"explained variance, {split}": rows_of.iloc[-1]["explained_variance"]}
        row |= {"k-means, train": train.iloc[-1]["kmeans"], "k-means, test": end["kmeans"]}
        row |= {"train images": train.iloc[-1]["n"], "test images": end["n"]}
        row |= {"train images on the way": train["n"].min(), "test images on the way": test["n"].min()}
        rows.append(row)
    return pd.DataFrame(rows).set_index(["data", "experiment", "seed"])


def _shared_epochs(table: pd.DataFrame) -> dict[tuple[str, int], set[int]]:
    """By data and length of training, the epochs at which all such runs were measured."""
    shared: dict[tuple[str, int], set[int]] = {}
    for (data, *_), of_run in table.groupby(["data", "experiment", "seed"]):
        epochs = set(of_run["epoch"])
        key = data, max(epochs)
        shared[key] = shared.get(key, epochs) & epochs
    return shared


def _stages(of_split: pd.DataFrame) -> dict[str, float]:
    """Explained variance of one run and split at the start and on the way; not a number where undefined."""
    explained, epoch = of_split["explained_variance"], of_split["epoch"]
    stages = {
        "at the start": explained.iloc[0],
        "halfway": explained[epoch == halfway(epoch.tolist())].iloc[0],
    }
    lasts = {"before the rate drops": "drop", "at 99.9 %": "terminal", "once the rate stays": "settled"}
    for when, last in lasts.items():
        until = explained[epoch <= of_split[last].iloc[-1]]
        stages[when] = np.nan if until.empty else until.iloc[-1]
    return stages


def contrast_table(ends: pd.DataFrame) -> pd.DataFrame:
    """``trajectory_ends`` as text, a column for each run."""
    whole = {
        "epochs",
        "peak of shared epochs at",
        "99.9 % train accuracy from",
        "and the learning rate stays, from",
    }
    shown = {
        name: [_shown(value, f"epoch {value:.0f}" if name in whole else f"{value:.3f}") for value in column]
        for name, column in ends.drop(columns="augmentation").items()
    }
    shown = {"augmentation": ends["augmentation"].tolist()} | shown
    for name in ("width", "epochs", *(name for name in ends if " images" in name)):
        shown[name] = [f"{number:,.0f}" for number in ends[name]]
    return pd.DataFrame(shown, index=ends.index).T


def _shown(value: float, text: str) -> str:
    return "never" if pd.isna(value) else text


def statements(
    ends: pd.DataFrame, questions_of: Mapping[str, Mapping[str, Mapping[str, Sequence[Run]]]]
) -> list[Statement]:
    """What the page's runs decide about augmentation, about rise and fall, and about five changes.

    Parameters
    ----------
    ends : of ``trajectory_ends``.
    questions_of : by name of the data, and as ``question_runs`` gives them, runs for each case of each
        question; the cases of ``GRID`` as "grid".
    """
    augmented = {
        "k-means": "With augmentation k-means reconstructs more fine labels at the end, on train and on test",
        "explained variance": "With augmentation fine classes explain more of the variance at the end, on"
        " train and on test",
    }
    moves = {
        "rises": ("explained variance at the start", "its start"),
        "falls": ("explained variance", "its end"),
    }
    made = [
        Statement(text, f"{column}, with augmentation minus without", _gains(ends, column))
        for column, text in augmented.items()
    ] + [
        Statement(
            f"Explained variance {move} during training by more than {MOVED:g}",
            f"explained variance at the measured epoch nearest to half of training minus {what}",
            _moves(ends, column),
            MOVED,
        )
        for move, (column, what) in moves.items()
    ]
    made.append(
        Statement(
            "Once 99.9 % of the training images are right and the learning rate stays, fine classes come to"
            " explain more of the variance on train",
            "explained variance on train, at the end minus at the first such measured epoch; without the run"
            " that suggested the statement",
            _after_fitting(ends),
        )
    )
    made.append(
        Statement(
            "Most of the fall from the peak lies between the last measured epoch before the first drop of the"
            " learning rate and the first measured epoch with 99.9 % train accuracy",
            "the fall there minus the fall before and after, of explained variance on test; rates that go in"
            " steps, without the run that suggested the statement",
            _fall_between(ends),
        )
    )
    changed = [case for name, questions in questions_of.items() for case in _changed(name, questions)]
    text = "Each of these changes leaves fewer fine labels for k-means to reconstruct"
    made.append(Statement(text, "reconstruction accuracy on train without the change minus with it", changed))
    return [statement for statement in made if statement.cases]


def _gains(ends: pd.DataFrame, column: str) -> list[Case]:
    """With augmentation minus without, for the seeds that both experiments of a pair have."""
    return [
        Case(
            f"{with_it} against {without}, {split}",
            (b[f"{column}, {split}"] - a[f"{column}, {split}"]).tolist(),
            int(a[f"{split} images"].iloc[0]),
        )
        for without, with_it, a, b in _pairs(ends)
        for split in ("train", "test")
    ]


def _pairs(ends: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame, pd.DataFrame]]:
    """Experiments of ``PAIRS`` and their rows of ``ends``, those of seeds that both have, by seed."""
    kinds = {name: rows.droplevel(["data", "experiment"]) for name, rows in ends.groupby("experiment")}
    found = []
    for name, rows in kinds.items():
        data, _, kind = name.partition("-")
        other = f"{data}-{PAIRS.get(kind)}"
        seeds = rows.index.intersection(kinds[other].index) if other in kinds else []
        if len(seeds):
            found.append((name, other, rows.loc[seeds], kinds[other].loc[seeds]))
    return found


def _moves(ends: pd.DataFrame, column: str) -> list[Case]:
    return [
        Case(
            f"{name}, {split}",
            (rows[f"explained variance halfway, {split}"] - rows[f"{column}, {split}"]).tolist(),
            int(rows[f"{split} images on the way"].min()),
        )
        for name, rows in ends.groupby("experiment", sort=False)
        for split in ("train", "test")
    ]


def _after_fitting(ends: pd.DataFrame) -> list[Case]:
    """Of runs that train on after 99.9 % at one learning rate."""
    within = _new(ends, "rises again")
    within = within[within["and the learning rate stays, from"] < within["epochs"]]
    return [
        Case(
            name,
            (
                rows["explained variance, train"] - rows["explained variance once the rate stays, train"]
            ).tolist(),
            int(rows["train images on the way"].min()),
        )
        for name, rows in within.groupby("experiment", sort=False)
    ]


def _new(ends: pd.DataFrame, statement: str) -> pd.DataFrame:
    """Without the run that suggested a statement."""
    experiment, seed = SUGGESTED[statement]
    names, seeds = (ends.index.get_level_values(level) for level in ("experiment", "seed"))
    return ends[(names != experiment) | (seeds != seed)]


def _fall_between(ends: pd.DataFrame) -> list[Case]:
    """Of runs whose learning rate goes in steps and that train on after 99.9 %."""
    within = _new(ends, "fall between")
    within = within[within["99.9 % train accuracy from"] < within["epochs"]]
    cases = []
    for name, rows in within.groupby("experiment", sort=False):
        peak, dropped, fitted, end = (
            rows[f"explained variance{when}, test"]
            for when in (" at its peak", " before the rate drops", " at 99.9 %", "")
        )
        fall = ((dropped - fitted) - (peak - dropped) - (fitted - end)).dropna()
        if len(fall):
            cases.append(Case(name, fall.tolist(), int(rows["test images"].iloc[0])))
    return cases


def _changed(name: str, questions: Mapping[str, Mapping[str, Sequence[Run]]]) -> list[Case]:
    cases = []
    for change, (question, before, after) in CHANGES.items():
        runs = questions.get(question, {})
        if before not in runs or after not in runs:
            continue
        found = ends({case: runs[case] for case in (before, after)})
        found = found.pivot_table(index="seed", columns="case", values="found").dropna()
        if len(found):
            n = count_images(runs[before][0], "train")
            cases.append(Case(f"{name}: {change}", (found[before] - found[after]).tolist(), n))
    return cases


def confounds(ends: pd.DataFrame) -> pd.DataFrame:
    """In what else the experiments of each pair differ: width, length, and how many runs fit their images.

    Parameters
    ----------
    ends : of ``trajectory_ends``.
    """
    rows = []
    for without, with_it, a, b in _pairs(ends):
        row = {"without augmentation": without, "with it": with_it}
        for name in ("width", "epochs"):
            row[name] = " / ".join(f"{of[name].iloc[0]:.0f}" for of in (a, b))
        fitted = (of["99.9 % train accuracy from"].notna() for of in (a, b))
        row["runs at 99.9 % of train"] = " / ".join(f"{of.sum()} of {len(of)}" for of in fitted)
        rows.append(row)
    columns = ["without augmentation", "with it", "width", "epochs", "runs at 99.9 % of train"]
    return pd.DataFrame(rows, columns=columns).set_index(columns[:2])


@theme()
def trajectory_figure(table: pd.DataFrame, title: str) -> Axes:
    """Explained variance, NC1, accuracy and k-means over training, a row of panels for each data set.

    A colour for each experiment, a line for each run; the dotted vertical line is the run's first measured
    epoch with 99.9 % train accuracy.

    Parameters
    ----------
    table : of ``trajectories``, or one with the same columns.
    """
    groups = list(table.groupby("data", sort=False))
    figure, panels = plt.subplots(
        len(groups), len(CONTRAST_PANELS), figsize=(12, 0.6 + 2.8 * len(groups)), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for row, (data, of_data) in zip(panels, groups, strict=True):
        for panel, (measure, (name, scale, splits)) in zip(row, CONTRAST_PANELS.items(), strict=True):
            for number, (experiment, of_kind) in enumerate(of_data.groupby("experiment", sort=False)):
                label = f"{experiment} ({of_kind['augmentation'].iloc[0]})"
                _draw_runs(panel, of_kind, measure, splits, f"C{number}", label)
            panel.set_title(name, fontsize="medium")
            panel.set_yscale(scale)
            epochs_axis(panel, of_data["epoch"].max())
        row[0].set_ylabel(data)
        handles = dict(zip(*reversed(row[0].get_legend_handles_labels()), strict=True))
        row[-1].legend(
            handles.values(), handles, fontsize="small", loc="upper left", bbox_to_anchor=(1.02, 1)
        )
    figure.suptitle(title)
    figure.supxlabel("epoch (0: at initialisation)", fontsize="medium")
    ends = trajectory_ends(table).reset_index()
    words = "; ".join(
        f"{row['experiment']}, seed {row['seed']}: explained variance {row['explained variance, test']:.2f}, "
        f"k-means {row['k-means, test']:.2f}"
        for _, row in ends.iterrows()
    )
    return described(panels[0, 0], f"{title}. At the end, on test, {words}.")


def _draw_runs(
    panel: Axes, of_kind: pd.DataFrame, measure: str, splits: Sequence[str], color: str, name: str
) -> None:
    for _, of_run in of_kind.groupby("seed", sort=False):
        for split in splits:
            rows = of_run[of_run["split"] == split].dropna(subset=[measure])
            label = name if split == "train" else None
            style = {"color": color, "lw": 1.2, "ms": 3 if len(rows) > 1 else 7}
            panel.plot(rows["epoch"], rows[measure], STYLES[split], marker="o" if split == "train" else "s",
                       label=label, mfc=color if split == "train" else "w", **style)  # fmt: skip
        begin = of_run["terminal"].iloc[0]
        if not pd.isna(begin):
            panel.axvline(begin, color=color, ls=":", lw=1)


@theme()
def conditions_figure(table: pd.DataFrame, title: str, xlabel: str = "", hue: str = "") -> Axes:
    """What is left of fine structure by case: the panels of ``ENDS_PANELS`` that the table has.

    Large points are means over seeds, bars those of ``error_bar``, small points the seeds.

    Parameters
    ----------
    table : of ``nclib.chapters.when_structure_appears.ends`` or ``by_layer``.
    xlabel : of cases that have an order: their means are joined by lines.
    hue : a column of the table that gives points their colours.
    """
    titles = {measure: name for measure, name in ENDS_PANELS.items() if measure in table}
    cases = list(table["case"].unique())
    figure, panels = plt.subplots(1, len(titles), figsize=(3 * len(titles), 3.4), layout="constrained")
    table = table.assign(at=table["case"].map(cases.index))
    kinds = list(table.groupby(hue, sort=False)) if hue else [(None, table)]
    for panel, (measure, name) in zip(panels, titles.items(), strict=True):
        for number, (kind, rows) in enumerate(kinds):
            offset = 0.3 * ((number + 0.5) / len(kinds) - 0.5)
            style = {"color": f"C{number}", "marker": MARKERS[number], "ms": 5, "lw": 0.8, "elinewidth": 1.5}
            means = rows.groupby("at")[measure].agg(error_bar, LIMITS[measure])
            mean, *bar = np.array(means.tolist()).T
            panel.plot(rows["at"] + offset, rows[measure], ".", color=f"C{number}", alpha=0.4, ms=4)
            line = "-" if xlabel else "none"
            panel.errorbar(means.index + offset, mean, yerr=bar, ls=line, label=kind, **style)
        panel.set_xticks(range(len(cases)), cases, rotation=30 if max(map(len, cases)) > 4 else 0)
        panel.set(xlim=(-0.5, len(cases) - 0.5), xlabel=xlabel)
        panel.set_title(name, fontsize="medium")
        if measure == "nc1":
            _plain_log(panel)
        else:
            panel.set_ylim(top=min(1.005, panel.get_ylim()[1]))
    if len(kinds) > 1:
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    figure.suptitle(title)
    of_case = table.groupby(([hue] if hue else []) + ["case"], sort=False)[list(titles)].mean()
    words = "; ".join(
        f"{case if isinstance(case, str) else ', '.join(case)}: "
        + ", ".join(f"{titles[m]} {value:.3g}" for m, value in row.items())
        for case, row in of_case.iterrows()
    )
    return described(panels[0], f"{title}. Means by case: {words}.")


@theme()
def grid_figure(tables: Mapping[str, pd.DataFrame], rates: Sequence[float], decays: Sequence[float]) -> Axes:
    """Structure over learning rate and weight decay, a row of heatmaps for each name.

    Numbers are means over seeds as ``with_interval`` writes them; a setting without a run says so. A column
    of heatmaps shares its colours.

    Parameters
    ----------
    tables : of ``nclib.chapters.when_structure_appears.ends``.
    rates, decays : learning rates and weight decays of the grid, in the order of rows and columns.
    """
    figure, panels = plt.subplots(
        len(tables), len(ENDS_PANELS), figsize=(11, 0.9 + 2.3 * len(tables)), squeeze=False, sharex=True,
        sharey=True, layout="constrained",
    )  # fmt: skip
    settings = {name: table.groupby(["lr", "weight_decay"]) for name, table in tables.items()}
    for column, (measure, title) in zip(panels.T, ENDS_PANELS.items(), strict=True):
        cells = {name: of_name[measure].agg(tuple) for name, of_name in settings.items()}
        shown = [np.mean(values) for of_name in cells.values() for values in of_name]
        norm = (LogNorm if measure == "nc1" else Normalize)(min(shown), max(shown))
        for panel, of_name in zip(column, cells.values(), strict=True):
            _grid_panel(panel, of_name.reindex(pd.MultiIndex.from_product([rates, decays])), norm, measure)
        column[0].set_title(title, fontsize="medium")
        column[-1].set_xlabel("weight decay")
    words = []
    for panel, (name, of_name) in zip(panels[:, 0], settings.items(), strict=True):
        panel.set_ylabel(f"{name}\n\nlearning rate")
        found = of_name["found"].mean()
        ends = (
            f"{found[at]:.3f} at lr {at[0]:g}, decay {at[1]:g}" for at in (found.idxmin(), found.idxmax())
        )
        words.append(f"{name}, {len(found)} settings: reconstruction accuracy from {' to '.join(ends)}")
    figure.suptitle("Learning rate x weight decay, at the end of training")
    return described(panels[0, 0], f"Heatmaps. {'; '.join(words)}.")


def _grid_panel(panel: Axes, cells: pd.Series, norm: Normalize, measure: str) -> None:
    """One heatmap of the seeds' values by learning rate and weight decay, not a number without runs."""
    rates, decays = cells.index.unique(0), cells.index.unique(1)
    means = np.array([np.mean(cell) for cell in cells]).reshape(len(rates), len(decays))
    cmap = sns.color_palette("mako_r", as_cmap=True).with_extremes(bad=OFF_SCALE)
    panel.pcolormesh(np.ma.masked_invalid(means), norm=norm, cmap=cmap)
    form = "{:.2g}" if measure == "nc1" else "{:.3f}"
    for at, cell in enumerate(cells):
        row, column = divmod(at, len(decays))
        text, color = "not run\nyet", "0.3"
        if isinstance(cell, tuple):
            text = with_interval(cell, LIMITS[measure], form).replace(" ", "\n", 1)
            text = text.replace(" to ", " to\n").replace(", ", ",\n")
            color = "w" if norm(np.mean(cell)) > 0.5 else "k"
        panel.text(column + 0.5, row + 0.5, text, color=color, ha="center", va="center", fontsize=7)
    panel.set_xticks(np.arange(len(decays)) + 0.5, [f"{decay:g}" for decay in decays])
    panel.set_yticks(np.arange(len(rates)) + 0.5, [f"{lr:g}" for lr in rates])
    panel.set(xlim=(0, len(decays)), ylim=(len(rates), 0))
    panel.grid(False)


def _plain_log(panel: Axes) -> None:
    """A logarithmic axis with plain numbers."""
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.minorticks_off()
