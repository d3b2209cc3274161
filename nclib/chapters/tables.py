"""Tables that several chapters show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nclib.chapters.statistics import SHARE, over_seeds, with_interval
from nclib.config import RunConfig, recipe_config
from nclib.runs.evaluation import METHOD_NAMES, coarse_nc1, count_images, mean_explained_variance, mean_msdr
from nclib.runs.released import ReleasedRun, find_released, released_runs
from nclib.runs.run import Run

# released runs, without and with augmentation, that several chapters show
LARGER = (
    "cifar10-unaugmented-*", "cifar10-laptop-seed*", "cifar10-terminal-seed*",
    "cifar10-full-seed*", "cifar10-paper-seed*",
    "fashion-unaugmented-*", "fashion-laptop-seed*", "fashion-terminal-seed*",
)  # fmt: skip
OPENING = "cifar10-laptop-seed0"
NETWORKS = {"mlp": "MLP", "resnet18": "ResNet-18", "resnet34": "ResNet-34", "resnet50": "ResNet-50"}
SPACES = {  # of ``nclib.runs.baselines.spaces``
    "features": "features",
    "untrained": "features at initialisation",
    "pixels": "pixels",
}


def reconstruction_table(results_of: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """Reconstruction accuracies by data and method; several results of one name are seeds.

    A cell is the mean over seeds with its 95 % interval. Pixels do not depend on the seed.
    """
    rows = []
    for name, seeds in results_of.items():
        for method, title in METHOD_NAMES.items():
            with_method = [r for r in seeds if method in r["reconstruction"]]
            if not with_method:
                continue
            found = [r["reconstruction"][method] for r in with_method]
            row = {"data": name, "method": title, "seeds": len(found)}
            row["reconstruction accuracy, train"] = with_interval((r["train"] for r in found), SHARE)
            row["reconstruction accuracy, test"] = with_interval((r["test"] for r in found), SHARE)
            row["probe on pseudo-labels"] = with_interval((r["probe"] for r in found), SHARE)
            row["probe on true labels"] = with_interval((r["probe"] for r in with_method), SHARE)
            row["pixels, train"] = f"{with_method[0]['pixels'][method]:.3f}"
            for split, key in (("train", "chance"), ("test", "chance_test")):
                row[f"chance, {split}"] = f"{with_method[0][key]:.3f}"
            rows.append(row)
    return pd.DataFrame(rows).set_index(["data", "method"])


def collapse_table(runs_of: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Coarse accuracy, NC1 of coarse labels, explained variance and mean MSDR of fine classes at the end."""
    rows = []
    for name, runs in runs_of.items():
        last = [run.history[-1] for run in runs]
        row = {"data": name}
        for split in ("train", "test"):
            row[f"coarse accuracy, {split}"] = over_seeds(record[f"{split}_accuracy"] for record in last)
        row["NC1 of coarse labels, train"] = over_seeds((coarse_nc1(run) for run in runs), "{:.2g}")
        for split in ("train", "test"):
            explained = (mean_explained_variance(run, split) for run in runs)
            row[f"explained variance, {split}"] = over_seeds(explained)
        for split in ("train", "test"):
            row[f"MSDR, {split}"] = over_seeds((mean_msdr(run, split) for run in runs), "{:.2f}")
        rows.append(row)
    return pd.DataFrame(rows).set_index("data")


def shown_split(run: Run) -> str:
    """Whose features a page draws: those of train, or of test where a run was released with some of train."""
    return "test" if run.released else "train"


def opening_run(choice: Mapping[str, Any]) -> ReleasedRun:
    """A run that was released with features and ``references``, on which chapters 3 to 5 open.

    The one that a page's parameters choose if it is such a run, else that of CIFAR-10.
    """
    chosen = find_released(recipe_config(**choice))
    return chosen if chosen and chosen.references else released_runs(OPENING)[0]


def by_experiment(runs: Iterable[ReleasedRun]) -> dict[str, list[ReleasedRun]]:
    """Released runs by name without "-seedN", those of one name in the order of their seeds."""
    grouped: dict[str, list[ReleasedRun]] = {}
    for run in sorted(runs, key=lambda run: run.config.seed):
        grouped.setdefault(run.folder.name.rpartition("-seed")[0], []).append(run)
    return dict(sorted(grouped.items()))


def provenance_table(runs_of: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Where the numbers of a chapter come from."""
    rows = []
    for name, runs in runs_of.items():
        c, made = runs[0].config, [run.provenance for run in runs]
        n_train, n_test = (count_images(runs[0], split) for split in ("train", "test"))
        rows.append(
            {
                "data": name,
                "n train / test": f"{n_train:,} / {n_test:,}",
                "network": network(c),
                "epochs": c.epochs,
                "augmentation": c.augment,
                "seeds": ", ".join(str(run.config.seed) for run in runs),
                "time a run": duration(float(np.mean([each["seconds"] for each in made]))),
                "device": "; ".join(dict.fromkeys(each["device"] for each in made)),
                "torch": ", ".join(dict.fromkeys(each["torch"] for each in made)),
                "commit": ", ".join(dict.fromkeys(short_commit(each["commit"]) for each in made)),
            }
        )
    return pd.DataFrame(rows).set_index("data").T


def settings_table(runs_of: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """How runs were trained, where that may differ from somebody else's."""
    rows = []
    for name, runs in runs_of.items():
        c = runs[0].config
        row = {"data": name, "network": c.arch, "width": c.width, "epochs": c.epochs, "schedule": c.schedule}
        row |= {"augmentation": c.augment, "learning rate": c.lr, "weight decay": c.weight_decay}
        rows.append(row | {"super-classes": f"{c.grouping}, {runs[0].grouping.num_coarse}"})
    return pd.DataFrame(rows).set_index("data").T


def short_commit(commit: str) -> str:
    """The first ten digits of a commit; still "-dirty" if it was."""
    return commit[:10] + ("-dirty" if commit.endswith("-dirty") else "")


def describe(run: Run) -> str:
    """What was trained, for a caption."""
    c, n = run.config, run.grouping.num_coarse
    rule = f"grouping {c.grouping}" if isinstance(c.grouping, str) else "grouped one by one"
    labels = f"all {n} labels" if c.grouping == "none" else f"{n} super-classes ({rule})"
    return f"{c.dataset}, {labels}, {network(c)}, {c.epochs} epochs"


def followed(run: Run) -> str:
    """On how many train images a run was measured before the end, for a caption; nothing if on all."""
    images = count_images(run, "train", run.measured_epochs[0])
    return (
        f" Before the end, train is {images:,} of its images." if images < count_images(run, "train") else ""
    )


def network(config: RunConfig) -> str:
    """Architecture and width of a network, for a reader."""
    return f"{NETWORKS[config.arch]} of width {config.width}"


def duration(seconds: float) -> str:
    """Seconds, or minutes from two minutes on."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
