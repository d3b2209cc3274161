"""Groupings: which fine classes share a coarse label."""

from __future__ import annotations

import pytest
import torch

from nclib.config import RunConfig, recipe_config
from nclib.data.datasets import ImageSet, load
from nclib.data.grouping import SEMANTIC, make_grouping, task
from nclib.errors import ConfigError


def images(num_classes: int, superclass: tuple[int, ...] | None = None) -> ImageSet:
    names = tuple(f"c{i}" for i in range(num_classes))
    own = None if superclass is None else tuple(f"s{i}" for i in range(max(superclass) + 1))
    empty = torch.zeros(0, 1, 8, 8, dtype=torch.uint8)
    return ImageSet(empty, torch.zeros(0, dtype=torch.long), names, superclass, own)


def labels(rule, num_classes: int = 10, dataset: str = "cifar10") -> list[int]:
    return make_grouping(rule, dataset, images(num_classes)).fine_to_coarse.tolist()


class TestMod:
    def test_ten_classes_by_five(self):
        assert labels("mod5") == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]

    def test_uneven(self):
        assert labels("mod3") == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]

    @pytest.mark.parametrize("rule", ["mod1", "mod11", "random1", "random11"])
    def test_impossible_number_of_groups(self, rule):
        with pytest.raises(ConfigError, match=f"{rule}.*2 to 10 groups"):
            labels(rule)


class TestRandom:
    @pytest.mark.parametrize("k", [2, 3, 5])
    def test_balanced(self, k):
        sizes = torch.bincount(torch.tensor(labels(f"random{k}:4")))
        assert len(sizes) == k
        assert sizes.max() - sizes.min() <= 1

    def test_reproducible(self):
        assert labels("random5:3") == labels("random5:3")
        assert labels("random5") == labels("random5:0")

    def test_seeds_differ(self):
        assert len({tuple(labels(f"random5:{seed}")) for seed in range(5)}) > 3

    def test_global_generator_is_left_alone(self):
        before = torch.get_rng_state()
        labels("random5:3")
        assert torch.equal(before, torch.get_rng_state())


class TestSemantic:
    @pytest.mark.parametrize("dataset", SEMANTIC)
    def test_five_pairs(self, dataset):
        assert torch.bincount(torch.tensor(labels("semantic", dataset=dataset))).tolist() == [2] * 5

    def test_cifar10_joins_cat_and_dog(self):
        group = labels("semantic")
        assert group[3] == group[5]
        assert group[3] != group[4]

    def test_cifar100_has_none(self):
        with pytest.raises(ConfigError, match=r"digits.*not for cifar100"):
            labels("semantic", 100, "cifar100")


class TestSuperclass:
    def test_is_the_data_sets_own(self):
        own = tuple(i % 20 for i in range(100))
        grouping = make_grouping("superclass", "cifar100", images(100, own))
        assert grouping.fine_to_coarse.tolist() == list(own)
        assert grouping.coarse_names[3] == "s3"

    def test_only_cifar100_has_it(self):
        with pytest.raises(ConfigError, match="digits has no super-classes, only cifar100"):
            labels("superclass", dataset="digits")


class TestCustomAndNone:
    def test_custom(self):
        assert labels((0, 1, 1, 0), 4) == [0, 1, 1, 0]

    def test_custom_of_the_wrong_length(self):
        with pytest.raises(ConfigError, match="4 labels, cifar10 has 10 classes"):
            labels((0, 1, 1, 0))

    def test_a_single_coarse_label_is_refused(self):
        with pytest.raises(ConfigError):
            RunConfig(grouping=(0,) * 10)

    def test_none_keeps_classes_and_names(self):
        grouping = make_grouping("none", "cifar10", images(10))
        assert grouping.fine_to_coarse.tolist() == list(range(10))
        assert grouping.coarse_names == grouping.fine_names


class TestGrouping:
    def test_members_and_names(self):
        grouping = make_grouping("mod5", "digits", load("digits").train)
        assert grouping.members(2) == [2, 7]
        assert grouping.coarse_names[2] == "two + seven"
        assert grouping.num_coarse == 5

    def test_coarse_labels_of_samples(self):
        grouping = make_grouping("mod5", "cifar10", images(10))
        assert grouping.coarse(torch.tensor([9, 0, 5, 6])).tolist() == [4, 0, 0, 1]

    @pytest.mark.parametrize(("label", "span"), [(10, "0 to 10"), (-1, "-1 to 0")])
    def test_label_outside(self, label, span):
        grouping = make_grouping("mod5", "cifar10", images(10))
        with pytest.raises(ValueError, match=f"{span}, the grouping covers 0 to 9"):
            grouping.coarse(torch.tensor([0, label]))

    def test_no_samples(self):
        grouping = make_grouping("mod5", "cifar10", images(10))
        assert grouping.coarse(torch.zeros(0, dtype=torch.long)).tolist() == []


class TestHeldOut:
    def test_those_that_stay_are_numbered_anew(self):
        (train, test), grouping = task(recipe_config("digits", held_out=(7, 2, 8)))
        whole = load("digits").test
        kept = [0, 1, 3, 4, 5, 6, 9]  # 2 and 7 were all of one label
        assert grouping.fine_names == train.names == tuple(whole.names[c] for c in kept)
        assert grouping.fine_to_coarse.tolist() == [0, 1, 2, 3, 0, 1, 3]
        assert grouping.coarse_names == ("zero + five", "one + six", "three", "four + nine")
        for new, old in enumerate(kept):
            assert torch.equal(test.images[test.labels == new], whole.images[whole.labels == old])
        assert len(test) == sum(int((whole.labels == old).sum()) for old in kept)

    def test_without_grouping(self):
        _, grouping = task(recipe_config("digits", held_out=(0,), grouping="none"))
        assert grouping.fine_to_coarse.tolist() == list(range(9))
        assert grouping.coarse_names == grouping.fine_names

    @pytest.mark.parametrize(
        ("held_out", "message"),
        [
            ((10,), "classes 0 to 9"),
            (tuple(range(9)), "two must stay"),
            ((1, 2, 3, 4, 6, 7, 8, 9), "single coarse"),
        ],
    )
    def test_refuses(self, held_out, message):
        with pytest.raises(ConfigError, match=message):
            task(recipe_config("digits", held_out=held_out))
