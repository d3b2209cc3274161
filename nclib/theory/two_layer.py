"""Clusters, coarse labels and a two-layer ReLU network in which fine structure can be computed.

    table = sweep(rhos=(-0.5, 0.0, 0.3), epss=(1, 0.1), seeds=range(4))     # trains 24 networks at once
    limit_ratio(-0.5)                                   # what their "ratio" tends to as eps goes to 0

Two coarse labels, y = +1 and y = -1, with q clusters each. Clusters are points on the unit sphere of
R^d, d >= 2 q: two of one label have the inner product rho, -1 / (q - 1) < rho < 1, so that no centre
lies in the span of the others; two of different labels are orthogonal.

    f(x) = 1/m sum_j a_j relu(w_j . x),      h(x) = relu(W x),      w_j(0) ~ N(0, eps^2 I / d)

The network descends on the logistic loss of the cluster centres by gradient flow. Either W alone is
trained and a_j is fixed at +1 or -1, or both layers are, from a balanced start |a_j| = ||w_j||. Limits are
those of eps / margin to 0 at fixed rho: a smaller start and a longer training are one and the same.

The weights move within the span of the centres. So a network is its pre-activations u = W mu_k,
q numbers for each label and unit, and du = K dw with the Gram matrix K of the centres: exact, and cheap
enough for thousands of networks side by side. The clock is s = integral of g dt, g the mean slope of the
loss over the clusters. The loss makes the clock slow down; the path it decides only through
differences between clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

MARGIN = 5.0  # mean of y f(x) over the clusters at which training ends; the logistic loss is 0.007 there
STEP = 0.05  # of the clock, in units of the time that the quickest change takes
MAX_STEPS = 20_000  # a training that goes on for longer has a fault
CHUNK = 2**13  # units of all networks that are trained side by side; what a processor's cache holds


def unit_shares(rho: float) -> tuple[float, float]:
    """Probability that a unit starts by seeing both clusters of a label, and that it sees one given one only.

    Raises
    ------
    ValueError : a rho outside [-1, 1].

    Notes
    -----
    The signs of two Gaussians of correlation rho: Sheppard's formula, with theta = arccos(rho).
    """
    if not -1 <= rho <= 1:
        raise ValueError(f"rho={rho}: a cosine lies from -1 to 1")
    theta = np.arccos(rho)
    return (np.pi - theta) / (2 * np.pi), theta / (2 * np.pi)


def limit_cosine(rho: float) -> float:
    """cos(h_1, h_2) of two clusters of a label as eps goes to 0; first layer trained, width infinite.

    Raises
    ------
    ValueError : a rho outside [-1, 1].
    """
    both, one = unit_shares(rho)
    return 1.0 if rho > 0 else (1 + rho) ** 2 * both / ((1 + rho) ** 2 * both + one)


def limit_ratio(rho: float) -> float:
    """Fine over coarse squared distance as eps goes to 0; first layer trained, width infinite.

    Raises
    ------
    ValueError : a rho outside [-1, 1].

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
    """Leading order of the ratio of ``limit_ratio`` for rho > 0: a number times (eps / margin)^2.

    Raises
    ------
    ValueError : a rho outside (0, 1].

    Notes
    -----
    Let a share P of the units of a label see it. They grow like (1 + rho) s, so that the margin is
    (1 + rho) s P / 2, and the ratio is E[(u_1 - u_2)^2] / (2 P (1 + rho)^2 s^2). Good where eps / margin is
    small beside rho: the number grows like 1 / rho^2 as rho falls to 0, while the ratio stays below
    ``limit_ratio(0)``.

    Weight decay lambda for a time t acts like the start eps exp(-lambda t): see ``descend``.
    """
    both, one = unit_shares(rho)
    if rho <= 0:
        raise ValueError(f"rho={rho}: only for rho > 0 does the ratio go to 0; limit_ratio has the others")
    return (both + 2 * one) * frozen_spread(rho) * eps**2 / (8 * dim * margin**2)


