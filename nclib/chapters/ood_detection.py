"""Chapter 11: out-of-distribution detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nclib.chapters.conclusions import CLOSE, Case, Statement
from nclib.chapters.figures import MARKERS, described, theme
from nclib.chapters.statistics import SHARE, error_bar, with_interval
from nclib.runs.detection import CLASS_SCORES, LABELLINGS, PLAIN_SCORES
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
TRAININGS = {"coarse": "super-classes", "fine": "fine labels"}  # of the network
LABEL_NAMES = {"labels of training": "training labels", "labels found again": "pseudo-labels"}
HELD_OUT = "held-out classes"
COUNT_ONLY = ("neco",)  # of labels it takes their number, which pseudo-labels share with the fine classes
LENGTH_ONE = ", L2-normalised"  # after the name of a training
NORMALISED = {
    name + (LENGTH_ONE if l2 else ""): fields | {"l2_features": l2}
    for name, fields in {"fine": {"grouping": "none"}, "coarse": {}}.items()
    for l2 in (False, True)
}
EQUAL = "both about equally well"  # answers to the reader's guess
DEPENDS = "it depends on the score"


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``nclib.runs.detection.detections`` with the field's names for the keys of released runs."""
    rows = rows.replace({"score": SCORE_NAMES, "labels": LABEL_NAMES})
    return rows.rename(columns={"outliers": "OOD samples"})


def of_directions(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``nclib.runs.detection.detections`` without the norm, which says nothing where all have one."""
    return rows[rows["score"] != "norm"]


def held_out() -> dict[str, list[ReleasedRun]]:
    """Released runs on FashionMNIST without classes 7, 8 and 9, by the labels that they were trained on."""
    names = {"coarse": "fashion-narrow-without-7-8-9", "fine": "fashion-narrow-fine-without-7-8-9"}
    return {trained: released_runs(f"{name}-seed*") for trained, name in names.items()}


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
    cells = named(rows).groupby(keys, sort=False)[measure].agg(with_interval, SHARE)
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
        row |= {"AUROC": with_interval(chosen["auroc"], SHARE), "worst seed": f"{chosen['auroc'].min():.3f}"}
        found.append(
            row
            | {
                "FPR at 95 % TPR": with_interval(chosen["fpr95"], SHARE),
                "OOD samples, n": chosen["n"].iloc[0],
            }
        )
    return pd.DataFrame(found).set_index(["OOD samples", "trained on"])


@theme()
def detection_figure(rows: pd.DataFrame, title: str = "") -> Axes:
    """AUROC of every score and labelling, a panel for each kind of OOD samples, a colour for each training.

    Points are means over seeds, bars those of ``error_bar``.

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
    means = rows.groupby(["OOD samples", "case", "trained on"])["auroc"].agg(error_bar, SHARE)
    for kind, panel in zip(kinds, panels[0], strict=True):
        for number, training in enumerate(trainings):
            shown = [(at, case) for at, case in enumerate(cases) if (kind, case, training) in means]
            mean, *bar = np.array([means[kind, case, training] for _, case in shown]).T
            height = [at + 0.5 * ((number + 0.5) / len(trainings) - 0.5) for at, _ in shown]
            style = {"color": f"C{number}", "marker": MARKERS[number % len(MARKERS)], "ms": 4, "lw": 1.2}
            panel.errorbar(mean, height, xerr=bar, ls="none", label=training, **style)
        panel.axvline(0.5, color="0.4", ls=":")
        panel.set(xlabel="AUROC", title=kind)
        panel.set_xlim(right=1.01)
    panels[0, 0].set_yticks(range(len(cases)), cases)
    panels[0, 0].invert_yaxis()
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), title="trained on")
    figure.suptitle(f"{title or 'Which score detects which OOD samples'} (dotted: chance)")
    best = {kind: max(((m[0], c) for (k, c, _), m in means.items() if k == kind)) for kind in kinds}
    words = "; ".join(f"{kind}: {case} ({auroc:.3f})" for kind, (auroc, case) in best.items())
    return described(panels[0, 0], f"AUROC by score. Best for each kind of OOD samples: {words}.")


def _place_of_score(case: str) -> int:
    return list(SCORE_NAMES.values()).index(case.partition(",")[0])


