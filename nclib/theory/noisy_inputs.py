"""The two-layer setting with noisy inputs: what a probe and 2-means still read from trained features."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy.special import ndtr
from torch import Tensor

from nclib.theory.two_layer import (
    CHUNK,
    MARGIN,
    STEP,
    Networks,
    centres,
    check,
    entries,
    flow,
    gram_power,
    signs,
    starting_networks,
    train,
)

RESTARTS = 4  # of 2-means, each from a random pair of samples; the best sum of squares counts
LLOYD_STEPS = 20  # of 2-means
RIDGE = 1e-12  # of the probe, in units of the features' total variance: keeps dead units out, no more


def bayes_accuracy(rho: ArrayLike, sigma: ArrayLike) -> np.ndarray:
    """Best accuracy that any reader of x = mu_k + sigma xi has for two clusters of a label, xi ~ N(0, I)."""
    return ndtr(np.sqrt((1 - np.asarray(rho)) / 2) / np.asarray(sigma))


def two_means_limit(rho: ArrayLike, ratio: ArrayLike) -> np.ndarray:
    """Noise sigma above which 2-means no longer splits a collapsed label (rho > 0) along its fine classes.

    Notes
    -----
    There h is close to a line, s (mu_1 + mu_2) . x for all units alike. Noise of sigma in x spreads it along
    that line by sigma sqrt(2 / (1 + rho)) ||h||; the fine classes lie +-||h_1 - h_2|| / 2 off it. To split a
    Gaussian of variance v in two halves lowers the mean square by 2 v / pi. 2-means prefers the larger gain.
    """
    return np.sqrt(np.pi * (1 + np.asarray(rho)) * np.asarray(ratio) / 8)


def train_on_samples(
    rho: ArrayLike,
    eps: ArrayLike,
    sigma: ArrayLike,
    seed: ArrayLike = 0,
    *,
    samples: int = 32,
    width: int = 64,
    dim: int = 8,
    margin: float = MARGIN,
    step: float = STEP,
) -> Networks:
    """Train first layers on noisy samples mu_k + sigma xi, xi ~ N(0, I), of two clusters a label.

    Parameters
    ----------
    rho, eps, sigma, seed : numbers or (B,) arrays, broadcast; an entry for each network.
    samples : n of each cluster.
    width, dim, margin, step : as for ``train``; the margin is a mean over samples.

    Raises
    ------
    ValueError, RuntimeError : as ``train`` does.
    """
    rho, eps, sigma, seed = entries(rho, eps, sigma, seed)
    check(rho, eps, width, dim, members=2)
    noise = _noise(seed, samples, dim)[:, 2].flatten(1, 2)  # (B, 4, n, d)
    x = centres(rho, 2, dim)[:, :, None] + sigma.view(-1, 1, 1, 1) * noise
    x = x.flatten(1, 2)  # (B, N, d), N = 4 n
    y, a = signs(x.shape[1]), signs(width)

    def margins_of(w: Tensor) -> Tensor:
        return (x @ w).relu() @ (a / width) * y

    def change_of(w: Tensor, pull: Tensor) -> tuple[Tensor]:
        pulled = x * (pull * y * 4 / x.shape[1])[..., None]  # (B, N, d)
        return (pulled.mT @ (x @ w).sign_().relu_() * a,)

    start = starting_networks(eps, seed, dim, width)
    (w,) = flow((start,), margins_of, change_of, eps / dim**0.5, margin, step)
    u = gram_power(w[:, :4].unflatten(1, (2, 2)), rho, 0.5)
    return Networks(rho, eps, u, a.repeat(len(rho), 1), w[:, 4:])


def noise_sweep(
    rhos: Iterable[float],
    sigmas: Iterable[float],
    seeds: Iterable[int],
    eps: float = 0.1,
    on_samples: bool = False,
    samples: int = 256,
    width: int = 64,
) -> pd.DataFrame:
    """Read fine labels off features of noisy inputs mu_k + sigma xi, xi ~ N(0, I) in R^8, of label y = +1.

    Parameters
    ----------
    rhos, sigmas, seeds : values of each; two clusters a label.
    eps, width : of all networks. Their first layer is trained.
    on_samples : train on samples of the same noise, see ``train_on_samples``; else on cluster centres.
    samples : n for each cluster to test readers on; as many again to fit the probes.

    Returns
    -------
    one row for each combination: "rho", "sigma", "seed"; accuracies of the "probe" on features, of a
    probe on the "inputs" themselves, and of "two_means" on features, matched; "ratio" at the centres.
    """
    table = pd.DataFrame(list(product(rhos, seeds, sigmas)), columns=["rho", "seed", "sigma"])
    size = max(1, CHUNK // samples)
    if not on_samples:  # no network then depends on the noise
        pairs, network = np.unique(table[["rho", "seed"]], axis=0, return_inverse=True)
        of_pairs = train(pairs[:, 0], eps, pairs[:, 1].astype(int), width=width)
    parts = []
    for begin in range(0, len(table), size):
        part = table[begin : begin + size]
        if on_samples:
            nets = train_on_samples(part["rho"], eps, part["sigma"], part["seed"], width=width)
        else:
            nets = of_pairs.chosen(network.ravel()[begin : begin + size])
        readings = _readings(nets, torch.as_tensor(np.array(part["sigma"])), part["seed"], samples)
        parts.append(part.assign(ratio=nets.ratio().numpy(), **readings))
    return pd.concat(parts, ignore_index=True)


def _noise(seeds: Iterable[int], samples: int, dim: int) -> Tensor:
    """Standard normal draws, (B, 3, 2, 2, n, d): to fit probes, to test, to train; by label and cluster."""
    draws = {
        s: torch.randn(
            3, 2, 2, samples, dim, generator=torch.Generator().manual_seed(~s), dtype=torch.float64
        )
        for s in set(map(int, seeds))
    }
    return torch.stack([draws[int(s)] for s in seeds])


def _readings(nets: Networks, sigma: Tensor, seeds: Iterable[int], samples: int) -> dict[str, np.ndarray]:
    weights = nets.weights()  # (B, d, m)
    noise = _noise(seeds, samples, weights.shape[1])[:, :2, 0]  # (B, 2, 2, n, d), of label 0
    x = nets.centres()[:, None, :2, None] + sigma.view(-1, 1, 1, 1, 1) * noise
    x = x.flatten(2, 3)  # (B, 2, 2 n, d)
    h = (x @ weights[:, None]).relu()  # (B, 2, 2 n, m)
    return {
        "probe": probe_accuracy(h[:, 0], h[:, 1]).numpy(),
        "inputs": probe_accuracy(x[:, 0], x[:, 1]).numpy(),
        "two_means": two_means_accuracy(h[:, 1]).numpy(),
    }


def probe_accuracy(train: Tensor, test: Tensor) -> Tensor:
    """Accuracy on ``test`` of least-squares probes fitted to ``train``, (B,), for two equal classes.

    Parameters
    ----------
    train, test : (B, 2 n, D) features of B networks; the first n are of one class, the others of the other.

    Notes
    -----
    Least squares on +-1 finds the direction of Fisher's discriminant. The ridge only keeps the normal
    equations solvable where units are dead.
    """
    origin = train.mean(1, keepdim=True)
    z = train - origin
    square = z.mT @ z  # (B, D, D)
    ridge = RIDGE * square.diagonal(dim1=1, dim2=2).sum(1)
    square.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
    direction = torch.linalg.solve(square, z.mT @ signs(z.shape[1])[:, None])  # (B, D, 1)
    return ((test - origin) @ direction * signs(test.shape[1])[:, None] > 0).double().mean((1, 2))


def two_means_accuracy(h: Tensor) -> Tensor:
    """Agreement of 2-means with two equal classes, the better of both namings, (B,).

    Parameters
    ----------
    h : (B, 2 n, D) features of B networks, as in ``probe_accuracy``.
    """
    n = h.shape[1]
    z = h - h.mean(1, keepdim=True)  # the other cluster's sum is then minus this one's
    picks = torch.randint(n, (2, RESTARTS), generator=torch.Generator().manual_seed(0))
    first, second = z[:, picks[0]], z[:, picks[1]]  # (B, R, D)
    inside = None
    for _ in range(LLOYD_STEPS):
        threshold = (first.square().sum(2) - second.square().sum(2)) / 2  # (B, R)
        before, inside = inside, (z @ (first - second).mT > threshold[:, None]).to(z)  # (B, 2 n, R)
        if before is not None and torch.equal(before, inside):
            break
        count = inside.sum(1).clamp(1, n - 1)[..., None]  # (B, R, 1)
        total = inside.mT @ z  # (B, R, D)
        first, second = total / count, -total / (n - count)
    gain = (total.square().sum(2, keepdim=True) * n / (count * (n - count)))[..., 0]
    agreement = ((2 * inside - 1) * signs(n)[:, None] > 0).double().mean(1)  # (B, R)
    agreement = torch.maximum(agreement, 1 - agreement)
    return agreement.gather(1, gain.argmax(1, keepdim=True))[:, 0]
