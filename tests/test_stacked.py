"""Perceptrons as one network against each alone."""

from __future__ import annotations

import pytest
import torch

from nclib.networks.models import build_model
from nclib.networks.stacked import StackedPerceptrons

pytestmark = pytest.mark.numeric
SIZE, CLASSES = (4, 5), 3


@pytest.fixture(params=[False, True], ids=["", "L2"])
def models(request, monkeypatch):
    """Three perceptrons in states that are not trivial, in float64; some normalise features."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.manual_seed(0)
    found = [build_model("mlp", 6, 2, SIZE, CLASSES, l2_features=request.param).double() for _ in range(3)]
    for model in found:
        for name, values in model.state_dict().items():
            if values.is_floating_point():
                values.copy_(torch.rand(values.shape).double() + ("std" in name))
    return found


def images(count=8):
    return torch.rand(3, count, 2, *SIZE, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("training", [True, False])
def test_features_and_logits(models, training):
    together = StackedPerceptrons(models).train(training)
    h = together.features(images())
    for s, model in enumerate(models):
        alone = model.train(training).features(images()[s])
        torch.testing.assert_close(h[s], alone, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(together.head(h)[s], model.head(alone), rtol=1e-12, atol=1e-12)


def test_bytes_are_shares_of_255(models):
    together, (x,) = StackedPerceptrons(models).eval(), torch.randint(256, (1, 3, 8, 2, *SIZE)).byte()
    torch.testing.assert_close(together.features(x), together.features(x.to(torch.float32) / 255))


def test_a_step_is_that_of_each(models):
    """Gradients, and running statistics, which batch normalisation changes as it goes."""
    together = StackedPerceptrons(models)
    together.head(together.features(images())).square().sum().backward()
    with torch.no_grad():
        for parameter in together.parameters():
            parameter -= 0.1 * parameter.grad
    alone = []
    for s, model in enumerate(models):
        model.head(model.features(images()[s])).square().sum().backward()
        grads = {name: p.grad for name, p in model.named_parameters()}
        alone.append(
            {
                name: t - 0.1 * grads[name] if name in grads else t.clone()
                for name, t in model.state_dict().items()
            }
        )
    before = [{name: t.clone() for name, t in model.state_dict().items()} for model in models]
    together.unstack()
    for model, expected, was in zip(models, alone, before, strict=True):
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-9, atol=1e-9, msg=name)
        assert not torch.equal(model.head.weight, was["head.weight"])


def test_refuses_other_networks():
    with pytest.raises(ValueError, match="'mlp'"):
        StackedPerceptrons([build_model("resnet18", 2, 1, (8, 8), 3)] * 2)
