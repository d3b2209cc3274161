"""Statements about detection change when the scores do."""

from __future__ import annotations

import pandas as pd

from nclib.chapters import conclusions, ood_detection
from nclib.chapters.ood_detection import LABEL_FREE, LABELLINGS, OF_MEANS
from nclib.config import recipe_config
from nclib.data.grouping import task

SEEDS = range(5)


def rows(auroc, outliers: str = "held-out classes", trainings=("coarse", "fine")) -> pd.DataFrame:
    """Rows of ``detections``; ``auroc`` gives one for training and labels, seeds scatter by 0.001."""
    found = []
    for trained in trainings:
        cases = [(LABEL_FREE, "none")]
        if trained == "coarse":
            cases += [(score, labels) for score in OF_MEANS for labels in LABELLINGS]
        for score, labels in cases:
            for seed in SEEDS:
                row = {"trained on": trained, "seed": seed, "outliers": outliers, "score": score}
                row |= {"labels": labels, "auroc": auroc(trained, labels) + 0.001 * (seed * 7 % 5), "n": 100}
                found.append(row)
    return pd.DataFrame(found)


def verdicts(live, losses) -> list[list[str]]:
    made = ood_detection.statements("digits", live, live.iloc[:0], losses)
    decided = conclusions.show(*made).rows
    return [[r["verdict"] for r in decided if r["statement"] == s.text] for s in made]


def noisy(trained: str) -> float:
    return 0.9 if trained == "NC loss" else 0.8


def jitter(rows: pd.DataFrame) -> pd.DataFrame:
    """Seeds differ in their differences, too."""
    odd = (rows["labels"] == LABELLINGS[1]) | (rows["trained on"].isin(["coarse", "NC loss"]))
    return rows.assign(auroc=rows["auroc"] + 0.002 * odd * (rows["seed"] % 3 - 1))


def test_statements_change_with_the_scores():
    losses = jitter(rows(lambda trained, _: noisy(trained), "noise", ("NC loss", "cross entropy")))
    labels = dict(zip(("none", *LABELLINGS), (0.9, 0.7, 0.9, 0.9), strict=True))
    structure = jitter(rows(lambda trained, of: labels[of]))
    held = verdicts(structure, losses)
    assert held == [["holds"] * 2, ["holds"] * 2, ["holds"], ["holds"], ["holds"]]
    none = dict(zip(("none", *LABELLINGS), (0.4, 0.9, 0.7, 0.9), strict=True))
    worse = jitter(rows(lambda trained, of: none[of] + 0.2 * (trained == "fine")))
    fails = verdicts(worse, losses.assign(auroc=1 - losses["auroc"]))
    assert fails == [["does not hold"] * 2, ["does not hold"] * 2, *[["does not hold"]] * 3]


def test_held_out_classes_of_the_chapter_leave_siblings():
    grouping = task(recipe_config("digits", grouping="mod3", held_out=[7, 8, 9]))[1]
    assert [len(grouping.members(c)) for c in range(grouping.num_coarse)] == [3, 2, 2]
    whole = task(recipe_config("digits", grouping="mod3"))[1]
    left = [[c for c in whole.members(int(whole.fine_to_coarse[held])) if c < 7] for held in (7, 8, 9)]
    assert min(len(siblings) for siblings in left) == 2
