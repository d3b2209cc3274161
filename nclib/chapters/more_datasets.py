"""Experiments on other data sets: the runs that there are, and what the others need.

runs = more_datasets.found()  # by name, released runs of every seed
more_datasets.missing()       # a table; nothing is ever put in the place of a run that is not there
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from torch import Tensor

from nclib.chapters.conclusions import Case, Statement
from nclib.chapters.statistics import paired_by_seed
from nclib.config import recipe_config
from nclib.data.datasets import missing_files
from nclib.errors import StoreError
from nclib.runs.evaluation import count_images
from nclib.runs.released import ReleasedRun, released_runs
from nclib.runs.run import Run

EXPERIMENTS: dict[str, tuple[str, dict[str, Any]]] = {  # name: recipe, fields that differ from it
    "FashionMNIST": ("fashion-laptop", {}),
    "FashionMNIST, unaugmented": ("fashion-laptop", {"augment": "none"}),
    "SVHN": ("svhn-laptop", {}),
    "MNIST": ("mnist-laptop", {}),
    "CIFAR-10": ("cifar10-laptop", {}),
    "CIFAR-10, unaugmented": ("cifar10-laptop", {"augment": "none"}),
    "CIFAR-100, own super-classes": ("cifar100-laptop", {}),
    "CIFAR-100, random super-classes": ("cifar100-laptop", {"grouping": "random20"}),
}
AUGMENTED = {"FashionMNIST": "FashionMNIST, unaugmented", "CIFAR-10": "CIFAR-10, unaugmented"}
GROUPED = {"CIFAR-100, random super-classes": "CIFAR-100, own super-classes"}
Experiments = Mapping[str, tuple[str, Mapping[str, Any]]]


def found(experiments: Experiments = EXPERIMENTS) -> dict[str, list[ReleasedRun]]:
    """Released runs of the experiments that have any, by the experiments' names."""
    everything = released_runs()
    runs = {}
    for name, (recipe, fields) in experiments.items():
        wanted = recipe_config(recipe, **fields, seed=0)
        runs[name] = [run for run in everything if replace(run.config, seed=0) == wanted]
    return {name: of_name for name, of_name in runs.items() if of_name}


def missing(experiments: Experiments = EXPERIMENTS) -> pd.DataFrame:
    """Experiments without a released run: whether their data are here, and the command that trains one."""
    rows = []
    for name, (recipe, fields) in experiments.items():
        if found({name: (recipe, fields)}):
            continue
        config = recipe_config(recipe, **fields)
        here = "not on this machine" if missing_files(config.dataset) else "on this machine"
        command = " --set ".join([f"nclib train {recipe}", *(f"{k}={v}" for k, v in fields.items())])
        rows.append({"experiment": name, "data set": f"{config.dataset}, {here}", "command": command})
    return pd.DataFrame(rows, columns=["experiment", "data set", "command"]).set_index("experiment")


def labels_of_test(run: Run) -> Tensor | None:
    """Fine labels of a run's test images, (N,), in their order.

    Of its features, or, where a released run has none, of those of another run on the same images; None
    if there are none either.
    """
    same = [r for r in released_runs() if _data(r) == _data(run)]
    for candidate in (run, *same):
        try:
            return candidate.features("test").fine
        except StoreError:
            continue
    return None


def _data(run: Run) -> tuple[str, tuple[int, ...]]:
    return run.config.dataset, run.config.held_out


def statements(
    results_of: Mapping[str, Sequence[Mapping[str, Any]]], runs_of: Mapping[str, Sequence[Run]]
) -> list[Statement]:
    """What the runs of each data set decide about its fine structure.

    Parameters
    ----------
    results_of : of ``nclib.runs.evaluation.results``, by name, in the order of the runs.
    runs_of : the runs themselves, under the same names.
    """
    above_pixels = _each(runs_of, results_of, lambda r: _kmeans(r, "train") - r["pixels"]["kmeans"])
    augmented = [
        replace(case, name=f"{case.name}, {split}")
        for split in ("train", "test")
        for case in _paired(runs_of, results_of, AUGMENTED, lambda r, at=split: _kmeans(r, at), split)
    ]
    grouped = _paired(runs_of, results_of, GROUPED, lambda r: _kmeans(r, "train") - r["pixels"]["kmeans"])
    made = [
        Statement(
            "k-means reconstructs more fine labels from features than from pixels",
            "reconstruction accuracy on train, features minus pixels",
            above_pixels,
        ),
        Statement(
            "k-means reconstructs more fine labels after training with augmentation, on train and on test",
            "reconstruction accuracy, with minus without",
            augmented,
        ),
        Statement(
            "Training gains more for random super-classes than for those that join what is alike",
            "reconstruction accuracy on train minus that of pixels, random minus own super-classes",
            grouped,
        ),
    ]
    return [statement for statement in made if statement.cases]


def _kmeans(results: Mapping[str, Any], split: str) -> float:
    return results["reconstruction"]["kmeans"][split]


def _each(
    runs_of: Mapping[str, Sequence[Run]],
    results_of: Mapping[str, Sequence[Mapping[str, Any]]],
    effect: Callable[[Mapping[str, Any]], float],
) -> list[Case]:
    return [
        Case(name, [effect(result) for result in results_of[name]], count_images(runs[0], "train"))
        for name, runs in runs_of.items()
    ]


def _paired(
    runs_of: Mapping[str, Sequence[Run]],
    results_of: Mapping[str, Sequence[Mapping[str, Any]]],
    pairs: Mapping[str, str],
    effect: Callable[[Mapping[str, Any]], float],
    split: str = "train",
) -> list[Case]:
    """One effect minus another, for the seeds that both experiments have."""
    cases = []
    for name, other in pairs.items():
        if name not in runs_of or other not in runs_of:
            continue
        effects = {
            (of, run.key): effect(result)
            for of in (name, other)
            for run, result in zip(runs_of[of], results_of[of], strict=True)
        }
        if pairs_of_seed := paired_by_seed(runs_of[name], runs_of[other]):
            values = [effects[name, one.key] - effects[other, two.key] for one, two in pairs_of_seed]
            cases.append(Case(name, values, count_images(runs_of[name][0], split)))
    return cases
