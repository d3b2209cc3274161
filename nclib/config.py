"""Configurations: everything that decides a training result, and the book's named recipes.

    config = recipe_config("cifar10-laptop", seed=1)

A configuration is frozen, validated when it is made, and has one canonical JSON form: two runs are
the same experiment exactly when these forms are equal.
"""

from __future__ import annotations

import difflib
import json
import numbers
import re
import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from nclib.errors import ConfigError

RECIPES_FILE = Path(__file__).with_name("recipes.toml")

CHOICES = {
    "dataset": ("digits", "fashion", "mnist", "svhn", "cifar10", "cifar100"),
    "arch": ("resnet18", "resnet34", "resnet50", "mlp"),
    "loss": ("cross-entropy", "mse", "nc", "nc-without-nc1", "nc-without-nc2", "nc-without-nc3"),
    "schedule": ("one-cycle", "step", "terminal", "early-step", "constant"),
    "augment": ("none", "crop", "crop-flip"),
    "precision": ("fp32", "bf16"),
}
RANGES = {  # field: (lowest, highest), both allowed
    "width": (1, 4096),
    "epochs": (1, 100_000),
    "batch_size": (2, 1_000_000),
    "lr": (1e-8, 100.0),
    "momentum": (0.0, 0.9999),
    "weight_decay": (0.0, 1.0),
    "label_noise": (0.0, 1.0),
    "seed": (0, 2**31 - 1),
}
GROUPING = re.compile(
    r"mod(?P<mod>[1-9]\d{0,4})|random(?P<random>[1-9]\d{0,4})(:(?P<seed>\d{1,9}))?|none|semantic|superclass"
)
GROUPING_HELP = (
    "'mod5' (fine label modulo 5), 'random5' or 'random5:SEED' (five random groups), 'semantic', "
    "'superclass' (CIFAR-100's own twenty), 'none', or one coarse label per fine class: 0,1,1,0"
)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run, up to the machine that it runs on.

    Attributes
    ----------
    dataset : name of the data set, see ``nclib.data.datasets``.
    grouping : how fine classes become coarse labels: a rule by name, or a coarse label per fine class.
    arch, width : architecture, and the channels of its first stage (64 is the standard ResNet);
        of an MLP the units of each hidden layer.
    held_out : fine classes that neither training nor the run's features see: outliers to be detected.
    l2_features : divide features by their Euclidean norm before the last layer.
    loss : objective on the coarse labels. "nc" is neural collapse itself, see ``nclib.nc_loss``; its
        batches hold equally many samples of every class.
    epochs, batch_size : passes over the training split; samples per step (an incomplete batch is dropped).
    lr, schedule : peak learning rate, and its course: "one-cycle" (linear up over 15 % of the steps,
        cosine down), "step" (times 0.1 at 1/3 and 2/3 of the epochs), "terminal" (times 0.1 at 1/5 and 2/5:
        a network that fits its training set at the first drop then goes on for several times as long),
        "early-step" (times 0.1 at 1/10 and 1/5: likewise for one that fits it at the second drop),
        "constant".
    momentum, weight_decay : of SGD; the decay acts on every parameter.
    augment : "crop" pads by an eighth of the height (four pixels of 32) and crops at random, "crop-flip"
        also mirrors images, each with probability one half.
    label_noise : share of training images that are trained with another coarse label, drawn at random;
        everything is measured on true labels.
    precision : of training. Features are always extracted in float32.
    deterministic : ask torch for deterministic kernels; matters on a GPU, where they cost time.
    seed : of initialisation, order, augmentation and label noise.

    Raises
    ------
    ConfigError : a field of the wrong type, outside its range or not among its choices.
    """

    dataset: str = "digits"
    grouping: str | tuple[int, ...] = "mod5"
    arch: str = "resnet18"
    width: int = 16
    held_out: tuple[int, ...] = ()
    l2_features: bool = False
    loss: str = "cross-entropy"
    epochs: int = 30
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "one-cycle"
    augment: str = "none"
    label_noise: float = 0.0
    precision: str = "bf16"
    deterministic: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _checked(field.name, getattr(self, field.name)))

    def canonical_json(self) -> str:
        """The configuration as JSON with sorted keys and no white space."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))


def field_names() -> tuple[str, ...]:
    """Names of the configuration's fields: also those of notebook parameters and of ``--set``."""
    return tuple(field.name for field in fields(RunConfig))


@cache
def _recipes() -> dict[str, dict[str, Any]]:
    return tomllib.loads(RECIPES_FILE.read_text(encoding="utf-8"))


