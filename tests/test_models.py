"""Models against torchvision's, with the stem for small images put in."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nclib.config import RunConfig
from nclib.data.datasets import load
from nclib.data.torchvision_import import import_torchvision
from nclib.networks import models
from nclib.networks.models import build_model, initial_model

pytestmark = pytest.mark.numeric


def theirs(arch: str, num_classes: int = 10) -> nn.Module:
    """torchvision's ResNet with a 3 x 3 stem of stride 1 and no pooling, in a state that is not trivial."""
    model = getattr(import_torchvision("torchvision.models"), arch)(num_classes=num_classes)
    model.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    model.maxpool = nn.Identity()
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                values.data = 0.5 + torch.rand(values.shape)
    return model.eval()


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50"])
class TestAgainstTorchvision:
    def test_same_function_of_the_same_weights(self, arch):
        reference, model = theirs(arch), build_model(arch, 64, 3, (32, 32), 10).eval()
        ours = {name: t for name, t in model.state_dict().items() if name not in ("mean", "std")}
        for mine, other in zip(ours.values(), reference.state_dict().values(), strict=True):
            mine.copy_(other)  # both list their layers in the order of the forward pass
        x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            torch.testing.assert_close(model(x), reference(x), rtol=1e-4, atol=1e-4)

    def test_number_of_parameters(self, arch):
        with torch.device("meta"):  # no values, only shapes
            ours, reference = build_model(arch, 64, 3, (32, 32), 10), theirs(arch)
        assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in reference.parameters())


@pytest.mark.parametrize("channels", [3, 8])
def test_narrow_shortcuts_are_strided_convolutions(channels):
    """In float64, which oneDNN does not compute."""
    ours = models._convolution(channels, 5, kernel=1, stride=2)[0].double()
    x = torch.randn(4, channels, 7, 6, dtype=torch.float64)
    theirs = torch.nn.functional.conv2d(x, ours.weight, stride=2)
    torch.testing.assert_close(ours(x), theirs)
    gradients = (torch.autograd.grad(y.square().sum(), ours.weight)[0] for y in (ours(x), theirs))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("arch", "width", "dim"), [("resnet18", 4, 32), ("resnet34", 2, 16), ("resnet50", 2, 64), ("mlp", 7, 7)]
)
class TestFeatures:
    def test_shapes(self, arch, width, dim):
        model = build_model(arch, width, 1, (8, 8), 5).eval()
        x = torch.zeros(3, 1, 8, 8)
        assert model.features(x).shape == (3, dim)
        assert model(x).shape == (3, 5)

    def test_head_reads_features(self, arch, width, dim):
        model = build_model(arch, width, 1, (8, 8), 5).eval()
        x = torch.rand(3, 1, 8, 8)
        h = model.features(x)
        torch.testing.assert_close(model(x), h @ model.head.weight.T + model.head.bias)

    def test_bytes_and_floats_give_the_same(self, arch, width, dim):
        model = build_model(arch, width, 1, (8, 8), 5).eval()
        x = torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)
        torch.testing.assert_close(model(x), model(x.float() / 255), rtol=0, atol=0)


class TestInitialModel:
    config = RunConfig(arch="mlp", width=8, seed=3)

    def weights(self, seed: int) -> list[torch.Tensor]:
        config = RunConfig(arch="mlp", width=8, seed=seed)
        return list(initial_model(config, load("digits").train.images, 5).state_dict().values())

    def test_seed_decides(self):
        assert all(torch.equal(a, b) for a, b in zip(self.weights(3), self.weights(3), strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(self.weights(3), self.weights(4), strict=True))

    def test_global_generator_is_left_alone_and_does_not_matter(self):
        torch.manual_seed(11)
        before = torch.get_rng_state()
        first = self.weights(3)
        assert torch.equal(before, torch.get_rng_state())
        torch.manual_seed(12)
        assert all(torch.equal(a, b) for a, b in zip(first, self.weights(3), strict=True))

    def test_constant_channel_gives_finite_outputs(self):
        images = torch.full((4, 1, 8, 8), 7, dtype=torch.uint8)
        assert torch.isfinite(initial_model(self.config, images, 5).eval()(images)).all()

    def test_normalises_with_the_moments_of_the_images(self):
        images = torch.randint(256, (50, 3, 4, 4), dtype=torch.uint8)
        model = initial_model(self.config, images, 5)
        pixels = images.double() / 255
        torch.testing.assert_close(model.mean.flatten().double(), pixels.mean((0, 2, 3)))
        torch.testing.assert_close(model.std.flatten().double(), pixels.std((0, 2, 3), correction=0))


def test_features_of_length_one():
    images = torch.rand(3, 1, 8, 8)
    torch.manual_seed(0)
    plain = build_model("mlp", 16, 1, (8, 8), 5).eval()
    torch.manual_seed(0)
    scaled = build_model("mlp", 16, 1, (8, 8), 5, l2_features=True).eval()
    h = plain.features(images)
    assert torch.allclose(scaled.features(images), h / h.norm(dim=1, keepdim=True))
    assert torch.allclose(scaled(images), scaled.head(scaled.features(images)))
