"""Clusters, coarse labels and a two-layer ReLU network in which fine structure can be computed.

    table = sweep(rhos=(-0.5, 0.0, 0.3), epss=(1, 0.1), seeds=range(4))     # trains 24 networks at once
    limit_ratio(-0.5)                                   # what their "ratio" tends to as eps goes to 0

Two coarse labels, y = +1 and y = -1, with q clusters each. Clusters are points on the unit sphere of
R^d: two of one label have the inner product rho, two of different labels are orthogonal.

    f(x) = 1/m sum_j a_j relu(w_j . x),      h(x) = relu(W x),      w_j(0) ~ N(0, eps^2 I / d)

The network descends on the logistic loss of the cluster centres by gradient flow. Either W alone is
trained and a_j is fixed at +1 or -1, or both layers are, from a balanced start |a_j| = ||w_j||.

The weights move within the span of the centres. So a network is its pre-activations u = W mu_k,
q numbers for each label and unit, and du = K dw with the Gram matrix K of the centres: exact, and cheap
enough for thousands of networks side by side. The clock is s = integral of g dt, g the mean slope of the
loss over the clusters. The loss makes the clock slow down; the path it decides only through
differences between clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy.special import ndtr
from torch import Tensor

from nclib.report import interval, with_interval

MARGIN = 5.0  # mean of y f(x) over the clusters at which training ends; the logistic loss is 0.007 there
STEP = 0.05  # of the clock, in units of the time that the quickest change takes
MAX_STEPS = 20_000  # a training that goes on for longer has a fault
CHUNK = 2**13  # units of all networks that are trained side by side; what a processor's cache holds
RESTARTS = 4  # of 2-means
LLOYD_STEPS = 20  # of 2-means
RIDGE = 1e-12  # of the probe, in units of the features' total variance: keeps dead units out, no more


def unit_shares(rho: float) -> tuple[float, float]:
    """Probability that a unit starts by seeing both clusters of a label, and that it sees one given one only.

    Notes
    -----
    The signs of two Gaussians of correlation rho: Sheppard's formula, with theta = arccos(rho).
    """
    theta = np.arccos(rho)
    return (np.pi - theta) / (2 * np.pi), theta / (2 * np.pi)


def limit_cosine(rho: float) -> float:
    """cos(h_1, h_2) of two clusters of a label as eps goes to 0; first layer trained, width infinite."""
    both, one = unit_shares(rho)
    return 1.0 if rho > 0 else (1 + rho) ** 2 * both / ((1 + rho) ** 2 * both + one)


def limit_ratio(rho: float) -> float:
    """Fine over coarse squared distance as eps goes to 0; first layer trained, width infinite.

    Notes
    -----
    The ratio is ||h_1 - h_2||^2 / ||mean(h_1, h_2) - mean(h_3, h_4)||^2. For rho <= 0 units that see
    both clusters grow at 1 + rho on each, those that see one grow at 1 on it. For rho > 0 it is 0.
    """
    both, one = unit_shares(rho)
    return 0.0 if rho > 0 else one / ((1 + rho) ** 2 * both + one / 2)


def frozen_spread(rho: float) -> float:
    """Mean square of the difference that training freezes in a unit's activations, rho > 0.

    Returns
    -------
    E[(u_1 - u_2)^2; the unit sees a cluster of its label], in units of eps^2 / d.

    Notes
    -----
    A unit that starts with both u > 0 keeps u_1 - u_2. One that starts with u_1 > 0 > u_2 sees the second
    cluster when the clock shows -u_2 / rho, and then u_1 - u_2 stays at its start value u_1 - u_2 / rho.
    The second moments of Gaussians in a quadrant do the rest.
    """
    theta, sine = np.arccos(rho), np.sqrt(1 - rho**2)
    both = (1 - rho) * (np.pi - theta - sine)
    one = (1 - rho**2) / rho**2 * (theta + rho * sine)
    return (both + one) / np.pi


def collapsed_ratio(rho: float, eps: float, dim: int = 8, margin: float = MARGIN) -> float:
    """Leading order in eps of the ratio of ``limit_ratio`` for rho > 0: a number times (eps / margin)^2.

    Notes
    -----
    Let a share P of the units of a label see it. They grow like (1 + rho) s, so that the margin is
    (1 + rho) s P / 2, and the ratio is E[(u_1 - u_2)^2] / (2 P (1 + rho)^2 s^2).
    """
    both, one = unit_shares(rho)
    return (both + 2 * one) * frozen_spread(rho) * eps**2 / (8 * dim * margin**2)


def both_layers_exponent(rho: float, members: int = 2) -> float:
    """Power of eps that the ratio follows as eps goes to 0 at a given margin, both layers trained.

    Notes
    -----
    A unit that sees j of the q clusters of its label grows like exp(s sqrt(j (1 + (j - 1) rho))). For
    rho <= 0 units stay as they start; those that see all but one carry the fine structure, and those that
    see all outgrow them, unless rho is so low that it is the other way round. For rho > 0 all units end by
    seeing all.
    """
    if rho > 0:
        return 2.0
    growth = [np.sqrt(j * (1 + (j - 1) * rho)) for j in (members - 1, members)]
    return float(max(0, 2 * (1 - growth[0] / growth[1])))


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


@dataclass(frozen=True, eq=False)
class Networks:
    """Networks of one width, trained side by side. B networks, q clusters for each of 2 labels, m units.

    Attributes
    ----------
    rho, eps : (B,) float64.
    u : (B, 2, q, m) pre-activations at the cluster centres; label 0 is y = +1.
    a : (B, m) second layer.
    rest : (B, d - 2 q, m) weights off the span of the centres, which training does not move.
    """

    rho: Tensor
    eps: Tensor
    u: Tensor
    a: Tensor
    rest: Tensor

    def chosen(self, index: ArrayLike) -> Networks:
        """Some of the networks, each as often as its number occurs."""
        return Networks(*(getattr(self, f.name)[torch.as_tensor(index)] for f in fields(Networks)))

    def margins(self) -> Tensor:
        """(B, 2, q) values of y f(x) at the cluster centres."""
        f = torch.einsum("blqm,bm->blq", self.u.relu(), self.a) / self.a.shape[1]
        return f * f.new_tensor([1, -1])[:, None]

    def cosine(self) -> Tensor:
        """(B,) mean cosine between features of two clusters of one label."""
        h = torch.nn.functional.normalize(self.u.relu(), dim=-1)
        q = h.shape[2]
        return ((h.sum(2).square().sum(-1) - q) / (q * (q - 1))).mean(1)

    def ratio(self) -> Tensor:
        """(B,) mean squared distance between clusters of one label over that between label means."""
        h = self.u.relu()
        means = h.mean(2)  # (B, 2, m)
        coarse = (means[:, 0] - means[:, 1]).square().sum(-1)
        spread = (h - means[:, :, None]).square().sum((2, 3)).mean(1)
        return 2 * spread / (h.shape[2] - 1) / coarse

    def weights(self) -> Tensor:
        """(B, d, m) weights of the first layer, in the coordinates of ``centres``."""
        return torch.cat([_gram_power(self.u, self.rho, -0.5).flatten(1, 2), self.rest], dim=1)

    def centres(self) -> Tensor:
        """(B, 2 q, d) cluster centres, those of label 0 first."""
        return _centres(self.rho, self.u.shape[2], 2 * self.u.shape[2] + self.rest.shape[1])


def train(
    rho: ArrayLike,
    eps: ArrayLike,
    seed: ArrayLike = 0,
    *,
    both_layers: bool = False,
    width: int = 256,
    dim: int = 8,
    members: int = 2,
    margin: float = MARGIN,
    step: float = STEP,
) -> Networks:
    """Train networks, one for each entry of ``rho``, ``eps`` and ``seed``, until the mean margin is reached.

    Parameters
    ----------
    rho, eps, seed : numbers or (B,) arrays, broadcast. -1 / (q - 1) < rho < 1, eps > 0. The result of a
        network depends on its own entries only; networks of one seed start from the same draw.
    both_layers : train a as well, from |a_j| = ||w_j||. Its signs are always half +1, half -1.
    width, dim, members : m, an even number; d; and q, clusters for each label, with 2 q <= d.
    margin : mean of y f(x) over the clusters at which a network's training ends.
    step : of the clock, in units of s + eps / sqrt(d) where W alone is trained, and of 1 where units grow
        exponentially. Midpoint rule, second order but for the steps in which a unit switches.

    Raises
    ------
    ValueError : a value outside these ranges.
    RuntimeError : the margin was not reached in ``MAX_STEPS`` steps.
    """
    rho, eps, seed = (
        torch.as_tensor(np.array(x)) for x in np.broadcast_arrays(*np.atleast_1d(rho, eps, seed))
    )
    _check(rho, eps, width, dim, members)
    count = max(1, CHUNK // width)
    order = eps.argsort(stable=True)  # those of a part then need about equally many steps
    parts = [
        _train_part(*part, both_layers, width, dim, members, margin, step)
        for part in zip(*(x[order].split(count) for x in (rho.double(), eps.double(), seed)), strict=True)
    ]
    together = Networks(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Networks)))
    return together.chosen(order.argsort())


def _check(rho: Tensor, eps: Tensor, width: int, dim: int, members: int) -> None:
    if not (-1 / (members - 1) < rho.min() and rho.max() < 1):
        raise ValueError(
            f"rho must lie in ({-1 / (members - 1):.3g}, 1) for {members} clusters a label; got {rho}"
        )
    if not eps.min() > 0:
        raise ValueError(f"eps must be positive; got {eps}")
    if width % 2 or dim < 2 * members:
        raise ValueError(f"width must be even and dim at least {2 * members}; got {width} and {dim}")


def _train_part(
    rho: Tensor,
    eps: Tensor,
    seed: Tensor,
    both_layers: bool,
    width: int,
    dim: int,
    members: int,
    margin: float,
    step: float,
) -> Networks:
    start = _start(eps, seed, dim, width)
    a = _signs(width).repeat(len(rho), 1)  # (B, m)
    if both_layers:
        a *= start.norm(dim=1)
    y = torch.tensor([1.0, -1.0], dtype=torch.float64)[:, None]  # (2, 1)

    def margins_of(u: Tensor, a: Tensor) -> Tensor:
        return (torch.einsum("blqm,bm->blq", u.relu(), a) * (y / width)).flatten(1)

    def change_of(u: Tensor, a: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
        active = torch.where(u > 0, (pull.view(u.shape[:3]) * y)[..., None], 0.0)
        du = _gram_power(active, rho, 1) * a[:, None, None]
        return du, (active * u).sum((1, 2)) if both_layers else torch.zeros_like(a)

    u = _gram_power(start[:, : 2 * members].unflatten(1, (2, members)), rho, 0.5)
    scale = None if both_layers else eps / dim**0.5
    u, a = _flow((u, a), margins_of, change_of, scale, margin, step)
    return Networks(rho, eps, u, a, start[:, 2 * members :])


def _start(eps: Tensor, seed: Tensor, dim: int, width: int) -> Tensor:
    """Initial weights (B, d, m); the first rows are coordinates within the span of the centres."""
    draws = {
        s: torch.randn(dim, width, generator=torch.Generator().manual_seed(s), dtype=torch.float64)
        for s in set(seed.tolist())
    }
    return (eps / dim**0.5)[:, None, None] * torch.stack([draws[s] for s in seed.tolist()])


def _signs(width: int) -> Tensor:
    a = torch.ones(width, dtype=torch.float64)
    a[width // 2 :] = -1
    return a


def _flow(
    state: tuple[Tensor, ...],
    margins_of: Callable[..., Tensor],
    change_of: Callable[..., tuple[Tensor, ...]],
    scale: Tensor | None,
    margin: float,
    step: float,
) -> tuple[Tensor, ...]:
    """Follow the gradient flow with the midpoint rule until every network has the mean margin.

    Parameters
    ----------
    state : what changes, tensors (B, ...).
    margins_of : of the state, the values y f(x) of the K inputs that are trained on, (B, K).
    change_of : of the state and of (B, K) impulses, one for each input: the state's change.
    scale : (B,) size of the start; steps grow with ``scale`` plus the clock. None: steps of one length.
    """
    margins = margins_of(*state)
    reached = margins.mean(1)
    clock = torch.zeros_like(reached)
    limit = torch.full_like(reached, torch.inf)
    for _ in range(MAX_STEPS):
        if (reached >= margin).all():
            return state
        length = torch.minimum(step * (torch.ones_like(clock) if scale is None else scale + clock), limit)
        length = torch.where(reached < margin, length, 0)
        middle = _moved(state, change_of(*state, _impulses(margins, length / 2)))
        state = _moved(state, change_of(*middle, _impulses(margins_of(*middle), length)))
        before, margins = reached, margins_of(*state)
        reached, clock = margins.mean(1), clock + length
        left = (1.001 * margin - reached) * length / (reached - before)  # a step just beyond the margin
        limit = torch.where(reached > before, left, torch.inf)
    raise RuntimeError(f"no mean margin of {margin} after {MAX_STEPS} steps; reached {reached}")


def _impulses(margins: Tensor, length: Tensor) -> Tensor:
    """Slopes g_k of the loss times dt, (B, K), where the clock goes on by ``length``."""
    slopes = torch.sigmoid(-margins)
    return slopes / slopes.mean(1, keepdim=True) * length[:, None]


def _moved(state: tuple[Tensor, ...], change: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x + dx for x, dx in zip(state, change, strict=True))


def _centres(rho: Tensor, members: int, dim: int) -> Tensor:
    """(B, 2 q, d): rows of the square root of the Gram matrix, and zeros."""
    eye = torch.eye(2 * members, dim, dtype=torch.float64).view(1, 2, members, dim)
    return _gram_power(eye.expand(len(rho), -1, -1, -1), rho, 0.5).flatten(1, 2)


def _gram_power(x: Tensor, rho: Tensor, power: float) -> Tensor:
    """K^power x over the members of each label, dimension 2 of (B, 2, q, .).

    The Gram matrix K of the centres has the eigenvalue 1 + (q - 1) rho on the members' mean, and 1 - rho
    on what is left.
    """
    rho = rho.view(-1, 1, 1, 1)
    apart, mean = (1 - rho) ** power, (1 + (x.shape[2] - 1) * rho) ** power
    return apart * x + (mean - apart) * x.mean(2, keepdim=True)


def sweep(rhos: Iterable[float], epss: Iterable[float], seeds: Iterable[int], **how: Any) -> pd.DataFrame:
    """Train every combination, and measure it: one row for each.

    Parameters
    ----------
    rhos, epss, seeds : values of each.
    how : keyword arguments of ``train``.

    Returns
    -------
    columns "rho", "eps", "seed", "ratio", "cosine" and "margin", the mean of y f(x).
    """
    table = pd.DataFrame(list(product(rhos, epss, seeds)), columns=["rho", "eps", "seed"])
    size = 4 * max(1, CHUNK // how.get("width", 256))  # measured in parts, so that few networks are held
    parts = []
    for begin in range(0, len(table), size):
        part = table[begin : begin + size]
        nets = train(part["rho"], part["eps"], part["seed"], **how)
        found = {"ratio": nets.ratio(), "cosine": nets.cosine(), "margin": nets.margins().mean((1, 2))}
        parts.append(part.assign(**{name: values.numpy() for name, values in found.items()}))
    return pd.concat(parts)


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """Slope of log ratio over log eps by least squares, for each rho and seed of a ``sweep``.

    Returns
    -------
    columns "rho", "seed" and "exponent".
    """
    slopes = {
        key: np.polyfit(np.log(rows["eps"]), np.log(rows["ratio"]), 1)[0]
        for key, rows in table.groupby(["rho", "seed"])
    }
    return pd.DataFrame([(*key, slope) for key, slope in slopes.items()], columns=["rho", "seed", "exponent"])


def limit_table(table: pd.DataFrame) -> pd.DataFrame:
    """Cosine and ratio of a ``sweep`` with one eps beside their limits, by rho, as text.

    Means with 95 % intervals over seeds; "off" is how far a mean lies from the formula.
    """
    rows = {}
    for rho, of_rho in table.groupby("rho"):
        limits = {"cosine": limit_cosine(rho), "ratio": limit_ratio(rho)}
        rows[f"{rho:g}"] = {
            key: text
            for name, limit in limits.items()
            for key, text in _compared(name, limit, of_rho[name]).items()
        }
    return pd.DataFrame(rows).T.rename_axis("rho")


def exponent_table(slopes: pd.DataFrame, predicted: Callable[[float], float]) -> pd.DataFrame:
    """``exponents`` beside a prediction for each rho, as ``limit_table`` has it."""
    rows = {
        f"{rho:g}": _compared("exponent", predicted(rho), of_rho["exponent"])
        for rho, of_rho in slopes.groupby("rho")
    }
    return pd.DataFrame(rows).T.rename_axis("rho")


def _compared(name: str, predicted: float, values: Iterable[float]) -> dict[str, str]:
    off = interval(values)[0] / predicted - 1
    return {f"{name}, formula": f"{predicted:.4f}", f"{name}, trained": with_interval(values, "{:.4f}"),
            f"{name}, off": f"{off:+.1%}"}  # fmt: skip


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
    given = np.broadcast_arrays(*np.atleast_1d(rho, eps, sigma, seed))
    rho, eps, sigma, seed = (torch.as_tensor(np.array(x)) for x in given)
    rho, eps = rho.double(), eps.double()
    _check(rho, eps, width, dim, members=2)
    noise = _noise(seed, samples, dim)[:, 2].flatten(1, 2)  # (B, 4, n, d)
    x = _centres(rho, 2, dim)[:, :, None] + sigma.view(-1, 1, 1, 1) * noise
    x = x.flatten(1, 2)  # (B, N, d), N = 4 n
    y, a = _signs(x.shape[1]), _signs(width)

    def margins_of(w: Tensor) -> Tensor:
        return (x @ w).relu() @ (a / width) * y

    def change_of(w: Tensor, pull: Tensor) -> tuple[Tensor]:
        active = torch.where(x @ w > 0, (pull * y * 4 / x.shape[1])[..., None], 0.0)  # (B, N, m)
        return (x.mT @ active * a,)

    start = _start(eps, seed, dim, width)
    (w,) = _flow((start,), margins_of, change_of, eps / dim**0.5, margin, step)
    u = _gram_power(w[:, :4].unflatten(1, (2, 2)), rho, 0.5)
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
    side = _sides(train)
    origin = train.mean(1, keepdim=True)
    z = train - origin
    square = z.mT @ z  # (B, D, D)
    ridge = RIDGE * square.diagonal(dim1=1, dim2=2).sum(1)
    square.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
    direction = torch.linalg.solve(square, z.mT @ side)  # (B, D, 1)
    return ((test - origin) @ direction * _sides(test) > 0).double().mean((1, 2))


def two_means_accuracy(h: Tensor, seed: int = 0) -> Tensor:
    """Agreement of 2-means with two equal classes, the better of both namings, (B,).

    Parameters
    ----------
    h : (B, 2 n, D) features of B networks, as in ``probe_accuracy``.
    seed : of the pairs of samples that ``RESTARTS`` searches start from; the best sum of squares counts.
    """
    n = h.shape[1]
    z = h - h.mean(1, keepdim=True)  # the other cluster's sum is then minus this one's
    picks = torch.randint(n, (2, RESTARTS), generator=torch.Generator().manual_seed(seed))
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
    agreement = ((2 * inside - 1) * _sides(z) > 0).double().mean(1)  # (B, R)
    agreement = torch.maximum(agreement, 1 - agreement)
    return agreement.gather(1, gain.argmax(1, keepdim=True))[:, 0]


def _sides(h: Tensor) -> Tensor:
    """+1 for the first half of the samples, -1 for the second, (2 n, 1)."""
    side = torch.ones(h.shape[1], 1, dtype=h.dtype)
    side[h.shape[1] // 2 :] = -1
    return side