def recipe_names() -> tuple[str, ...]:
    """Names of all recipes, in the order of the book."""
    return tuple(_recipes())


def recipe_config(recipe: str, **overrides: Any) -> RunConfig:
    """The configuration of a recipe, with some fields replaced.

    Parameters
    ----------
    recipe : a name in ``recipes.toml``.
    **overrides : fields of ``RunConfig``; ``None`` keeps what the recipe says.

    Raises
    ------
    ConfigError : an unknown recipe or field, or a value that the field does not allow.
    """
    if recipe not in recipe_names():
        raise ConfigError(unknown("recipe", recipe, recipe_names()))
    for name in overrides:
        if name not in field_names():
            raise ConfigError(unknown("field", name, field_names()))
    chosen = {name: value for name, value in overrides.items() if value is not None}
    return RunConfig(**(_recipes()[recipe] | chosen))


def parse_override(text: str) -> tuple[str, Any]:
    """Read ``field=value`` as the command line gives it; the field decides how the value is read."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r} is not of the form field=value, for example epochs=20")
    if name not in field_names():
        raise ConfigError(unknown("field", name, field_names()))
    return name, _parsed(name, value)


def _parsed(name: str, text: str) -> Any:
    default = _DEFAULTS[name]
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        if name in ("grouping", "held_out") and re.fullmatch(r"\d+(,\d+)*", text):
            return tuple(int(label) for label in text.split(","))
        return type(default)(text)
    except (ValueError, KeyError):
        raise ConfigError(f"{name}={text}: expected {_expected(name)}") from None


def _checked(name: str, value: Any) -> Any:
    kind = type(_DEFAULTS[name])
    if name == "grouping":
        return _checked_grouping(value)
    if name == "held_out":
        return _checked_classes(name, value)
    value = _plain(value)
    if kind is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if type(value) is float and value == 0:
        value = 0.0  # -0.0 is the same number
    if type(value) is not kind:
        raise ConfigError(f"{name}={value!r}: expected {_expected(name)}")
    if name in CHOICES and value not in CHOICES[name]:
        raise ConfigError(unknown(name, value, CHOICES[name]))
    if name in RANGES and not RANGES[name][0] <= value <= RANGES[name][1]:  # also refuses nan
        raise ConfigError(f"{name}={value!r}: expected {_expected(name)}")
    return value


def _plain(value: Any) -> Any:
    """A number as Python's own int or float, where it is one of numpy's; anything else as it is."""
    if isinstance(value, numbers.Integral) and type(value) is not bool:
        return int(value)
    return float(value) if isinstance(value, numbers.Real) and type(value) not in (int, bool) else value


def _checked_grouping(value: Any) -> str | tuple[int, ...]:
    if isinstance(value, str) and (match := GROUPING.fullmatch(value)):
        if match["seed"]:  # one text for one grouping
            value = f"random{match['random']}" + f":{int(match['seed'])}" * (int(match["seed"]) > 0)
        return value
    if isinstance(value, list | tuple) and len(value) > 1:
        labels = tuple(map(_plain, value))
        if all(type(label) is int for label in labels) and _is_numbering(set(labels)):
            return labels
        raise ConfigError(f"grouping={value!r}: coarse labels must be 0, 1, ... with none left out")
    raise ConfigError(f"grouping={value!r}: expected {GROUPING_HELP}")


def _is_numbering(labels: set[int]) -> bool:
    """Whether these are 0, 1, ... without a gap, two at least; takes no memory for labels in between."""
    return min(labels) == 0 and 1 <= max(labels) == len(labels) - 1


def _checked_classes(name: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, list | tuple):
        classes = [_plain(label) for label in value]
        if all(type(label) is int and label >= 0 for label in classes):
            return tuple(sorted(set(classes)))
    raise ConfigError(f"{name}={value!r}: expected {_expected(name)}")


def _expected(name: str) -> str:
    if name in CHOICES:
        return "one of " + ", ".join(CHOICES[name])
    kinds = {int: "a whole number", float: "a number", bool: "true or false", tuple: "fine classes: 7,8,9"}
    kind = kinds[type(_DEFAULTS[name])]
    low, high = RANGES.get(name, (None, None))
    return kind if low is None else f"{kind} from {low} to {high}"


def unknown(what: str, value: str, allowed: Iterable[str]) -> str:
    allowed = list(allowed)
    near = difflib.get_close_matches(str(value), allowed, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown {what} {value!r}{hint}; allowed: {', '.join(allowed)}"


_DEFAULTS = {field.name: field.default for field in fields(RunConfig)}
