"""Which fine classes are joined into which coarse label.

grouping = make_grouping("mod5", "digits", load("digits").train)
coarse = grouping.coarse(fine)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nclib.config import GROUPING, RunConfig
from nclib.data.datasets import ImageSet, Splits, load
from nclib.errors import ConfigError

# Groups of classes that look or mean alike: the opposite of a modulo grouping, which joins unlike ones.
# The choice is ours.
SEMANTIC = {
    "digits": ((0, 6), (1, 7), (2, 3), (4, 9), (5, 8)),
    "mnist": ((0, 6), (1, 7), (2, 3), (4, 9), (5, 8)),
    "svhn": ((0, 6), (1, 7), (2, 3), (4, 9), (5, 8)),
    # T-shirt + shirt, pullover + coat, trouser + dress, sandal + sneaker, bag + ankle boot
    "fashion": ((0, 6), (2, 4), (1, 3), (5, 7), (8, 9)),
    # airplane + ship, automobile + truck, bird + frog, cat + dog, deer + horse
    "cifar10": ((0, 8), (1, 9), (2, 6), (3, 5), (4, 7)),
}


@dataclass(frozen=True)
class Grouping:
    """A map from fine to coarse labels.

    Attributes
    ----------
    fine_to_coarse : (C_fine,) int64, the coarse label of every fine class.
    fine_names, coarse_names : names at both levels.
    """

    fine_to_coarse: Tensor
    fine_names: tuple[str, ...]
    coarse_names: tuple[str, ...]

    def coarse(self, fine: Tensor) -> Tensor:
        """Coarse labels of fine ones. (N,) int64 -> (N,) int64.

        Raises
        ------
        ValueError : a fine label outside the grouping.
        """
        if len(fine) and not 0 <= int(fine.min()) <= int(fine.max()) < len(self.fine_to_coarse):
            raise ValueError(
                f"fine labels run from {int(fine.min())} to {int(fine.max())}, the grouping covers "
                f"0 to {len(self.fine_to_coarse) - 1}"
            )
        return self.fine_to_coarse.to(fine.device)[fine]

    def members(self, coarse: int) -> list[int]:
        """Fine classes of one coarse label, ascending."""
        return torch.nonzero(self.fine_to_coarse == coarse).flatten().tolist()

    @property
    def num_coarse(self) -> int:
        return len(self.coarse_names)


def task(config: RunConfig) -> tuple[Splits, Grouping]:
    """What a configuration trains on: both splits and the grouping, without the classes held out.

    Fine classes that stay are numbered anew in their order, and so are the coarse labels that they have.

    Raises
    ------
    DataError, ConfigError : the data set cannot be had, or grouping or held_out do not fit it.
    """
    splits = load(config.dataset)
    grouping = make_grouping(config.grouping, config.dataset, splits.train)
    if not config.held_out:
        return splits, grouping
    everyone = range(len(grouping.fine_names))
    kept = [fine for fine in everyone if fine not in config.held_out]
    if config.held_out[-1] not in everyone or len(kept) < 2:
        raise ConfigError(
            f"held_out={config.held_out}: {config.dataset} has classes 0 to {everyone[-1]}, and two must stay"
        )
    splits = Splits(*(split.of_classes(kept) for split in splits))
    labels, renumbered = grouping.fine_to_coarse[kept].unique(return_inverse=True)
    if len(labels) < 2:
        raise ConfigError(f"held_out={config.held_out} leaves a single coarse label")
    if config.grouping == "superclass":
        names = tuple(grouping.coarse_names[label] for label in labels)
    else:
        names = joined_names(renumbered, splits.train.names)
    return splits, Grouping(renumbered, splits.train.names, names)


def make_grouping(rule: str | tuple[int, ...], dataset: str, images: ImageSet) -> Grouping:
    """The grouping that a configuration's rule gives on a data set.

    Parameters
    ----------
    rule : as in ``RunConfig.grouping``.
    dataset : name of the data set; "semantic" is a table by name.
    images : a split of it, for the class names and, with "superclass", its own coarse labels.

    Raises
    ------
    ConfigError : a rule that this data set does not have, or that does not fit its number of classes.
    """
    coarse = torch.tensor(_coarse_labels(rule, dataset, images))
    names = images.superclass_names if rule == "superclass" else joined_names(coarse, images.names)
    return Grouping(coarse, images.names, tuple(names))


def joined_names(coarse: Tensor, names: Sequence[str]) -> tuple[str, ...]:
    """Names of coarse labels, from those of their fine classes. (C_fine,), C_fine names -> C names."""
    members = [torch.nonzero(coarse == label).flatten().tolist() for label in range(int(coarse.max()) + 1)]
    return tuple(
        " + ".join(names[fine] for fine in group)
        if len(group) <= 3
        else f"{names[group[0]]} + {len(group) - 1} more"
        for group in members
    )


def _coarse_labels(rule: str | tuple[int, ...], dataset: str, images: ImageSet) -> list[int]:
    num_fine = len(images.names)
    if isinstance(rule, tuple):
        if len(rule) != num_fine:
            raise ConfigError(f"grouping has {len(rule)} labels, {dataset} has {num_fine} classes")
        return list(rule)
    if rule == "none":
        return list(range(num_fine))
    if rule == "superclass":
        if images.superclass is None:
            raise ConfigError(f"grouping='superclass': {dataset} has no super-classes, only cifar100 does")
        return list(images.superclass)
    if rule == "semantic":
        return _semantic(dataset)
    match = GROUPING.fullmatch(rule)
    k = int(match["mod"] or match["random"])
    if not 2 <= k <= num_fine:
        raise ConfigError(f"grouping={rule!r}: {dataset} can be joined into 2 to {num_fine} groups")
    labels = torch.arange(num_fine) % k
    if match["random"]:
        generator = torch.Generator().manual_seed(int(match["seed"] or 0))
        labels = labels[torch.randperm(num_fine, generator=generator)]
    return labels.tolist()


def _semantic(dataset: str) -> list[int]:
    if dataset not in SEMANTIC:
        raise ConfigError(f"grouping='semantic' is defined for {', '.join(SEMANTIC)}, not for {dataset}")
    groups = SEMANTIC[dataset]
    label_of = {fine: label for label, group in enumerate(groups) for fine in group}
    return [label_of[fine] for fine in range(len(label_of))]