def statements(
    data: str, live: pd.DataFrame, kept: pd.DataFrame, losses: pd.DataFrame, normalised: pd.DataFrame
) -> list[Statement]:
    """What the page's runs decide about labels, networks and losses, a case for each data set and score.

    Parameters
    ----------
    data : name of the data set of ``live``.
    live : of ``nclib.runs.detection.detections``, networks trained on "coarse" and "fine" labels, in which
        the held-out classes leave siblings behind.
    kept : the same of released runs on FashionMNIST.
    losses : the same of released runs by loss, without held-out classes.
    normalised : the same of ``NORMALISED``, on the data set of ``live``.

    Notes
    -----
    No score is chosen: scores disagree, so that a choice would decide. Where networks are compared, a
    score that needs classes has the labels that its network was trained on. The best score without
    labels is the best on average over seeds, on the samples that judge it: hindsight favours the reference.
    """
    same = {"trained on": "coarse", "outliers": HELD_OUT}
    coarse, pseudo, fine = (same | {"labels": name} for name in LABELLINGS)
    of_data = {data: live, "FashionMNIST": kept}

    def by_labels(other: dict[str, str], scores: Sequence[str]) -> list[Case | None]:
        return [
            _case(f"{name}, {SCORE_NAMES[s]}", rows, pseudo | {"score": s}, other | {"score": s})
            for name, rows in of_data.items()
            for s in scores
        ]

    def by_network(*trained: str) -> list[Case | None]:
        return [
            _case(f"{name}, {SCORE_NAMES[s]}", rows, *(_as_trained(s, of, HELD_OUT) for of in trained))
            for name, rows in of_data.items()
            for s in SCORE_NAMES
        ]

    made = [
        Statement(
            "Scores that need classes detect held-out classes better with pseudo-labels than with the"
            " super-classes",
            "AUROC with pseudo-labels minus that with super-classes",
            by_labels(coarse, CLASS_SCORES),
        ),
        Statement(
            "With pseudo-labels, scores that need classes detect held-out classes better than the best score"
            " that needs none",
            "AUROC with pseudo-labels minus that of the best score without labels, chosen with hindsight",
            [case for name, rows in of_data.items() for case in _beyond_label_free(name, rows, pseudo)],
        ),
        Statement(
            f"Pseudo-labels detect held-out classes less than {CLOSE} worse than the true fine labels do",
            "AUROC with pseudo-labels minus that with fine labels",
            by_labels(fine, [s for s in CLASS_SCORES if s not in COUNT_ONLY]),
            -CLOSE,
        ),
        Statement(
            f"A network trained on super-classes detects held-out classes less than {CLOSE} worse than one"
            " trained on fine labels",
            "AUROC, coarse minus fine training, by score",
            by_network("coarse", "fine"),
            -CLOSE,
        ),
        Statement(
            "A network trained on super-classes detects held-out classes better than one trained on fine"
            " labels",
            "AUROC, coarse minus fine training, by score",
            by_network("coarse", "fine"),
        ),
        Statement(
            "With the true fine labels for both, a network trained on super-classes detects held-out classes"
            f" less than {CLOSE} worse than one trained on fine labels",
            "AUROC, coarse minus fine training, both with the fine labels, by score",
            [
                _case(
                    f"{name}, {SCORE_NAMES[s]}", rows, fine | {"score": s}, _as_trained(s, "fine", HELD_OUT)
                )
                for name, rows in of_data.items()
                for s in CLASS_SCORES
            ],
            -CLOSE,
        ),
        Statement(
            "Held-out classes are detected better than by guessing",
            "AUROC, coarse training, minus one half, by score",
            by_network("coarse"),
        ),
        Statement(
            "After the NC loss, OOD samples are detected better than after cross entropy",
            "AUROC, NC loss minus cross entropy, by score",
            [
                _case(
                    f"FashionMNIST, {kind}, {SCORE_NAMES[s]}",
                    losses,
                    *(_as_trained(s, of, kind) for of in ("NC loss", "cross entropy")),
                )
                for kind in losses["outliers"].unique()
                for s in SCORE_NAMES
            ],
        ),
        Statement(
            "With L2-normalised features, held-out classes are detected better than with free ones",
            "AUROC, L2-normalised minus free features, by score",
            [
                _case(
                    f"{data}, {TRAININGS[of]}, {SCORE_NAMES[s]}",
                    normalised,
                    *(_as_trained(s, name, HELD_OUT) for name in (of + LENGTH_ONE, of)),
                )
                for of in ("fine", "coarse")
                for s in normalised["score"].unique()
            ],
        ),
    ]
    held = [replace(statement, cases=[case for case in statement.cases if case]) for statement in made]
    return [statement for statement in held if statement.cases]