def both_layers_exponent(rho: float, members: int = 2) -> float:
    """Power of eps that the ratio follows as eps goes to 0 at a given margin, both layers trained.

    Raises
    ------
    ValueError : fewer than two clusters, or a rho that so many cannot have.

    Notes
    -----
    A unit that sees j of the q clusters of its label grows like exp(s sqrt(j (1 + (j - 1) rho))). For
    rho <= 0 units stay as they start; those that see all but one carry the fine structure, and those that
    see all outgrow them, unless rho is so low that it is the other way round. For rho > 0 all units end by
    seeing all.
    """
    check_rho(rho, rho, members)
    if rho > 0:
        return 2.0
    growth = [np.sqrt(j * (1 + (j - 1) * rho)) for j in (members - 1, members)]
    return float(max(0, 2 * (1 - growth[0] / growth[1])))


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

    @property
    def dim(self) -> int:
        """d, the dimension of the inputs."""
        return 2 * self.u.shape[2] + self.rest.shape[1]

    def weights(self) -> Tensor:
        """(B, d, m) weights of the first layer, in the coordinates of ``centres``."""
        return torch.cat([gram_power(self.u, self.rho, -0.5).flatten(1, 2), self.rest], dim=1)

    def centres(self) -> Tensor:
        """(B, 2 q, d) cluster centres, those of label 0 first."""
        return centres(self.rho, self.u.shape[2], self.dim)


def start(
    rho: ArrayLike,
    eps: ArrayLike,
    seed: ArrayLike = 0,
    *,
    width: int = 256,
    dim: int = 8,
    members: int = 2,
) -> Networks:
    """The networks of ``train`` before training, a at +1 and -1. Raises ValueError as ``train`` does."""
    rho, eps, seed = entries(rho, eps, seed)
    check(rho, eps, width, dim, members)
    weights = starting_networks(eps, seed, dim, width)
    u = gram_power(weights[:, : 2 * members].unflatten(1, (2, members)), rho, 0.5)
    return Networks(rho, eps, u, signs(width).repeat(len(rho), 1), weights[:, 2 * members :])


def descend(nets: Networks, time: float, *, decay: float = 0.0, step: float = 0.1) -> Networks:
    """Train first layers by plain gradient descent for some time, with weight decay.

    Parameters
    ----------
    nets : where to start; two labels, q clusters each.
    time : of the flow dw_j / dt = -m dL / dw_j - decay w_j, not negative.
    step : of this time in every step, at most: steps are of one length and end at ``time``.

    Raises
    ------
    ValueError : a time below 0, or a step that is not above.

    Notes
    -----
    With decay, v = exp(decay t) w moves as w does without, on a clock that runs exp(decay t) times as fast:
    relu and the signs of w . mu do not care for a common factor. The ratio is that of v, and a margin
    after the time t stands for exp(decay t) times as much: in ``collapsed_ratio`` the start eps becomes
    eps exp(-decay t).
    """
    if not (0 <= time < math.inf and step > 0):
        raise ValueError(f"time={time}, step={step}: training takes no time or more, in steps above 0")
    y = signs(nets.u.shape[1] * nets.u.shape[2])
    u, rest = nets.u, nets.rest
    steps = math.ceil(time / step - 1e-9)  # 1.1 / 0.1 is a little more than 11
    step = time / max(steps, 1)
    for _ in range(steps):
        h = u.relu()  # (B, 2, q, m)
        f = torch.einsum("blqm,bm->blq", h, nets.a) / h.shape[-1]
        pull = y.view(f.shape[1:]) * torch.sigmoid(-y.view(f.shape[1:]) * f)
        change = gram_power((u > 0) * pull[..., None], nets.rho, 1) * nets.a[:, None, None]
        u = u + step * (change - decay * u)
        rest = rest * (1 - step * decay)
    return Networks(nets.rho, nets.eps, u, nets.a, rest)


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
    rho, eps, seed = entries(rho, eps, seed)
    check(rho, eps, width, dim, members)
    count = max(1, CHUNK // width)
    order = eps.argsort(stable=True)  # those of a part then need about equally many steps
    parts = [
        _train_part(*part, both_layers, width, dim, members, margin, step)
        for part in zip(*(x[order].split(count) for x in (rho, eps, seed)), strict=True)
    ]
    together = Networks(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Networks)))
    return together.chosen(order.argsort())


def entries(rho: ArrayLike, eps: ArrayLike, *others: ArrayLike) -> tuple[Tensor, ...]:
    given = np.broadcast_arrays(*np.atleast_1d(rho, eps, *others))
    rho, eps, *others = (torch.as_tensor(np.array(x)) for x in given)
    return rho.double(), eps.double(), *others


def check_rho(lowest: float, highest: float, members: int) -> None:
    if members < 2:
        raise ValueError(f"a label has two clusters at least; got members={members}")
    if not (-1 / (members - 1) < lowest and highest < 1):
        raise ValueError(
            f"rho must lie in ({-1 / (members - 1):.3g}, 1) for {members} clusters a label; got {lowest} to"
            f" {highest}"
        )


