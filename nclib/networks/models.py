"""Classifiers: a normalisation, a body that gives features h, and a linear head W h + b.

ResNets follow He et al. (2016) with the stem for small images that the neural-collapse literature uses:
a 3 x 3 convolution of stride 1 and no pooling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nclib.config import RunConfig
from nclib.networks import patches

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
AVX2_CHANNELS = 8  # that oneDNN's kernels for AVX2 process at once


class Classifier(nn.Module):
    """Images to logits, through features.

    ``features(x)`` maps images (N, C, H, W), uint8 or floats in [0, 1], to (N, D); ``head`` is the
    linear layer on top; ``forward`` is ``head(features(x))``. With ``l2_features`` features have
    Euclidean norm one.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, body: nn.Module, dim: int, num_classes: int, channels: int, l2_features: bool = False
    ) -> None:
        super().__init__()
        self.l2_features = l2_features
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))
        self.body = body
        self.head = nn.Linear(dim, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """(N, C, H, W) images -> (N, D) features."""
        x = x / 255 if x.dtype == torch.uint8 else x
        h = self.body((x - self.mean) / self.std)
        return F.normalize(h.float()) if self.l2_features else h

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(channels_in, channels, 3, stride),
            nn.ReLU(inplace=True),
            _convolution(channels, channels, 3),
        )
        self.shortcut = _shortcut(channels_in, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut; four times as many channels come out."""

    expansion = 4

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(channels_in, channels, 1),
            nn.ReLU(inplace=True),
            _convolution(channels, channels, 3, stride),
            nn.ReLU(inplace=True),
            _convolution(channels, 4 * channels, 1),
        )
        self.shortcut = _shortcut(channels_in, 4 * channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


def build_model(
    arch: str,
    width: int,
    channels: int,
    image_size: tuple[int, int],
    num_classes: int,
    l2_features: bool = False,
) -> Classifier:
    """A freshly initialised classifier.

    Parameters
    ----------
    arch : "resnet18", "resnet34", "resnet50" or "mlp" (two hidden layers of ``width`` units, with batch
        normalisation).
    width : channels of the first stage; the feature dimension is 8 x width for ResNet-18 and -34,
        32 x width for ResNet-50, width for the MLP.
    channels, image_size : of the images.
    num_classes : outputs of the head.
    l2_features : divide features by their Euclidean norm.
    """
    if arch == "mlp":
        height, breadth = image_size
        body, dim = _mlp(channels * height * breadth, width), width
        return Classifier(body, dim, num_classes, channels, l2_features)
    block = Bottleneck if arch == "resnet50" else BasicBlock
    body, dim = _resnet(block, BLOCKS[arch], width, channels), 8 * width * block.expansion
    return Classifier(body, dim, num_classes, channels, l2_features)


def _mlp(inputs: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for units in (inputs, width):
        layers += [nn.Linear(units, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*layers)


def _resnet(
    block: type[BasicBlock | Bottleneck], depths: tuple[int, ...], width: int, channels: int
) -> nn.Sequential:
    layers = [_convolution(channels, width, 3), nn.ReLU(inplace=True)]
    channels_in = width
    for stage, depth in enumerate(depths):
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            layers.append(block(channels_in, width * 2**stage, stride))
            channels_in = width * 2**stage * block.expansion
    body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return body


def _convolution(channels_in: int, channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution that keeps the image size up to its stride, then batch normalisation."""
    kind = _Pointwise if kernel == 1 else _Spatial
    return nn.Sequential(
        kind(channels_in, channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
    )


class _Spatial(nn.Conv2d):
    """3 x 3 convolution, done as a matrix product where that is faster."""

    def forward(self, x: Tensor) -> Tensor:
        if patches.pays(x, self.stride[0]):
            return patches.convolution(x.bfloat16(), self.weight.bfloat16(), self.stride[0])
        return super().forward(x)


class _Pointwise(nn.Conv2d):
    """1 x 1 convolution; of few channels it leaves pixels out first, where the usual one does so inside.

    There the gradient kernel of processors with AVX2 and no AVX-512 writes past its memory, for strides
    over one and fewer than ``AVX2_CHANNELS`` (oneDNN issue 6035).
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.in_channels >= AVX2_CHANNELS:
            return super().forward(x)
        high, wide = self.stride
        return F.conv2d(x[:, :, ::high, ::wide], self.weight)


def _shortcut(channels_in: int, channels: int, stride: int) -> nn.Module:
    if channels_in == channels and stride == 1:
        return nn.Identity()
    return _convolution(channels_in, channels, 1, stride)


def initial_model(config: RunConfig, images: Tensor, num_coarse: int) -> Classifier:
    """The untrained network of a configuration, normalising with the mean and spread of these images.

    The same seed gives the same network; torch's global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        channels, *size = images.shape[1:]
        model = build_model(config.arch, config.width, channels, tuple(size), num_coarse, config.l2_features)
    levels = torch.arange(256).double() / 255
    for channel, values in enumerate(images.transpose(0, 1).flatten(1)):  # (N H W,) each
        share = torch.bincount(values, minlength=256).double() / values.numel()
        mean = (share * levels).sum()
        model.mean[channel] = mean
        model.std[channel] = (share * (levels - mean) ** 2).sum().sqrt() or 1.0  # a constant channel
    return model
