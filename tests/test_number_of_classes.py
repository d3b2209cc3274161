"""The number of clusters: wrong ones, chosen ones, and what chapter 14 says of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

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