def check(rho: Tensor, eps: Tensor, width: int, dim: int, members: int) -> None:
    check_rho(float(rho.min()), float(rho.max()), members)
    if not eps.min() > 0:
        raise ValueError(f"eps must be positive; got {eps}")
    if width < 2 or width % 2 or dim < 2 * members:
        raise ValueError(
            f"width must be even and positive, and dim at least {2 * members}; got {width} and {dim}"
        )


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
    nets = start(rho, eps, seed, width=width, dim=dim, members=members)
    u, a = nets.u, nets.a  # (B, 2, q, m), (B, m)
    if both_layers:
        a = a * nets.weights().norm(dim=1)
    y = torch.tensor([1.0, -1.0], dtype=torch.float64)[:, None]  # (2, 1)
    gram = gram_power(torch.eye(members).to(u).expand(len(rho), 2, -1, -1), rho, 1)  # (B, 2, q, q)

    def margins_of(u: Tensor, a: Tensor) -> Tensor:
        return (torch.einsum("blqm,bm->blq", u.relu(), a) * (y / width)).flatten(1)

    def change_of(u: Tensor, a: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
        pull = pull.view(u.shape[:3]) * y
        weights = gram * pull[:, :, None]  # (B, 2, q, q)
        active, du = u.sign().relu_(), torch.zeros_like(u)  # 1 where u > 0; faster than a comparison
        for k in range(members):  # one pass each; products of small matrices take longer
            du.addcmul_(weights[..., k, None], active[:, :, k, None])
        da = torch.einsum("blqm,blq->bm", u.relu(), pull) if both_layers else torch.zeros_like(a)
        return du.mul_(a[:, None, None]), da

    scale = None if both_layers else eps / dim**0.5
    u, a = flow((u, a), margins_of, change_of, scale, margin, step)
    return Networks(rho, eps, u, a, nets.rest)


def starting_networks(eps: Tensor, seed: Tensor, dim: int, width: int) -> Tensor:
    """Initial weights (B, d, m); the first rows are coordinates within the span of the centres."""
    draws = {
        s: torch.randn(dim, width, generator=torch.Generator().manual_seed(s), dtype=torch.float64)
        for s in set(seed.tolist())
    }
    return (eps / dim**0.5)[:, None, None] * torch.stack([draws[s] for s in seed.tolist()])


def signs(width: int) -> Tensor:
    a = torch.ones(width, dtype=torch.float64)
    a[width // 2 :] = -1
    return a


def flow(
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


def centres(rho: Tensor, members: int, dim: int) -> Tensor:
    """(B, 2 q, d): rows of the square root of the Gram matrix, and zeros."""
    eye = torch.eye(2 * members, dim, dtype=torch.float64).view(1, 2, members, dim)
    return gram_power(eye.expand(len(rho), -1, -1, -1), rho, 0.5).flatten(1, 2)


def gram_power(x: Tensor, rho: Tensor, power: float) -> Tensor:
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


def decay_sweep(
    rhos: Iterable[float],
    decays: Iterable[float],
    times: Iterable[float],
    seeds: Iterable[int],
    **how: Any,
) -> pd.DataFrame:
    """Train first layers of eps 1 with weight decay, see ``descend``, and measure them at several times.

    Parameters
    ----------
    rhos, decays, times, seeds : values of each; times ascending.
    how : keyword arguments of ``start``.

    Returns
    -------
    one row for each combination: "rho", "decay", "time", "seed", "ratio", the mean "margin", and "theory",
    the ratio of infinite width at this margin, time and decay.

    Raises
    ------
    ValueError : times that descend, or as ``start``.
    """
    pairs = pd.DataFrame(list(product(rhos, seeds)), columns=["rho", "seed"])
    parts = []
    for decay in decays:
        nets, clock = start(pairs["rho"], 1.0, pairs["seed"], **how), 0.0
        for time in times:
            nets, clock = descend(nets, time - clock, decay=decay), time
            margins = nets.margins().mean((1, 2)).numpy()
            theory = [
                collapsed_ratio(rho, np.exp(-decay * time), nets.dim, margin) if rho > 0 else limit_ratio(rho)
                for rho, margin in zip(pairs["rho"], margins, strict=True)
            ]
            measured = {"ratio": nets.ratio().numpy(), "margin": margins, "theory": theory}
            parts.append(pairs.assign(decay=decay, time=time, **measured))
    return pd.concat(parts, ignore_index=True)


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
