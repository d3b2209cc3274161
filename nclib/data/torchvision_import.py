"""Import torchvision where its compiled part does not match torch.

A torchvision built for CUDA beside a CPU build of torch fails on import, because two operators that it
decorates were never registered. Declaring them first is enough for datasets, models and transforms.
Where torchvision's own library loads, nothing is declared.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

_fragment: torch.library.Library | None = None  # kept alive: operators go when it is collected


def import_torchvision(name: str = "torchvision") -> ModuleType:
    """Import ``torchvision`` or one of its modules."""
    global _fragment
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    _fragment = torch.library.Library("torchvision", "FRAGMENT")
    _fragment.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _fragment.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module(name)
