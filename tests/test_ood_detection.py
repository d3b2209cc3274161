"""Statements about detection change when the scores do."""

from __future__ import annotations

import pandas as pd
import pytest

from nclib.chapters import conclusions, ood_detection
from nclib.chapters.ood_detection import LABELLINGS, SCORE_NAMES
from nclib.config import recipe_config
from nclib.data.grouping import task
from nclib.runs.detection import CLASS_SCORES

SEEDS = range(5)
COARSE, PSEUDO, FINE = LABELLINGS


def rows(auroc, outliers: str = "held-out classes", trainings=("coarse", "fine")) -> pd.DataFrame:
    """Rows of ``detections``; ``auroc`` gives one for training, score and labels, seeds scatter."""
    found = []
    for trained in trainings:
        for score in SCORE_NAMES:
            several = LABELLINGS if trained == "coarse" else [COARSE]
            for at, labels in enumerate(several if score in CLASS_SCORES else ["none"]):
                for seed in SEEDS:
                    scatter = 0.001 * ((seed * 7 + at + 3 * (trained in ("fine", "NC loss"))) % 5)
                    row = {"trained on": trained, "seed": seed, "outliers": outliers, "score": score}
                    row |= {"labels": labels, "auroc": auroc(trained, score, labels) + scatter, "n": 100}
                    found.append(row)
    return pd.DataFrame(found)


def decided(live, losses, kept=None, normalised=None) -> list[dict[str, str]]:
    """Verdicts by data, of every statement."""
    kept, normalised = (live.iloc[:0] if table is None else table for table in (kept, normalised))
    made = ood_detection.statements("digits", live, kept, losses, normalised)
    found = conclusions.show(*made).rows
    return [{r["data"]: r["verdict"] for r in found if r["statement"] == s.text} for s in made]


def of_losses(better: str) -> pd.DataFrame:
    both = ("NC loss", "cross entropy")
    return rows(lambda trained, *_: 0.9 if trained == better else 0.6, "noise", both)


def test_scores_are_compared_seed_by_seed():
    one, other = {"outliers": "noise", "score": "knn"}, {"outliers": "noise", "score": "gmm"}
    auroc = {"knn": {3: 0.9, 1: 0.7, 4: 0.2}, "gmm": {1: 0.6, 2: 0.1, 3: 0.4}}
    rows = pd.DataFrame(
        [
            {"outliers": "noise", "score": score, "seed": seed, "auroc": value, "n": 7}
            for score, of_seed in auroc.items()
            for seed, value in of_seed.items()
        ]
    )
    assert ood_detection._case("x", rows, one, other).values == pytest.approx([0.7 - 0.6, 0.9 - 0.4])
    assert ood_detection._case("x", rows, one).values == pytest.approx([0.7 - 0.5, 0.9 - 0.5, 0.2 - 0.5])


@pytest.mark.parametrize(
    ("gain", "verdicts"), [(0.1, {"holds", "observed"}), (-0.1, {"does not hold", "not observed"})]
)
def test_normalised_features_are_compared_with_free_ones_of_the_same_labels(gain, verdicts):
    base = {"fine": 0.7, "coarse": 0.6}
    table = rows(
        lambda trained, *_: base[trained.partition(",")[0]] + gain * ("normalised" in trained),
        trainings=tuple(ood_detection.NORMALISED),
    )
    directions = ood_detection.of_directions(table)
    assert set(directions["score"]) == set(SCORE_NAMES) - {"norm"}
    last = decided(rows(lambda *_: 0.8), of_losses("NC loss"), normalised=directions)[-1]
    assert len(last) == 2 * len(directions["score"].unique())
    assert set(last.values()) == verdicts  # of coarse labels all seeds gain equally much


def test_statements_change_with_the_scores():
    labels = {"none": 0.8, COARSE: 0.7, PSEUDO: 0.95, FINE: 0.95}
    held = decided(
        rows(lambda trained, _, of: 0.8 if trained == "fine" else labels[of]), of_losses("NC loss")
    )
    assert [len(of) for of in held] == [4, 4, 3, 8, 8, 4, 8, 8]
    assert [set(held[at].values()) for at in (0, 1, 2, 5, 6, 7)] == [{"holds"}] * 6
    not_worse, better = ({d.partition(", ")[2]: v for d, v in held[at].items()} for at in (3, 4))
    for score, name in SCORE_NAMES.items():  # with the labels of training, 0.7 against 0.8
        assert not_worse[name] == ("does not hold" if score in CLASS_SCORES else "holds")
        assert better[name] == ("does not hold" if score in CLASS_SCORES else "undecided")
    labels = {"none": 0.4, COARSE: 0.35, PSEUDO: 0.2, FINE: 0.3}
    worse = rows(lambda trained, _, of: labels[of] + 0.2 * (trained == "fine"))
    assert [set(of.values()) for of in decided(worse, of_losses("cross entropy"))] == [{"does not hold"}] * 8
    ahead = rows(lambda trained, *_: 0.9 if trained == "coarse" else 0.6)
    assert set(decided(ahead, of_losses("NC loss"))[4].values()) == {"holds"}


