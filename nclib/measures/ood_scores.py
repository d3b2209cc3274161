"""Out-of-distribution detection on last-layer features: outlier scores, and how well they detect.

    inside, outside = (outlier_scores(train, h, labels) for h in (test.h, others))
    detection_of(inside["gmm"], outside["gmm"])      # {"auroc": ..., "fpr95": ...}

A score is higher, the more unusual a sample is. The scores that know classes take any labelling of the
training features: the coarse labels of training, the true fine ones, or those that clustering found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional as F

from nclib.measures.arrays import (
    SEEDS,
    ArrayLike,
    as_features,
    as_images,
    as_labels,
    as_tensor,
    as_vector,
    as_whole,
)
from nclib.measures.distances import euclidean
from nclib.measures.moments import class_means
from nclib.networks.features import FeatureSet

NEIGHBOURS = 50  # k of the nearest-neighbour score
LONGEST = 4096  # side of an image
NOISE = 1e-6  # spread, relative to the size of features, below which float32 holds rounding


def outlier_scores(
    train: FeatureSet,
    h: ArrayLike,
    labels: ArrayLike | None = None,
    scores: str | Iterable[str] | None = None,
) -> dict[str, np.ndarray]:
    """Outlier scores of some features.

    Every call fits to the training features anew: to judge several sets, pass them together.

    Parameters
    ----------
    train : features of the training set, and the head that reads them.
    h : (N, D) features to judge.
    labels : (N_train,) classes of the training features, by default ``train.coarse``. Numbers may be
        missing, as those of a class that was held out.
    scores : names of scores, or one; None: all.

    Returns
    -------
    dict by name of (N,) float64, higher for more unusual samples. Units differ from score to score.

    Scores
    ------
    softmax : one minus the largest softmax probability. Hendrycks and Gimpel (2017).
    energy : minus the log-sum-exp of the logits. Liu et al. (2020).
    norm : minus the Euclidean norm of the feature.
    nearest-mean : Euclidean distance to the nearest class mean.
    gaussian : squared Mahalanobis distance to the nearest class mean, one covariance for all classes, on the
        last layer only and without perturbing the input. After Lee et al. (2018).
    gmm : minus the log density of a mixture of Gaussians, one a class, weighted by class frequency; without
        spectral normalisation of the network. After Mukhoti et al. (2023).
    knn : distance to the 50th nearest training feature, all scaled to norm one. Sun et al. (2022).
    neco : minus the share of the centred feature's norm that lies in the first C - 1 principal components of
        the training features, C classes; not standardised, and not multiplied by the largest logit. After
        Ben Ammar et al. (2024).

    Raises
    ------
    TypeError : ``train`` is no FeatureSet.
    ValueError : an unknown score, features, labels or a head that are refused or do not fit each other,
        or a class with fewer than two samples.

    Notes
    -----
    The covariances of "gaussian" and "gmm" are shrunk as Ledoit and Wolf (2004) propose, which is our choice:
    classes can have fewer samples than features.
    """
    if not isinstance(train, FeatureSet):
        raise TypeError(f"train must be a FeatureSet, with its head; got {type(train).__name__}")
    names = [scores] if isinstance(scores, str) else list(SCORES if scores is None else scores)
    if unknown := [name for name in names if name not in SCORES]:
        raise ValueError(f"unknown scores {unknown}; choose among {', '.join(SCORES)}")
    h = _exact(as_features(h))
    labels = as_labels(train.coarse if labels is None else labels, len(train.h)).cpu()
    present, labels, counts = labels.unique(return_inverse=True, return_counts=True)  # numbered without gaps
    if counts.min() < 2:
        raise ValueError(f"a class needs 2 samples or more; class {int(present[counts.argmin()])} has 1")
    weight = as_features(train.weight, "classifier weights")
    bias = as_vector(train.bias, "bias", len(weight))
    exact = FeatureSet(_exact(as_features(train.h)), train.fine, train.coarse, _exact(weight), _exact(bias))
    if not h.shape[1] == exact.h.shape[1] == weight.shape[1]:
        dims = f"{exact.h.shape[1]}, {weight.shape[1]} and {h.shape[1]}"
        raise ValueError(f"training features, weights and features must have one dimension; got {dims}")
    return {name: SCORES[name](exact, labels, h).numpy() for name in names}


def detection_of(inside: ArrayLike, outside: ArrayLike) -> dict[str, float]:
    """How well a score tells outliers from samples of the training distribution.

    Parameters
    ----------
    inside, outside : (N,) and (M,) scores of samples from the training distribution, and of others.

    Returns
    -------
    dict of "auroc", the share of pairs (inside, outside) in which the outlier scores higher, a tie
    counting half; and "fpr95", the share of outliers that pass when the threshold is the lowest score
    at which at least 95 % of the inside samples pass. A sample passes with a score at the threshold
    or below, so that ties count against the score.

    Raises
    ------
    ValueError : no samples on one side, or scores that are not (N,), real and finite.
    """
    inside, outside = (as_tensor(scores).cpu() for scores in (inside, outside))
    if not (inside.numel() and outside.numel()):
        raise ValueError(
            f"both sides need samples; got {inside.numel()} inside and {outside.numel()} outside"
        )
    inside, outside = _as_scores(inside), _as_scores(outside)
    is_outlier = np.repeat([0, 1], [len(inside), len(outside)])
    passing = math.ceil(95 * len(inside) / 100)  # 0.95 * n may round up past an integer
    threshold = np.sort(inside)[passing - 1]
    return {
        "auroc": float(roc_auc_score(is_outlier, np.concatenate([inside, outside]))),
        "fpr95": float(np.mean(outside <= threshold)),
    }


def softmax(train: FeatureSet, labels: Tensor, h: Tensor) -> Tensor:
    """Summed from the other probabilities: the difference loses the digits of confident samples, and ties."""
    p = _logits(train, h).softmax(dim=1)  # (N, C)
    return p.scatter(1, p.argmax(dim=1, keepdim=True), 0).sum(dim=1)


def energy(train: FeatureSet, labels: Tensor, h: Tensor) -> Tensor:
    return -_logits(train, h).logsumexp(dim=1)


def norm(train: FeatureSet, labels: Tensor, h: Tensor) -> Tensor:
    return -h.norm(dim=1)


def nearest_mean(train: FeatureSet, labels: Tensor, h: Tensor) -> Tensor:
    _, means = _class_means(train, labels)
    return euclidean(h, means).amin(dim=1)


def gaussian(train: FeatureSet, labels: Tensor, h: Tensor) -> Tensor:
    _, means = _class_means(train, labels)
    root = _covariance_root(train.h - means[labels], _floor(train.h))
    origin = means.mean(dim=0)
    return euclidean(_whitened(h - origin, root), _whitened(means - origin, root)).amin(dim=1).square()


def gmm(train: FeatureSet, labels: Tensor, h: Tensor) -> Tensor:
    counts, means = _class_means(train, labels)
    floor = _floor(train.h)
    joint = []  # log of weight times density, a column a class
    for c, (weight, mean) in enumerate(zip(counts / len(labels), means, strict=True)):
        root = _covariance_root(train.h[labels == c] - mean, floor)
        distance = _whitened(h - mean, root).square().sum(dim=1)  # (N,)
        volume = root.diagonal().log().sum() + len(mean) / 2 * math.log(2 * math.pi)
        joint.append(weight.log() - volume - distance / 2)
    return -torch.stack(joint, dim=1).logsumexp(dim=1)


def knn(train: FeatureSet, labels: Tensor, h: Tensor) -> Tensor:
    """k is ``NEIGHBOURS``, or the number of training features where there are fewer; zero stays zero."""
    search = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(train.h)), algorithm="brute")
    search.fit(_of_norm_one(train.h).numpy())
    return torch.from_numpy(search.kneighbors(_of_norm_one(h).numpy())[0][:, -1])


def neco(train: FeatureSet, labels: Tensor, h: Tensor) -> Tensor:
    """-||P z|| / ||z||, with z = h minus the training mean and P the first C - 1 principal directions.

    C - 1 is the dimension of a simplex of C class means. Zero for z = 0.
    """
    mean = train.h.mean(dim=0)
    z = train.h - mean
    directions = torch.linalg.eigh(z.T @ z)[1].flip(1)[:, : int(labels.max())]  # (D, C - 1)
    z = h - mean
    return -(_of_norm_one(z) @ directions).norm(dim=1)


def _of_norm_one(x: Tensor) -> Tensor:
    """Rows of (N, D) scaled to norm one, however small; zeros stay zero."""
    return F.normalize(x, eps=torch.finfo(x.dtype).tiny)


SCORES: dict[str, Callable[[FeatureSet, Tensor, Tensor], Tensor]] = {
    "softmax": softmax,
    "energy": energy,
    "norm": norm,
    "nearest-mean": nearest_mean,
    "gaussian": gaussian,
    "gmm": gmm,
    "knn": knn,
    "neco": neco,
}
"""Name -> score(train, labels, h), all float64, labels in [0, C): (N,) float64; see ``outlier_scores``."""


def noise_like(images: Tensor, seed: int) -> Tensor:
    """Images of independent Gaussian noise, the simplest outliers.

    Parameters
    ----------
    images : (N, C, H, W) uint8; the noise has the mean and the standard deviation of each channel.
    seed : of the noise.

    Returns
    -------
    (N, C, H, W) uint8, on the CPU. Rounding to [0, 255] moves mean and deviation where a channel is near an
    end.

    Raises
    ------
    ValueError : other images, or a seed that is no whole number from 0 on.
    """
    seed = as_whole(seed, "seed", *SEEDS)
    pixels = as_images(images).cpu().float()
    deviation, mean = torch.std_mean(pixels, dim=(0, 2, 3), keepdim=True, correction=0)
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
    return (mean + deviation * noise).round().clamp(0, 255).to(torch.uint8)


def resized(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Images of another data set in the shape that a network takes.

    Parameters
    ----------
    images : (N, C, H, W) uint8.
    shape : (C', H', W'), as ``run.image_shape``; none above 4096.

    Returns
    -------
    (N, C', H', W') uint8. Where channels differ in number, each is the mean of the old ones; the size
    changes by bilinear interpolation, with antialiasing where it shrinks.
    """
    channels, *size = (as_whole(length, "shape", 1, LONGEST) for length in shape)
    if len(size) != 2:
        raise ValueError(f"shape={shape!r}: expected (channels, height, width)")
    pixels = as_images(images).float()
    if images.shape[1] != channels:
        pixels = pixels.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1)
    return F.interpolate(pixels, size, mode="bilinear", antialias=True).round().to(torch.uint8)


