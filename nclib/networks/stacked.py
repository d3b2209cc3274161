"""Perceptrons of one shape as one network: the cost of starting an operation is paid once for all of them.

together = StackedPerceptrons(models)          # S classifiers of the architecture "mlp"
logits = together.head(together.features(x))   # (S, N, C, H, W) -> (S, N, num_classes)
together.unstack()                             # the models get what was learned
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nclib.networks.models import Classifier


class StackedPerceptrons(nn.Module):
    """What S classifiers compute, each of its own images; it learns copies of their parameters.

    Raises ValueError for classifiers that are no perceptrons.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, models: Sequence[Classifier]) -> None:
        super().__init__()
        bodies = [list(model.body)[1:] for model in models]  # without the layer that flattens images
        if any(not isinstance(body[0], nn.Linear) for body in bodies):
            raise ValueError("only networks of the architecture 'mlp' are stacked")
        self.l2_features = models[0].l2_features
        self.register_buffer("mean", torch.stack([model.mean for model in models])[:, None])
        self.register_buffer("std", torch.stack([model.std for model in models])[:, None])
        layers = list(zip(*bodies, strict=True))
        self.linears = nn.ModuleList(StackedLinear(linears) for linears in layers[0::3])
        self.norms = nn.ModuleList(StackedNorm(norms) for norms in layers[1::3])
        self.head = StackedLinear([model.head for model in models])

    def features(self, x: Tensor) -> Tensor:
        """(S, N, C, H, W) images, uint8 or floats in [0, 1] -> (S, N, D)."""
        x = x / 255 if x.dtype == torch.uint8 else x
        h = ((x - self.mean) / self.std).flatten(2)
        for linear, norm in zip(self.linears, self.norms, strict=True):
            h = linear(h).transpose(0, 1)  # (N, S, D)
            h = norm(h.flatten(1)).relu_().view(h.shape).transpose(0, 1)
        return F.normalize(h.float(), dim=-1) if self.l2_features else h

    @torch.no_grad()
    def unstack(self) -> None:
        """Copy what was learned into the classifiers."""
        for layer in (*self.linears, *self.norms, self.head):
            layer.unstack()


class StackedLinear(nn.Module):
    """S linear layers: (S, N, in) -> (S, N, out).

    Attributes
    ----------
    matrix : (S, in, out), the order in which products of a batch give its gradient, which needs no copy.
    bias : (S, 1, out) or None.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.matrix = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        biases = [layer.bias.detach()[None] for layer in layers if layer.bias is not None]
        self.bias = nn.Parameter(torch.stack(biases)) if biases else None

    @property
    def weight(self) -> Tensor:
        """(S, out, in)."""
        return self.matrix.mT

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix if self.bias is None else torch.baddbmm(self.bias, x, self.matrix)

    def unstack(self) -> None:
        for s, layer in enumerate(self.layers):
            layer.weight.copy_(self.weight[s])
            if self.bias is not None:
                layer.bias.copy_(self.bias[s, 0])


class StackedNorm(nn.BatchNorm1d):
    """S batch normalisations of D units as one of S D units: (N, S D) -> (N, S D)."""

    def __init__(self, norms: Sequence[nn.BatchNorm1d]) -> None:
        first, placed = norms[0], {"device": norms[0].weight.device, "dtype": norms[0].weight.dtype}
        super().__init__(len(norms) * first.num_features, first.eps, first.momentum, **placed)
        self.states = tuple(norm.state_dict() for norm in norms)  # the very memory of the norms
        self.load_state_dict(
            {
                name: torch.cat([state[name] for state in self.states]) if tensor.dim() else tensor
                for name, tensor in self.states[0].items()
            }
        )

    def unstack(self) -> None:
        for name, tensor in self.state_dict().items():
            parts = tensor.chunk(len(self.states)) if tensor.dim() else [tensor] * len(self.states)
            for state, part in zip(self.states, parts, strict=True):
                state[name].copy_(part)