def better_network(rows: pd.DataFrame) -> tuple[str, str]:
    """Which network detects held-out classes better: an answer to the reader's guess, and its counts.

    Parameters
    ----------
    rows : of ``nclib.runs.detection.detections``, trained on "coarse" and "fine" labels.

    Returns
    -------
    One of the guess's choices: what more than half of the scores say and none contradicts, namely which
    network is better, or neither, where mean AUROCs over seeds differ by at most ``CLOSE``; else that it
    depends on the score. And how many scores say what.
    """
    counts = _scores_ahead(rows, HELD_OUT)
    words = "; ".join(f"{answer}: {count}" for answer, count in counts.items())
    most = max(counts, key=counts.get)
    one_sided = sum(count > 0 for name, count in counts.items() if name != EQUAL) < 2
    answer = most if one_sided and 2 * counts[most] > len(SCORE_NAMES) else DEPENDS
    return answer, f"By the mean AUROC of {len(SCORE_NAMES)} scores, {words}"


def scores_ahead(of_data: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """By how many scores each network is the better one, by data set and kind of OOD samples (rows).

    Parameters
    ----------
    of_data : rows as of ``better_network``, by data set.
    """
    rows = {
        (name, kind): _scores_ahead(rows, kind)
        for name, rows in of_data.items()
        for kind in rows["outliers"].unique()
    }
    return pd.DataFrame(rows).T.rename_axis(["data", "OOD samples"])


def _scores_ahead(rows: pd.DataFrame, outliers: str) -> dict[str, int]:
    """How many scores detect better with which network; neither, where means are at most ``CLOSE`` apart."""
    names = {trained: f"the network trained on {labels}" for trained, labels in TRAININGS.items()}
    counts = dict.fromkeys((*names.values(), EQUAL), 0)
    for score in SCORE_NAMES:
        coarse, fine = (_by_seed(rows, _as_trained(score, of, outliers)).mean() for of in names)
        better = names["coarse"] if coarse > fine else names["fine"]
        counts[EQUAL if abs(coarse - fine) <= CLOSE else better] += 1
    return counts


def _as_trained(score: str, trained: str, outliers: str) -> dict[str, str]:
    """The rows of a score with the labels of training, of networks trained in one way."""
    labels = LABELLINGS[0] if score in CLASS_SCORES else "none"
    return {"score": score, "trained on": trained, "outliers": outliers, "labels": labels}


def _beyond_label_free(data: str, rows: pd.DataFrame, pseudo: dict[str, str]) -> list[Case | None]:
    """Every score that needs classes, with pseudo-labels, against the best of the others."""
    free = {s: _as_trained(s, "coarse", HELD_OUT) for s in PLAIN_SCORES}
    best = max(free, key=lambda s: _by_seed(rows, free[s]).mean())
    name = f"{data}, {{}} against {SCORE_NAMES[best]}"
    return [_case(name.format(SCORE_NAMES[s]), rows, pseudo | {"score": s}, free[best]) for s in CLASS_SCORES]


def _case(
    name: str, rows: pd.DataFrame, one: Mapping[str, str], other: Mapping[str, str] | None = None
) -> Case | None:
    """AUROC in the rows of ``one``, minus that in those of ``other``, or one half; by seed."""
    first = _by_seed(rows, one)
    second = first * 0 + 0.5 if other is None else _by_seed(rows, other)
    seeds = first.index.intersection(second.index)
    if seeds.empty:
        return None
    n = rows.loc[rows["outliers"] == one["outliers"], "n"].iloc[0]
    return Case(name, (first[seeds] - second[seeds]).tolist(), int(n))


def _by_seed(rows: pd.DataFrame, where: Mapping[str, str]) -> pd.Series:
    wanted = (rows[list(where)] == pd.Series(where)).all(axis=1)
    return rows[wanted].set_index("seed")["auroc"].sort_index()
