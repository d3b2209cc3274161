"""Chapter 11: out-of-distribution detection."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nclib.chapters.figures import MARKERS, described, theme
from nclib.chapters.statistics import interval, with_interval
from nclib.runs.released import ReleasedRun, released_runs

SCORE_NAMES = {
    "softmax": "MSP",
    "energy": "energy",
    "norm": "norm",
    "nearest-mean": "nearest mean",
    "gaussian": "Mahalanobis",
    "gmm": "Gaussian mixture",
    "knn": "k-NN",
    "neco": "NECO",
}
LABEL_NAMES = {"labels of training": "training labels", "labels found again": "pseudo-labels"}


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``nclib.runs.detection.detections`` with the field's names for the keys of released runs."""
    rows = rows.replace({"score": SCORE_NAMES, "labels": LABEL_NAMES})
    return rows.rename(columns={"outliers": "OOD samples"})


def held_out(recipe: str = "fashion-narrow") -> dict[str, list[ReleasedRun]]:
    """Released runs without classes 7, 8 and 9, by the labels that they were trained on."""
    return {labels: released_runs(f"{recipe}-{labels}-without-7-8-9-seed*") for labels in ("coarse", "fine")}


def detection_table(rows: pd.DataFrame, measure: str = "auroc") -> pd.DataFrame:
    """A measure of detection by training, score and labels (rows) and by OOD samples (columns).

    Parameters
    ----------
    rows : of ``nclib.runs.detection.detections``.
    measure : "auroc" or "fpr95".

    Returns
    -------
    text: mean over seeds with its 95 % interval.
    """
    keys = ["OOD samples", "trained on", "score", "labels"]
    cells = named(rows).groupby(keys, sort=False)[measure].agg(with_interval)
    table = cells.unstack("OOD samples", sort=False)
    table.columns.name = {"auroc": "AUROC", "fpr95": "FPR at 95 % TPR"}[measure]
    return table


def best_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """For all OOD samples and trainings, the score and labelling with the highest mean AUROC over seeds.

    Parameters
    ----------
    rows : as in ``detection_table``.

    Notes
    -----
    The best of many is chosen on the samples that judge it: a comparison of bests, not a forecast.
    """
    found = []
    for (kind, trained), of_case in named(rows).groupby(["OOD samples", "trained on"], sort=False):
        of_score = of_case.groupby(["score", "labels"], sort=False)
        best = of_score["auroc"].mean().idxmax()
        chosen = of_score.get_group(best)
        row = {"OOD samples": kind, "trained on": trained, "best score": best[0], "labels": best[1]}
        row |= {"AUROC": with_interval(chosen["auroc"]), "worst seed": f"{chosen['auroc'].min():.3f}"}
        found.append(
            row | {"FPR at 95 % TPR": with_interval(chosen["fpr95"]), "OOD samples, n": chosen["n"].iloc[0]}
        )
    return pd.DataFrame(found).set_index(["OOD samples", "trained on"])


@theme()
def detection_figure(rows: pd.DataFrame, title: str = "") -> Axes:
    """AUROC of every score and labelling, a panel for each kind of OOD samples, a colour for each training.

    Points are means over seeds, bars their 95 % intervals.

    Parameters
    ----------
    rows : of ``nclib.runs.detection.detections``.
    """
    rows = named(rows)
    kinds, trainings = (list(rows[column].unique()) for column in ("OOD samples", "trained on"))
    plain = rows["labels"] == "none"
    rows = rows.assign(case=rows["score"].where(plain, rows["score"] + ", " + rows["labels"]))
    rows = rows.sort_values("case", key=lambda cases: cases.map(_place_of_score), kind="stable")
    cases = list(rows["case"].unique())
    figure, panels = plt.subplots(
        1,
        len(kinds),
        figsize=(2.5 + 2.8 * len(kinds), 1.4 + 0.3 * len(cases)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    means = rows.groupby(["OOD samples", "case", "trained on"])["auroc"].agg(interval)
    for kind, panel in zip(kinds, panels[0], strict=True):
        for number, training in enumerate(trainings):
            shown = [(at, case) for at, case in enumerate(cases) if (kind, case, training) in means]
            mean, half = np.array([means[kind, case, training] for _, case in shown]).T
            height = [at + 0.5 * ((number + 0.5) / len(trainings) - 0.5) for at, _ in shown]
            style = {"color": f"C{number}", "marker": MARKERS[number % len(MARKERS)], "ms": 4, "lw": 1.2}
            panel.errorbar(mean, height, xerr=half, ls="none", label=training, **style)
        panel.axvline(0.5, color="0.4", ls=":")
        panel.set(xlabel="AUROC (dotted: chance)", title=kind)
        panel.set_xlim(right=1.01)
    panels[0, 0].set_yticks(range(len(cases)), cases)
    panels[0, 0].invert_yaxis()
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), title="trained on")
    figure.suptitle(title or "Which score detects which OOD samples")
    best = {kind: max(((m[0], c) for (k, c, _), m in means.items() if k == kind)) for kind in kinds}
    words = "; ".join(f"{kind}: {case} ({auroc:.3f})" for kind, (auroc, case) in best.items())
    return described(panels[0, 0], f"AUROC by score. Best for each kind of OOD samples: {words}.")


def _place_of_score(case: str) -> int:
    return list(SCORE_NAMES.values()).index(case.partition(",")[0])
