"""Chapter 12: what is found stands beside the truth, and what is planted is what the page says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from nclib.chapters import conclusions
from nclib.chapters import your_own_model as chapter
from nclib.measures.subpopulations import Subpopulations

pytestmark = pytest.mark.numeric

LABEL, FINE = np.repeat([0, 1], [6, 4]), np.array([0, 0, 0, 7, 7, 7, 1, 1, 1, 1])


def found(*labels) -> Subpopulations:
    """Of the ten samples above."""
    labels = np.array(labels)
    count = np.array([len(np.unique(labels[g == LABEL])) for g in (0, 1)])
    return Subpopulations(count, np.array([0.01, 1.0]), labels)


class TestLooks:
    def test_the_right_division_agrees(self):
        right = chapter.agreement(found(1, 1, 1, 0, 0, 0, 0, 0, 0, 0), LABEL, FINE)
        assert right[0] == 1 and np.isnan(right[1])  # label 1 hides one class, and one was found

    def test_a_label_that_hides_nothing_and_is_split_does_not_agree(self):
        assert chapter.agreement(found(1, 1, 1, 0, 0, 0, 0, 0, 1, 1), LABEL, FINE)[1] == 0

    def test_hidden(self):
        assert chapter.hidden(LABEL, FINE).tolist() == [2, 1]

    def test_table_of_several_networks(self):
        two = found(1, 1, 1, 0, 0, 0, 0, 0, 0, 0), found(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        table = chapter.looks_table([chapter.look(each, LABEL, FINE, i) for i, each in enumerate(two)])
        assert table["split"].tolist() == [1, 0]
        assert table["correct number"].tolist() == [1, 2]
        assert table["off by one"].tolist() == [1, 0]

    def test_table_of_one_network(self):
        table = chapter.found_table(
            found(0, 0, 0, 0, 1, 1, 0, 0, 0, 0), LABEL, FINE, [f"<{c}>" for c in range(8)]
        )
        assert table["truth"].tolist() == ["<0> and <7>", "<1>"]
        assert table["their sizes"].tolist() == ["4, 2", "4"]


@pytest.fixture
def digits():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2000, 1, 4, 4, generator=generator), torch.arange(2000) % 10


@pytest.mark.parametrize("mark", chapter.MARKS)
class TestPlanted:
    def test_the_mark_nearly_goes_with_the_label(self, digits, mark):
        task = chapter.planted(*digits, mark, seed=0)
        rare = torch.where(task.y == 0, ~task.marked, task.marked).double().mean()
        # of 1,000 draws: five standard errors
        assert abs(rare - chapter.RARE) < 5 * (chapter.RARE * (1 - chapter.RARE) / 1000) ** 0.5

    def test_every_held_out_image_is_there_both_ways(self, digits, mark):
        task = chapter.planted(*digits, mark, seed=0)
        plain, marked = task.tested
        assert torch.equal(chapter.MARKS[mark](plain), marked)
        everything = {image.numpy().tobytes() for image in digits[0]}
        used = {image.numpy().tobytes() for image in task.x[~task.marked]}
        tested = {image.numpy().tobytes() for image in plain}
        assert tested < everything and used < everything and not used & tested


def test_marks():
    x = torch.full((1, 1, 4, 4), 0.25)
    assert (chapter.negative(x) == 0.75).all()
    assert chapter.stripe(x)[0, 0, :, 0].tolist() == [1, 0.25, 0.25, 0.25]
    assert (x == 0.25).all()  # it is copied


def test_groups_are_pairs_and_weigh_the_same():
    y, population = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 0, 1])
    group = chapter.groups(y, population)
    assert group.tolist() == [0, 0, 1, 2, 3]
    assert chapter.balanced(group).tolist() == [0.5, 0.5, 1, 1, 1]


class Fixed(nn.Module):
    """A network that says the same of every image."""

    def __init__(self, *p: float) -> None:
        super().__init__()
        self.logits = torch.tensor(p).log()

    def forward(self, x):
        return self.logits.expand(len(x), -1)


def test_probabilities_of_one_label_are_added(digits):
    task = chapter.planted(*digits, "stripe", seed=0)
    label_of = torch.tensor([0, 0, 1])  # label 0 in two parts, 0.6 together; the largest output is of label 1
    assert chapter.accuracies(Fixed(0.3, 0.3, 0.4), task, label_of) == [1, 1, 0, 0]


def test_act_compares_all_ways_with_the_same_start(digits, monkeypatch):
    monkeypatch.setattr(chapter, "STEPS", 3)
    monkeypatch.setattr(chapter, "EARLY", 2)
    rows = pd.DataFrame(chapter.act(*digits, "negative", seed=0))
    assert rows["how"].tolist()[0] == chapter.PLAIN and rows["how"].nunique() == len(rows) == 5
    assert (rows["worst"] <= rows["mean"]).all() and (rows["n"] == 2000).all()
    again = pd.DataFrame(chapter.act(*digits, "negative", seed=0))
    pd.testing.assert_frame_equal(rows, again)
    assert chapter.acted_table(rows).shape == (5, 2)


def test_shares_of_labels_split():
    rows = pd.DataFrame(
        {"mark": "a", "seed": s, "found": [2, early], "found late": [1, 1], "ari": [1.0, 0.5]}
        for s, early in enumerate((1, 3))
        for _ in range(5)
    )
    assert chapter.split_shares(rows).to_numpy().tolist() == [[0.5, 0], [1, 0]]
    assert chapter.split_table(rows).to_numpy().tolist() == [["75 %", "0 %", "0.75"]]


def verdicts(
    split=(2, 1), ari=0.9, same=True, other=False, reweighted=0.8, late=(1, 1), before=None
) -> list[str]:
    """Of ten networks, a hundred Gaussians and ten seeds of each mark, which differ a little."""
    looks = [
        pd.DataFrame({"seed": s, "label": [0, 1], "hides": [2, 1], "found": split, "ari": [ari - s / 99, 0]})
        for s in range(10)
    ]
    worst = {chapter.PLAIN: 0.5, chapter.LONGER: 0.6, chapter.REWEIGHTED: reweighted, chapter.ORACLE: 0.75}
    rows = pd.DataFrame(
        {"mark": mark, "seed": s, "how": how, "worst": value - s / 1000 * (how != chapter.REWEIGHTED), "n": 9,
         "found": [2, 2], "found late": late, "ari": [1, 1], "n train": 9}
        for mark in chapter.MARKS for s in range(chapter.FIRST_LOOK, 15) for how, value in worst.items()
    )  # fmt: skip
    alarms = {"the same half": [same] * 100, "the other half": [other] * 100}
    said = chapter.statements(looks, alarms, pd.concat([before, rows]), 100, 100)
    return [row["verdict"] for row in conclusions.show(*said).rows]


@pytest.mark.parametrize(
    ("changed", "where", "expected"),
    [
        ({}, slice(None), ["holds" if at not in (2, 4, 5) else "observed" for at in range(12)]),
        ({"same": False}, 0, "does not hold"),
        ({"other": True}, 1, "does not hold"),
        ({"split": (1, 2)}, 2, "not observed"),  # the same in all seeds
        ({"ari": 0.2}, 3, "does not hold"),
        ({"reweighted": 0.4}, slice(6, None), ["does not hold"] * 6),
        ({"late": (2, 2)}, [4, 5], ["not observed"] * 2),
    ],
)
def test_the_numbers_decide(changed, where, expected):
    decided = np.array(verdicts(**changed))
    assert np.all(decided[where] == expected)


def test_seeds_that_were_looked_at_decide_nothing():
    first = pd.DataFrame(
        {"mark": mark, "seed": 0, "how": how, "worst": 0.9, "n": 9, "found": 1, "found late": 9, "ari": 0}
        for mark in chapter.MARKS
        for how in (chapter.PLAIN, chapter.LONGER, chapter.REWEIGHTED, chapter.ORACLE)
    )
    assert verdicts(before=first) == verdicts()


def test_nothing_found_leaves_out_what_was_not_measured():
    assert len(verdicts(split=(1, 1))) == 11