def test_released_runs_decide_the_same_statements_by_their_own_scores():
    better = {"none": 0.8, COARSE: 0.7, PSEUDO: 0.95, FINE: 0.95}
    worse = {"none": 0.4, COARSE: 0.35, PSEUDO: 0.2, FINE: 0.3}
    live = rows(lambda trained, _, of: better[of])
    kept = rows(lambda trained, _, of: worse[of] + 0.2 * (trained == "fine"))
    held = decided(live, of_losses("NC loss"), kept)
    for at, scores in {0: 4, 1: 4, 2: 3, 3: 8, 5: 4, 6: 8}.items():
        verdicts = {
            data: [v for d, v in held[at].items() if d.startswith(f"{data}, ")]
            for data in ("digits", "FashionMNIST")
        }
        assert verdicts == {"digits": ["holds"] * scores, "FashionMNIST": ["does not hold"] * scores}


def test_released_runs_leave_siblings_and_are_of_five_seeds():
    runs = ood_detection.held_out()
    assert [len(of) for of in runs.values()] == [5, 5]
    for labels, of in runs.items():
        for run in of:
            assert (run.config.held_out, run.config.augment) == ((7, 8, 9), "crop-flip")
            siblings = [len(run.grouping.members(c)) for c in range(run.grouping.num_coarse)]
            assert siblings == ([3, 2, 2] if labels == "coarse" else [1] * 7)


def test_the_best_score_without_labels_is_the_reference():
    """Energy is best; pseudo-labels beat the other two."""
    auroc = {"energy": 0.95, "softmax": 0.6, "norm": 0.6, "knn": 0.6} | dict.fromkeys(CLASS_SCORES, 0.9)
    found = decided(rows(lambda _, score, __: auroc[score]), of_losses("NC loss"))[1]
    assert all(data.endswith("against energy") for data in found)
    assert set(found.values()) == {"does not hold"}


def test_the_guess_is_answered_by_all_scores():
    def answer(gaps):
        live = rows(lambda trained, score, _: 0.8 + gaps.get(score, 0) * (trained == "coarse"))
        return ood_detection.better_network(live)

    everything = dict.fromkeys(SCORE_NAMES, -0.1)
    assert answer({})[0] == "both about equally well"
    assert answer(everything)[0] == "the network trained on fine labels"
    assert answer({score: 0.1 for score in SCORE_NAMES})[0] == "the network trained on super-classes"
    better, counts = answer(everything | {"knn": 0})
    assert better == "the network trained on fine labels"
    assert "fine labels: 7; both about equally well: 1" in counts
    assert answer(everything | {"knn": 0.1})[0] == "it depends on the score"
    half = list(SCORE_NAMES)[: len(SCORE_NAMES) // 2]
    assert answer(dict.fromkeys(half, -0.1))[0] == "it depends on the score"


def test_scores_are_counted_by_data_and_outliers():
    ahead = rows(lambda trained, score, _: 0.8 + (0.1 if score == "knn" else -0.1) * (trained == "coarse"))
    table = ood_detection.scores_ahead({"a": ahead, "b": rows(lambda *_: 0.8)})
    assert set(table.index.get_level_values("data")) == {"a", "b"}
    assert (table.loc["a"].to_numpy() == [1, len(SCORE_NAMES) - 1, 0]).all()
    assert (table.loc["b"].to_numpy() == [0, 0, len(SCORE_NAMES)]).all()


def test_held_out_classes_of_the_chapter_leave_siblings():
    grouping = task(recipe_config("digits", grouping="mod3", held_out=[7, 8, 9]))[1]
    assert [len(grouping.members(c)) for c in range(grouping.num_coarse)] == [3, 2, 2]
    whole = task(recipe_config("digits", grouping="mod3"))[1]
    left = [[c for c in whole.members(int(whole.fine_to_coarse[held])) if c < 7] for held in (7, 8, 9)]
    assert min(len(siblings) for siblings in left) == 2
