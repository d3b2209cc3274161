"""Activations before the last layer: the network's own features at the end, plain arithmetic before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nclib.data.datasets import load
from nclib.networks.activations import activations
from nclib.networks.features import features_of
from nclib.networks.models import build_model

pytestmark = pytest.mark.numeric


def network(arch: str, width: int = 4):
    torch.manual_seed(0)
    model = build_model(arch, width, 3, (8, 8), 5)
    images = torch.randint(0, 256, (300, 3, 8, 8), dtype=torch.uint8)
    model(images[:64])  # running means and variances that are not those of the start
    return model.eval(), images


class TestActivations:
    @pytest.mark.parametrize("arch", ["mlp", "resnet18", "resnet50"])
    def test_last_are_the_features(self, arch):
        model, images = network(arch)
        found = activations(model, arch, images)
        assert torch.equal(list(found.values())[-1], features_of(model, images))

    @pytest.mark.parametrize(("arch", "expansion"), [("resnet18", 1), ("resnet34", 1), ("resnet50", 4)])
    def test_channels_double_from_stage_to_stage(self, arch, expansion):
        model, images = network(arch)
        shapes = {name: tuple(h.shape) for name, h in activations(model, arch, images[:20]).items()}
        stages = {f"stage {s}": (20, 4 * expansion * 2 ** (s - 1)) for s in (1, 2, 3, 4)}
        assert shapes == {"stem": (20, 4)} | stages

    def test_stages_are_whole(self):
        """The means of the body's first blocks, run by hand: stage 2 of ResNet-18 ends with block four."""
        model, images = network("resnet18")
        with torch.no_grad():
            by_hand = model.body[:6]((images / 255 - model.mean) / model.std).mean(dim=(2, 3))
        assert torch.allclose(activations(model, "resnet18", images)["stage 2"], by_hand, atol=1e-5)

    def test_hidden_layer_is_plain_arithmetic(self, tiny_run):
        model, images = tiny_run.model(), load("digits").test.images
        h = activations(model, "mlp", images)["hidden 1"]
        state = {name: t.double().numpy() for name, t in model.state_dict().items()}
        x = (images.double().numpy() / 255 - state["mean"]) / state["std"]
        x = x.reshape(len(images), -1) @ state["body.1.weight"].T
        x = (x - state["body.2.running_mean"]) / np.sqrt(state["body.2.running_var"] + 1e-5)
        expected = np.maximum(x * state["body.2.weight"] + state["body.2.bias"], 0)
        assert np.allclose(h.numpy(), expected, atol=1e-4)

    def test_leaves_no_hook(self, tiny_run):
        model = tiny_run.model()
        activations(model, "mlp", load("digits").test.images)
        assert not any(module._forward_hooks for module in model.modules())
