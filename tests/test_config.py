"""Configurations: what is refused and how, and the one form that decides whether two are the same."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from nclib.config import RunConfig, field_names, parse_override, recipe_config, recipe_names
from nclib.errors import ConfigError

NAN, INF = float("nan"), float("inf")


class TestRecipes:
    def test_those_of_the_book(self):
        sets = ("fashion", "mnist", "svhn", "cifar10", "cifar100")
        tiers = {f"{name}-{tier}" for name in sets for tier in ("laptop", "paper")}
        others = {"digits", "fashion-narrow", "cifar10-resnet50-paper", "cifar10-full", "cifar100-wide"}
        assert set(recipe_names()) == {*tiers, *others, "fashion-terminal", "cifar10-terminal"}

    @pytest.mark.parametrize("name", recipe_names())
    def test_valid(self, name):
        assert recipe_config(name).dataset == name.partition("-")[0]

    def test_paper_tier_is_the_papers_schedule(self):
        c = recipe_config("cifar10-paper")
        assert (c.width, c.epochs, c.schedule, c.lr, c.weight_decay) == (64, 350, "step", 0.1, 5e-4)

    def test_resnet50_differs_in_nothing_else(self):
        assert recipe_config("cifar10-resnet50-paper") == recipe_config("cifar10-paper", arch="resnet50")

    def test_override_wins_and_none_keeps(self):
        c = recipe_config("digits", epochs=7, lr=None)
        assert (c.epochs, c.lr) == (7, recipe_config("digits").lr)

    def test_unknown_recipe_suggests_and_lists(self):
        with pytest.raises(ConfigError, match=r"'cifar10-labtop'.*did you mean 'cifar10-laptop'") as caught:
            recipe_config("cifar10-labtop")
        assert all(name in str(caught.value) for name in recipe_names())

    def test_unknown_field_suggests_and_lists(self):
        with pytest.raises(ConfigError, match=r"'epoch'.*did you mean 'epochs'") as caught:
            recipe_config("digits", epoch=3)
        assert all(name in str(caught.value) for name in field_names())


BAD = {
    "dataset": ["imagenet", 3, None, ""],
    "grouping": ["mod0", "mod", "mod5 ", "random", "random5:", "x", 5, None, (), (0,), (0, 2), (1, 2),
                 (0, -1), (0, 1.0), (True, False), ("0", "1"), (0, 0, 0)],
    "arch": ["resnet17", "ResNet18", 18],
    "width": [0, -1, 5000, 16.0, "16", True, None],
    "loss": ["hinge", 0],
    "epochs": [0, -3, 100_001, 3.0, "3", True, NAN],
    "batch_size": [1, 0, 128.0, "128"],
    "lr": [0.0, -0.1, NAN, INF, 101.0, "0.1", True, None, 10**400],
    "momentum": [-0.1, 1.0, NAN, "0.9", False],
    "weight_decay": [-1e-4, 1.5, NAN, INF, "0"],
    "schedule": ["cosine", 1],
    "augment": ["flip", True],
    "precision": ["fp16", 32],
    "deterministic": [1, 0, "true", None],
    "seed": [-1, 2**31, 0.0, "0", False],
    "held_out": [7, "7", (7, -1), (True,), (1.0,), None],
    "l2_features": [0, 1, "yes", None],
    "label_noise": [-0.1, 1.1, NAN, "0.1", True, None],
}  # fmt: skip


class TestRefusals:
    def test_every_field_is_tried(self):
        assert set(BAD) == set(field_names())

    @pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in BAD.items() for v in values])
    def test_names_field_and_value(self, field, value):
        with pytest.raises(ConfigError) as caught:
            RunConfig(**{field: value})
        assert field in str(caught.value)
        assert len(repr(value)) > 100 or repr(value) in str(caught.value)

    def test_choice_lists_what_is_allowed(self):
        with pytest.raises(ConfigError, match=r"did you mean 'resnet18'.*allowed: .*resnet50, mlp"):
            RunConfig(arch="resnet19")

    def test_range_says_what_is_allowed(self):
        with pytest.raises(ConfigError, match="width=0: expected a whole number from 1 to 4096"):
            RunConfig(width=0)

    def test_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            RunConfig().epochs = 3


class TestCanonicalJson:
    def test_pinned(self):
        # Written by hand: whoever changes this form changes the key of every stored run.
        assert RunConfig().canonical_json() == (
            '{"arch":"resnet18","augment":"none","batch_size":128,"dataset":"digits","deterministic":false,'
            '"epochs":30,"grouping":"mod5","held_out":[],"l2_features":false,"label_noise":0.0,'
            '"loss":"cross-entropy","lr":0.1,"momentum":0.9,"precision":"bf16",'
            '"schedule":"one-cycle","seed":0,"weight_decay":0.0005,"width":16}'
        )

    def test_order_of_arguments_does_not_matter(self):
        a, b = RunConfig(seed=1, epochs=2, lr=0.3), RunConfig(lr=0.3, epochs=2, seed=1)
        assert a.canonical_json() == b.canonical_json()

    def test_whole_number_and_float_are_the_same_rate(self):
        a, b = RunConfig(lr=1, weight_decay=0), RunConfig(lr=1.0, weight_decay=0.0)
        assert a == b
        assert a.canonical_json() == b.canonical_json()

    @pytest.mark.parametrize(
        ("one", "other"),
        [({"weight_decay": -0.0}, {"weight_decay": 0.0}), ({"momentum": -0.0}, {"momentum": 0}),
         ({"grouping": "random5:0"}, {"grouping": "random5"}),
         ({"grouping": "random5:007"}, {"grouping": "random5:7"}),
         ({"grouping": "random5:000"}, {"grouping": "random5"}),
         ({"seed": np.int64(3)}, {"seed": 3}), ({"width": np.int32(8)}, {"width": 8}),
         ({"lr": np.float64(0.5)}, {"lr": 0.5}), ({"lr": np.float32(0.5)}, {"lr": 0.5}),
         ({"held_out": [np.int64(3)]}, {"held_out": (3,)}),
         ({"grouping": list(np.arange(10) % 2)}, {"grouping": (0, 1) * 5})],
        ids=str,
    )  # fmt: skip
    def test_equal_configurations_have_one_form(self, one, other):
        a, b = RunConfig(**one), RunConfig(**other)
        assert a == b and a.canonical_json() == b.canonical_json()
        assert RunConfig(**json.loads(a.canonical_json())) == a

    @pytest.mark.parametrize(
        ("name", "value"), [("momentum", False), ("seed", np.bool_(True)), ("seed", True)]
    )
    def test_truth_values_are_no_numbers(self, name, value):
        with pytest.raises(ConfigError, match=f"{name}="):
            RunConfig(**{name: value})

    def test_every_field_shows(self):
        other = {"dataset": "mnist", "grouping": "mod2", "arch": "mlp", "loss": "mse", "schedule": "step",
                 "augment": "crop", "precision": "fp32", "deterministic": True,
                 "l2_features": True, "held_out": (7,), "label_noise": 0.1}  # fmt: skip
        other |= {"width": 9, "epochs": 9, "batch_size": 9, "lr": 0.9, "momentum": 0.5, "weight_decay": 0.5,
                  "seed": 9}  # fmt: skip
        for name, value in other.items():
            assert RunConfig(**{name: value}).canonical_json() != RunConfig().canonical_json(), name
        assert set(other) == set(field_names())

    @pytest.mark.parametrize("name", recipe_names())
    def test_round_trip(self, name):
        c = recipe_config(name)
        assert RunConfig(**json.loads(c.canonical_json())) == c

    def test_custom_grouping_round_trip(self):
        c = RunConfig(grouping=[0, 1, 1, 0])
        assert c.grouping == (0, 1, 1, 0)
        assert RunConfig(**json.loads(c.canonical_json())) == c


class TestParseOverride:
    @pytest.mark.parametrize(
        ("text", "value"),
        [("epochs=3", 3), ("lr=1e-2", 0.01), ("lr=1", 1.0), ("deterministic=True", True), ("seed=0", 0),
         ("deterministic=false", False), ("grouping=random5:7", "random5:7"),
         ("grouping=0,1,10", (0, 1, 10))],
    )  # fmt: skip
    def test_reads_as_the_field_wants(self, text, value):
        name, read = parse_override(text)
        assert name == text.partition("=")[0]
        assert (read, type(read)) == (value, type(value))

    @pytest.mark.parametrize("text", ["epochs=three", "epochs=3.0", "lr=fast", "deterministic=1", "seed="])
    def test_refuses_and_says_what_it_expected(self, text):
        with pytest.raises(ConfigError, match=rf"{text}: expected"):
            parse_override(text)

    def test_not_an_assignment(self):
        with pytest.raises(ConfigError, match="'epochs' is not of the form field=value"):
            parse_override("epochs")

    def test_unknown_field(self):
        with pytest.raises(ConfigError, match=r"'widht'.*did you mean 'width'"):
            parse_override("widht=3")