def _as_scores(scores: Tensor) -> np.ndarray:
    """Scores (N,) as float64, checked."""
    if scores.ndim != 1:
        raise ValueError(f"scores must have shape (N,); got {tuple(scores.shape)}")
    return as_features(scores[:, None], "scores", largest=1e300)[:, 0].double().numpy()


def _exact(values: Tensor) -> Tensor:
    return values.detach().cpu().to(torch.float64)


def _logits(train: FeatureSet, h: Tensor) -> Tensor:
    return h @ train.weight.T + train.bias  # (N, C)


def _class_means(train: FeatureSet, labels: Tensor) -> tuple[Tensor, Tensor]:
    return class_means(train.h, labels, int(labels.max()) + 1)  # (C,), (C, D)


def _floor(h: Tensor) -> Tensor:
    """Variance below which a direction holds nothing but rounding; positive even if all features are zero."""
    return (NOISE**2 * h.square().mean()).clamp(min=torch.finfo(torch.float32).tiny)


def _covariance_root(residuals: Tensor, floor: Tensor) -> Tensor:
    """Cholesky factor (D, D) of the covariance of residuals (n, D).

    Ledoit and Wolf (2004) shrink towards a multiple of the identity by as much as n and D ask for:
    dead features and classes with fewer samples than features keep a positive spread. The floor serves
    where all residuals vanish.
    """
    covariance = torch.from_numpy(ledoit_wolf(residuals.numpy(), assume_centered=True)[0])
    covariance.diagonal().add_(floor)
    return torch.linalg.cholesky(covariance)


def _whitened(points: Tensor, root: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(root, points.T, upper=False).T  # (N, D)
