"""The number of clusters: wrong ones, chosen ones, and what chapter 14 says of them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest

import nclib
from nclib.chapters import conclusions
from nclib.chapters import number_of_classes as chapter

pytestmark = pytest.mark.numeric


class TestNumbers:
    def test_one_cluster_finds_the_larger_class(self, tiny_run):
        row = chapter.wrong_k([tiny_run], most=1).iloc[0]
        counts = torch.bincount(tiny_run.features("train").fine).view(2, 5)  # rows are siblings
        expected = float(counts.max(dim=0).values.sum() / counts.sum())
        assert row["accuracy"] == row["purity"] == pytest.approx(expected)
        assert row["ari"] == 0

    def test_purity_grows_and_is_no_less_than_accuracy(self, tiny_run):
        table = chapter.wrong_k([tiny_run], most=4)
        assert (table["purity"] >= table["accuracy"]).all()
        assert table["purity"].iloc[-1] > table["purity"].iloc[0]

    def test_chosen_stand_beside_the_true(self, tiny_run):
        table = chapter.chosen_k({"two": [tiny_run]}, methods=["silhouette"], most=3)
        assert table["label"].tolist() == [0, 1, 2, 3, 4]
        assert set(table["true"]) == {2}
        f = tiny_run.features("train")
        chosen = nclib.choose_k(f.h, f.coarse, "silhouette", most=3)
        assert np.array_equal(table["chosen"], chosen)


def verdicts(ari=(0.0, 0.9, 0.7, 0.5), accuracy=(0.5, 0.9, 0.7, 0.5), purity=(0.5, 0.9, 0.9, 0.9),
             strength=2, silhouette=3, true=2):  # fmt: skip
    """Of three seeds that differ a little; measures for one cluster to four."""
    quality = pd.DataFrame(
        {"seed": seed, "k": k + 1, "ari": ari[k] + seed / 1000 * k, "accuracy": accuracy[k] - seed / 1000 * k,
         "purity": purity[k]}
        for seed in range(3) for k in range(4)
    )  # fmt: skip
    numbers = pd.DataFrame(
        {"case": "two", "seed": seed, "label": label, "method": method, "true": true,
         "chosen": chosen if label + seed else 1}
        for seed in range(3) for label in range(5)
        for method, chosen in (("prediction-strength", strength), ("silhouette", silhouette))
    )  # fmt: skip
    said = chapter.statements(quality, numbers, "a", 100)
    return [row["verdict"] for row in conclusions.show(*said).rows]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ["holds"] * 3),
        ({"ari": (0, 0.5, 0.9, 0.4)}, ["does not hold", "holds", "holds"]),
        ({"purity": (0.5, 0.9, 0.4, 0.2)}, ["holds", "does not hold", "holds"]),
        ({"strength": 3, "silhouette": 2}, ["holds", "holds", "does not hold"]),
        ({"true": 3, "strength": 3, "silhouette": 2}, ["holds"]),  # there are no six clusters to compare with
    ],
)
def test_the_numbers_decide(changed, expected):
    assert verdicts(**changed) == expected


def test_super_classes_of_one_class_are_another_question():
    """The silhouette, which cannot say one, is compared where there are several."""
    rows = [
        {"case": "one", "seed": seed, "method": method, "true": true, "chosen": chosen}
        for seed in range(2)
        for method, true, chosen in (
            ("prediction-strength", 1, 1), ("silhouette", 1, 2),
            ("prediction-strength", 3, 2), ("silhouette", 3, 3),
        )
    ]  # fmt: skip
    quality = pd.DataFrame({"seed": [0], "k": [1], "ari": [0], "accuracy": [1], "purity": [1]})
    several, one = chapter.statements(quality, pd.DataFrame(rows), "a", 100)
    assert several.cases[0].values == [-1, -1]
    assert one.cases[0].values == [1, 1]


def measured(kind, alarms, draws=80, population="Gaussian", n=200, d=16, **setting):
    rate = binomtest(alarms, draws).proportion_ci()
    ends = {"rate": alarms / draws, "low": rate.low, "high": rate.high}
    given = {"separation": None, "ratio": None} | setting
    return (
        {"kind": kind, "population": population, "samples": n, "dimension": d, "draws": draws} | given | ends
    )


LEVEL = {
    "level": 0.05,
    "arcs": {"arc of 45 degrees": 0.0, "arc of 170 degrees": 0.4},
    "rows": [
        measured("one", 0),
        measured("one", 2, n=50),
        measured("one", 12, population="uniform"),
        measured("arc", 0, population="arc of 45 degrees"),
        measured("arc", 80, population="arc of 170 degrees"),
        measured("same sample", 76, d=512),
        measured("two", 40, separation=4, ratio=1),
        measured("two", 70, separation=5, ratio=1),
        measured("two", 10, separation=5, ratio=10),
    ],
}


class TestLevel:
    def test_interval_decides(self):
        assert chapter.rates(LEVEL)["verdict"].tolist()[:3] == ["held", "undecided", "exceeded"]
        words = chapter.level_in_words(LEVEL)  # not of the arc with a valley
        assert "4 settings" in words and "held in 2, exceeded in 1, undecided in 1" in words
        assert "highest rate 0.150" in words

    def test_tables(self):
        table = chapter.level_table(LEVEL)
        assert table.loc[(50, 16), "Gaussian"].startswith("0.025 [0.003, 0.087]")  # exact, of 2 in 80
        assert table.loc[(50, 16), "uniform"] == "-"
        further = chapter.further_level_table(LEVEL)["deepest valley along a line"]
        assert further.tolist() == ["0.00", "0.40", "-"]
        assert chapter.along_k_means(LEVEL, "same sample") == 95

    def test_figure_has_every_power(self):
        axes = chapter.power_figure(LEVEL, "Power")
        assert "n = 200, D = 16: 0.50 at 4, 0.88 at 5" in axes.alt_text
        assert "1 : 10: 0.12 at 5" in axes.alt_text
        plt.close(axes.figure)


def compared(method, found, false_alarms, rand):
    row = {"data": "a", "method": method, "classes": 5, "found": found, "right": found, "off_by_one": 0}
    return row | {"rand": rand, "controls": 10, "false_alarms": false_alarms, "seconds": 0.5, "fresh": True}


@pytest.mark.parametrize(("rand", "verdict"), [(0.9, "observed"), (0.5, "not observed")])
def test_comparison_says_where_the_test_loses(rand, verdict):
    divided = [{"class": 6, "smaller_part": 40, "confused_in_smaller": 0.9, "confused_in_larger": 0.05}]
    own = compared(chapter.OURS, 4, 1, rand) | {"divided_controls": divided}
    record = {"rows": [own, compared("k-means", 5, 10, 0.7), compared("HDBSCAN", 2, 1, 0.1)]}
    record["rows"] += [compared(name, 5, 9, 0.2) for name in chapter.NEVER_ONE]  # no rivals in saying one
    shown = conclusions.show(*chapter.comparison_statements(record)).rows
    assert [row["verdict"] for row in shown] == ["observed", verdict]
    assert shown[0]["value"] == pytest.approx((5.5 - 1) / 10)
    index = chapter.comparison_table(record, "index", fresh=True)["a"]
    assert index[:3].tolist() == [f"{rand:.2f} (4 of 5)", "0.70 (5 of 5)", "0.10 (2 of 5)"]
    assert chapter.comparison_table(record, "number", fresh=True).loc["HDBSCAN", "a"] == "2 + 0 of 5"
    controls = chapter.comparison_table(record, "controls", fresh=True)
    assert controls.loc["k-means"].tolist() == ["10 of 10", "0.50"]
    assert chapter.divided_controls_table(record).loc[("a", 6)].tolist() == [40, "90%", "5%"]
    assert "in 1 of 1 divided" in chapter.divided_controls_in_words(record)
    divided[0]["confused_in_smaller"] = 0.5
    assert "in 0 of 1 divided" in chapter.divided_controls_in_words(record)


def test_comparison_names_the_winner():
    own, other = compared(chapter.OURS, 4, 1, 0.6), compared("k-means", 5, 10, 0.7)
    rows = [own, other, own | {"data": "b"}, other | {"data": "b", "rand": 0.5}]
    rows.append(own | {"data": "c", "rand": None})
    words = chapter.comparison_in_words({"rows": rows}, fresh=True)
    assert words.splitlines()[0] == "nclib.subpopulations has the highest index on 1 of 2: b."
    assert words.splitlines()[2] == "  a: k-means 0.70, it 0.60; they divide 10 and 1 of 10 controls"
    assert "It loses" not in chapter.comparison_in_words({"rows": rows[2:]}, fresh=True)


def test_only_fresh_data_decide():
    """Data that the test was chosen with stand in tables of their own, and in no statement."""
    rows = [compared(chapter.OURS, 4, 1, 0.6), compared("k-means", 5, 10, 0.7)]
    record = {"rows": rows + [row | {"data": "b", "rand": 1 - row["rand"], "fresh": False} for row in rows]}
    cases = [case.name for statement in chapter.comparison_statements(record) for case in statement.cases]
    assert cases == ["a", "a"]
    for fresh, data in ((True, "a"), (False, "b")):
        assert chapter.comparison_table(record, "index", fresh).columns.tolist() == [data]
    assert chapter.comparison_in_words(record, fresh=False).endswith("on 1 of 1: b.")


def test_comparison_on_fine_labels_has_controls_only():
    none = {"classes": 0, "found": 0, "right": 0, "rand": None}
    record = {"rows": [compared(m, 0, alarms, 0) | none for m, alarms in ((chapter.OURS, 1), ("k-means", 9))]}
    fewer, closer = chapter.comparison_statements(record)
    assert fewer.cases[0].values == [pytest.approx((9 - 1) / 10)] and not closer.cases
    assert chapter.comparison_table(record, "index", fresh=True).empty
    assert chapter.comparison_table(record, "controls", fresh=True)["a"].tolist() == ["1 of 10", "9 of 10"]
