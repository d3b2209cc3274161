"""When structure appears, and when it vanishes: what is left of it, condition by condition.

ends(get_cases(GRID, "digits", range(5)))      # a row for each run
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from nclib.baselines import pixels
from nclib.clusters import METHODS, MOST, choose_k
from nclib.collapse import collapse_of
from nclib.config import RunConfig
from nclib.grouping import SEMANTIC, Grouping, task
from nclib.layers import activations
from nclib.moments import Moments
from nclib.released import released_cases
from nclib.remember import remembered
from nclib.report import coarse_nc1, fine_per_coarse, mean_msdr, shown_split, with_interval
from nclib.run import Run
from nclib.runs import get_cases
from nclib.structure import match_labels, msdr_of, reconstruct_labels
from nclib.train import initial_model

RATES = (0.1, 0.01, 0.001)
DECAYS = (5e-3, 5e-4, 5e-5)
GRID = {
    f"lr {lr:g}, weight decay {decay:g}": {"lr": lr, "weight_decay": decay}
    for lr in RATES
    for decay in DECAYS
}  # Yang, Steinhardt and Hu (2023)


def groupings(dataset: str, random: int = 3) -> dict[str, dict[str, str]]:
    """Cases for ``nclib.get_cases``: class index modulo 5, look-alikes, and some random groups of five."""
    alike = {"look-alikes": {"grouping": "semantic"}} if dataset in SEMANTIC else {}
    drawn = {f"random {seed}": {"grouping": f"random5:{seed}"} for seed in range(1, random + 1)}
    return {"modulo 5": {"grouping": "mod5"}} | alike | drawn


def scaled(config: RunConfig, field: str, factors: Iterable[str]) -> dict[str, dict[str, int]]:
    """Cases for ``nclib.get_cases``: a whole number of a configuration times each factor, such as "1/4"."""
    number = getattr(config, field)
    return {factor: {field: max(1, round(number * Fraction(factor)))} for factor in factors}


def runs_of(
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
    Columns "case", "seed", "lr", "weight_decay"; "accuracy" on true coarse labels; "found", "msdr" and
    "nc1" as in ``remains``; a released run states its own.
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
    """Share found again by data and learning rate (rows) and weight decay (columns).

    Parameters
    ----------
    grids : runs for each case of ``GRID``, by a name for each.
    method : of clustering, see ``nclib.reconstruct_labels``.

    Returns
    -------
    text: mean over seeds with its 95 % interval, a dash for a setting without a run.
    """
    rows = pd.concat([ends(cases, method).assign(data=name) for name, cases in grids.items() if cases])
    cells = rows.groupby(["data", "lr", "weight_decay"])["found"].agg(with_interval).unstack()
    cells = cells.sort_index(ascending=[True, False]).sort_index(axis=1, ascending=False).fillna("-")
    cells = cells.rename("{:g}".format, axis=1).rename("{:g}".format, level="lr")
    return cells.rename_axis(index=["data", "learning rate"], columns="weight decay")


def _end(run: Run, method: str) -> dict[str, Any]:
    config = run.config
    row = {"seed": config.seed, "lr": config.lr, "weight_decay": config.weight_decay}
    row["accuracy"] = run.history[-1]["train_accuracy"]
    if run.released:
        found = run.results["reconstruction"][method]["train"]
        return row | {"found": found, "msdr": mean_msdr(run), "nc1": coarse_nc1(run)}
    return row | remembered(run, _remains_of, method)


def _remains_of(run: Run, method: str) -> dict[str, float]:
    f = run.features("train")
    return remains(f.h, f.fine, run.grouping, method)


def remains(h: Tensor, fine: Tensor, grouping: Grouping, method: str = "kmeans") -> dict[str, float]:
    """Structure in features (N, D) with fine labels (N,), in three numbers.

    Returns
    -------
    dict. "found": share of samples whose fine label clustering inside each coarse label finds again, with as
    many clusters as classes; "msdr": mean over the fine classes that have siblings; "nc1" of the coarse
    labels.
    """
    moments = Moments.of(h, fine, len(grouping.fine_names))
    group = grouping.fine_to_coarse
    k = [len(grouping.members(c)) for c in range(grouping.num_coarse)]
    pseudo = reconstruct_labels(h, grouping.coarse(fine), k, method)
    return {
        "found": match_labels(pseudo, fine).accuracy,
        "msdr": float(torch.nanmean(msdr_of(moments, group))),
        "nc1": collapse_of(moments.grouped(group))["nc1"],
    }


def by_layer(runs: Iterable[Run], split: str = "train") -> pd.DataFrame:
    """``remains`` of the pixels and after every layer, of the trained network and of the untrained one.

    Parameters
    ----------
    runs : with weights; a released run has none.

    Returns
    -------
    A row for each seed, "network" ("trained" or "untrained") and layer, which stands in "case".
    """
    rows = []
    for run in runs:
        splits, grouping = task(run.config)
        images = getattr(splits, split)
        before = initial_model(run.config, splits.train.images, grouping.num_coarse)
        for network, model in (("trained", run.model()), ("untrained", before)):
            held = activations(model, run.config.arch, images.images)
            for layer, h in ({"pixels": pixels(images.images)} | held).items():
                row = {"case": layer, "network": network, "seed": run.config.seed}
                rows.append(row | remains(h, images.labels, grouping))
    return pd.DataFrame(rows)


def wrong_k(runs: Iterable[Run], most: int = MOST) -> pd.DataFrame:
    """What k-means finds inside the coarse labels with 1 to ``most`` clusters each.

    Returns
    -------
    A row for each "seed" and "k". "accuracy" of the matched labels, in which a cluster without a class
    is wrong; "purity", each cluster counted as its most frequent class; "ari", the adjusted Rand index, mean
    over coarse labels: 0 by chance, 1 for the same division.
    """
    rows = []
    for run in runs:
        f = run.features(shown_split(run))
        fine, coarse = f.fine.numpy(), f.coarse.numpy()
        for k in range(1, most + 1):
            pseudo = reconstruct_labels(f.h, coarse, k, "kmeans")
            table = np.zeros((pseudo.max() + 1, fine.max() + 1))
            np.add.at(table, (pseudo, fine), 1)
            labels = (coarse == c for c in range(run.grouping.num_coarse))
            row = {"seed": run.config.seed, "k": k, "accuracy": match_labels(pseudo, fine).accuracy}
            row["purity"] = table.max(axis=1).sum() / len(fine)
            row["ari"] = float(np.mean([adjusted_rand_score(fine[at], pseudo[at]) for at in labels]))
            rows.append(row)
    return pd.DataFrame(rows)


def chosen_k(
    cases: Mapping[str, Sequence[Run]], methods: Sequence[str] = tuple(METHODS), most: int = MOST
) -> pd.DataFrame:
    """The number of clusters that ``nclib.choose_k`` finds in every coarse label, beside the true one.

    Returns
    -------
    A row for each "case", "seed", "label" and "method", with "true" and "chosen".
    """
    rows = []
    for case, runs in cases.items():
        for run in runs:
            f = run.features(shown_split(run))
            for method in methods:
                chosen = choose_k(f.h, f.coarse, method, most).tolist()
                for label, (true, k) in enumerate(zip(fine_per_coarse(run), chosen, strict=True)):
                    row = {"case": case, "seed": run.config.seed, "label": label}
                    rows.append(row | {"method": method, "true": true, "chosen": k})
    return pd.DataFrame(rows)
