"""Experiments on other data sets: the runs that there are, and what the others need.

runs = elsewhere.found()      # by name, released runs of every seed
elsewhere.missing()           # a table; nothing is ever put in the place of a run that is not there
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from nclib.config import recipe_config
from nclib.data.datasets import missing_files
from nclib.runs.released import ReleasedRun, released_runs

EXPERIMENTS: dict[str, tuple[str, dict[str, Any]]] = {  # name: recipe, fields that differ from it
    "FashionMNIST": ("fashion-laptop", {"augment": "none"}),
    "SVHN": ("svhn-laptop", {}),
    "MNIST": ("mnist-laptop", {}),
    "CIFAR-10": ("cifar10-laptop", {"augment": "none"}),
    "CIFAR-100, its own labels": ("cifar100-laptop", {}),
    "CIFAR-100, random labels": ("cifar100-laptop", {"grouping": "random20"}),
}
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
