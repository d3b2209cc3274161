"""What a network holds before its last layer: activations after every hidden layer or stage.

activations(run.model(), run.config.arch, images)["stage 2"]
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor

from nclib.networks.features import features_of
from nclib.networks.models import BLOCKS, Classifier


def activations(model: Classifier, arch: str, images: Tensor) -> dict[str, Tensor]:
    """Activations after every hidden layer of an MLP, or after stem and stages of a ResNet.

    Parameters
    ----------
    model : network of ``nclib.networks.models.build_model``; it stays in its mode.
    arch : the architecture that it was built with.
    images : (N, C, H, W) uint8.

    Returns
    -------
    (N, D) float32 on the CPU by name, from the input on. Feature maps are averaged over the image, as the
    network itself does after its last stage. The last are its features, before ``l2_features`` scales them.
    """
    ends = _ends(arch)
    found: dict[str, list[Tensor]] = {name: [] for name in ends}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: found[name].append(_pooled(output).float().cpu())

    hooks = [model.body[end].register_forward_hook(keep(name)) for name, end in ends.items()]
    try:
        features_of(model, images)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(batches) for name, batches in found.items()}


def _ends(arch: str) -> dict[str, int]:
    """Where in the body of an architecture each layer or stage ends."""
    if arch == "mlp":  # flatten; linear, normalisation, ReLU; and again
        return {"hidden 1": 3, "hidden 2": 6}
    stages = accumulate(BLOCKS[arch], initial=1)  # convolution, ReLU; then blocks
    return dict(zip(("stem", "stage 1", "stage 2", "stage 3", "stage 4"), stages, strict=True))


def _pooled(output: Tensor) -> Tensor:
    """Mean over the image. (B, D, H, W) or (B, D) -> (B, D)."""
    return output.mean(dim=(2, 3)) if output.ndim == 4 else output
