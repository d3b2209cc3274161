"""Chapter 9: a synthetic setting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from scipy.stats import spearmanr
from torch import Tensor

from nclib.chapters.conclusions import CLOSE, Case, Statement
from nclib.chapters.figures import INK, MARKERS, described, theme
from nclib.chapters.statistics import NOT_NEGATIVE, UNLIMITED, error_bar, with_interval
from nclib.measures.distances import sibling_pairs
from nclib.measures.moments import Moments
from nclib.measures.variance import explained_variance_of
from nclib.runs.evaluation import mean_explained_variance
from nclib.runs.run import Run
from nclib.theory import noisy_inputs, two_layer
from nclib.theory.two_layer import limit_cosine, limit_ratio

LIMITS = {"cosine": (-1.0, 1.0), "ratio": NOT_NEGATIVE, "exponent": UNLIMITED}
PATH_POINTS = 60  # of the path of a unit
PATH_TIME = 12.0  # of training until it ends


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
    off = np.mean(values) / predicted - 1
    trained = with_interval(values, LIMITS[name], "{:.4f}")
    return {
        f"{name}, formula": f"{predicted:.4f}", f"{name}, trained": trained, f"{name}, off": f"{off:+.1%}"
    }  # fmt: skip


@theme()
def units_figure(rhos: Sequence[float], seed: int = 0, width: int = 64) -> Axes:
    """Weights of single units on their way through the plane of two clusters of one label, a panel a rho.

    Parameters
    ----------
    rhos : inner products of the two clusters.
    seed, width : of the networks, eps 1; drawn are the units with a = +1. Dots are ends of paths.
    """
    snapshots = [two_layer.start(list(rhos), 1.0, seed, width=width)]
    for _ in range(PATH_POINTS):
        snapshots.append(two_layer.descend(snapshots[-1], PATH_TIME / PATH_POINTS, step=0.02))
    first = snapshots[0]
    points = first.centres()[:, :2, :2]  # (B, 2, 2) the clusters, in coordinates of their plane
    paths = np.stack([nets.weights()[:, :2, : width // 2] for nets in snapshots])  # (T, B, 2, m / 2)
    active = (first.u[:, 0, :, : width // 2] > 0).numpy()  # (B, 2, m / 2)
    figure, panels = plt.subplots(
        1, len(rhos), figsize=(4.6 * len(rhos), 4.4), squeeze=False, sharey=True, layout="constrained"
    )
    words = []
    for number, (panel, rho) in enumerate(zip(panels[0], rhos, strict=True)):
        patterns = {"both clusters": active[number].all(0), "one of them": active[number].sum(0) == 1,
                    "none": ~active[number].any(0)}  # fmt: skip
        for color, (name, units) in zip(("C0", "C1", "0.6"), patterns.items(), strict=True):
            x, y = paths[:, number, :, units].transpose(2, 1, 0)  # (T, units) each
            panel.plot(x, y, color=color, lw=0.9, alpha=0.8)
            panel.plot(x[-1], y[-1], "o", color=color, ms=3, label=f"starts by seeing {name}")
            words.append(f"rho {rho:g}, {name}: {units.sum()} units")
        for k, point in enumerate(points[number].numpy()):
            panel.annotate("", point, (0, 0), arrowprops={"arrowstyle": "-|>", "lw": 2, "color": "k"})
            panel.annotate(rf"$\mu_{k + 1}$", 1.15 * point, ha="center", va="center", fontsize="large")
            across = np.array([-point[1], point[0]])
            panel.axline((0, 0), across, color=INK, lw=0.7, ls=":")  # where w . mu_k = 0
        panel.set(title=rf"$\rho = {rho:g}$", aspect="equal", xlabel="first coordinate of the plane")
    panels[0, 0].set_ylabel("second coordinate of the plane")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle("Paths of single units in the plane of the two clusters of their label")
    return described(panels[0, 0], f"Paths of weights in the plane of two clusters. {'; '.join(words)}.")


def joined(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The rows of several tables."""
    return pd.concat(tables, ignore_index=True)


@theme()
def longer_figure(by_margin: pd.DataFrame, by_time: pd.DataFrame) -> Axes:
    """Fine over coarse distance as training goes on: without weight decay, and with it.

    Parameters
    ----------
    by_margin : of ``sweep`` with several margins, one eps.
    by_time : of ``decay_sweep``. Points are means over seeds, bars their 95 % intervals, lines the theory
        of infinite width.
    """
    _, panels = plt.subplots(1, 2, figsize=(10.4, 4.2), sharey=True, layout="constrained")
    words = []
    eps = by_margin["eps"].iloc[0]
    for number, (rho, rows) in enumerate(by_margin.groupby("rho")):
        at = rows.groupby("goal")["ratio"].agg(error_bar, NOT_NEGATIVE)
        law = [
            two_layer.collapsed_ratio(rho, eps, margin=goal) if rho > 0 else limit_ratio(rho)
            for goal in at.index
        ]
        _measured(panels[0], at, law, number, rf"$\rho$ = {rho:g}")
        words.append(f"rho {rho:g}: from {at.iloc[0][0]:.2g} to {at.iloc[-1][0]:.2g}")
    for number, ((rho, decay), rows) in enumerate(by_time.groupby(["rho", "decay"])):
        at = rows.groupby("time")["ratio"].agg(error_bar, NOT_NEGATIVE)
        label = rf"$\rho$ = {rho:g}, $\lambda$ = {decay:g}"
        _measured(panels[1], at, rows.groupby("time")["theory"].mean(), number, label)
        words.append(f"rho {rho:g}, decay {decay:g}: from {at.iloc[0][0]:.2g} to {at.iloc[-1][0]:.2g}")
    panels[0].set(xscale="log", yscale="log", title="no weight decay", xlabel=r"margin $\gamma$ at the end")
    panels[0].set_ylabel("fine over coarse squared distance")
    goals = sorted(by_margin["goal"].unique())
    panels[0].set_xticks(goals, [f"{goal:g}" for goal in goals])
    panels[0].minorticks_off()
    panels[1].set(title="weight decay", xlabel=r"training time $t$")
    panels[0].legend(fontsize="small")
    panels[1].legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    panels[0].figure.suptitle("Fine structure as training goes on (points: simulated, lines: predicted)")
    return described(panels[0], f"Fine over coarse distance as training goes on. {'; '.join(words)}.")


def _measured(panel: Axes, at: pd.Series, law: Sequence[float], number: int, label: str) -> None:
    mean, *bar = np.array(at.tolist()).T
    style = {"color": f"C{number % 6}", "marker": MARKERS[number % len(MARKERS)], "ms": 4, "ls": "none"}
    panel.errorbar(at.index, mean, yerr=bar, label=label, **style)
    panel.plot(at.index, law, color=f"C{number % 6}", lw=1)


def class_similarity(means: Tensor, group: ArrayLike) -> float:
    """The inner product rho of the synthetic setting, estimated from class means.

    Parameters
    ----------
    means : (C, D) means of inputs or of features.
    group : (C,) coarse label of every class.

    Returns
    -------
    (same - other) / (own - other) from the mean inner products of classes with one label, with different
    labels, and with themselves. 1 is identity; not a number without two classes of one label.

    Notes
    -----
    In the setting own is 1, same is rho and other is 0. A component that all classes share adds the same to
    all three and drops out. The mean over pairs that share a label is what counts, so single pairs may
    lie far from it.
    """
    siblings = sibling_pairs(group)
    others = ~siblings.clone().fill_diagonal_(True)
    products = means @ means.T
    own, same, other = (float(products[pairs].mean()) for pairs in (~(siblings | others), siblings, others))
    return (same - other) / (own - other)


def similarity_table(
    run: Run, pixels: ArrayLike | None = None, labels: ArrayLike | None = None
) -> pd.DataFrame:
    """``class_similarity`` and explained variance of a run: pixels, the untrained network, later epochs.

    Parameters
    ----------
    run : its train moments at the first two measured epochs, in the middle and at the end are used.
    pixels, labels : (N, ...) images and fine labels, if at hand.
    """
    epochs = run.measured_epochs
    chosen = sorted({epochs[0], epochs[1], epochs[len(epochs) // 2], epochs[-1]})
    named = {f"features, epoch {epoch}": run.moments("train", epoch) for epoch in chosen}
    if pixels is not None:
        flat = torch.as_tensor(pixels).flatten(1).to(torch.float64)
        named = {"pixels": Moments.of(flat, labels)} | named
    group = run.grouping.fine_to_coarse
    rows = {
        name: {"rho": class_similarity(m.means, group),
               "variance explained": float(explained_variance_of(m, group).nanmean())}
        for name, m in named.items()
    }  # fmt: skip
    return pd.DataFrame(rows).T.round(3)


def groupings_table(runs: Iterable[Run]) -> pd.DataFrame:
    """Before training and at the end, a row for each run: how alike siblings are, what fine classes explain.

    Returns
    -------
    columns "rho at the start", "explained at the start" and "explained at the end", of train features.
    """
    rows = {}
    for run in runs:
        group, (first, last) = run.grouping.fine_to_coarse, (run.measured_epochs[0], run.measured_epochs[-1])
        explained = [mean_explained_variance(run, "train", epoch) for epoch in (first, last)]
        rho = class_similarity(run.moments("train", first).means, group)
        rows[run.config.dataset, run.config.grouping, run.config.augment, run.config.seed] = (rho, *explained)
    columns = ["rho at the start", *EXPLAINED]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.index = pd.MultiIndex.from_tuples(table.index, names=["data", "grouping", "augmentation", "seed"])
    return table


def order_sentence(table: pd.DataFrame) -> str:
    """How structure at the start and at the end goes with siblings' likeness, of ``groupings_table``."""
    rho, start, end = (table[name] for name in ("rho at the start", *EXPLAINED))
    found = [spearmanr(rho, of).statistic for of in (start, end, end - start, end / start)]
    low, high = (
        f"{at[0]}, {at[1]}, $\\hat\\rho$ = {rho[at]:.2f}: {start[at]:.2f} and {end[at]:.2f}"
        for at in (rho.idxmin(), rho.idxmax())
    )
    return (
        f"Over these {len(table)} runs, the rank correlation of $\\hat\\rho$ before training with the"
        f" variance that the fine classes explain is {found[0]:.2f} before training and {found[1]:.2f} at"
        f" the end. With the end minus the start it is {found[2]:.2f}, with the end over the start"
        f" {found[3]:.2f}. The grouping with the most similar siblings starts and ends at ({high}), the one"
        f" with the least similar at ({low})."
    )


EXPLAINED = ["explained at the start", "explained at the end"]
AT_THE_LIMIT = 0.1  # relative error of one network; the bounds are our choice
STEEP = 1.5  # power of the margin; the proposition says 2
RIGHT, FAILS, OFTEN = 0.95, 0.75, 0.1  # of the probe, of 2-means, how often the two meet


def statements(
    limits: pd.DataFrame,
    by_margin: pd.DataFrame,
    by_time: pd.DataFrame,
    noisy: Mapping[str, pd.DataFrame],
    n_noisy: int,
) -> list[Statement]:
    """What this chapter's networks decide: a value for each seed.

    Parameters
    ----------
    limits : of ``sweep`` at a small eps, rho <= 0.
    by_margin, by_time : of ``longer_figure``.
    noisy : of ``noise_sweep``, by name. Of each seed, means over the networks of a name are taken.
    n_noisy : inputs on which readers are tested. All else is measured at the four centres.
    """
    centres = 4
    off = {
        f"rho {rho:g}": (rows["ratio"] / limit_ratio(rho) - 1).abs() for rho, rows in limits.groupby("rho")
    }
    fall = {
        f"rho {rho:g}": [-_slope(of_seed["goal"], of_seed["ratio"]) for _, of_seed in rows.groupby("seed")]
        for rho, rows in by_margin[by_margin["rho"] > 0].groupby("rho")
    }
    behind = {name: (t["probe"] - t["inputs"]).groupby(t["seed"]).mean() for name, t in noisy.items()}
    missed = {name: _missed(t) for name, t in noisy.items() if len(_missed(t))}
    return [
        Statement(
            "Where siblings point apart, structure survives at the size that the proposition says",
            "minus the absolute relative error of the ratio r of one network",
            [Case(name, list(-values), centres) for name, values in off.items()],
            above=-AT_THE_LIMIT,
        ),
        Statement(
            "Where siblings are alike, longer training removes structure like a power of the margin",
            "power with which r falls in the margin; 2 by the proposition",
            [Case(name, values, centres) for name, values in fall.items()],
            above=STEEP,
        ),
        Statement(
            "Weight decay removes structure from alike siblings more than tenfold, and from others far less",
            "log10 of the factor by which the strongest decay changes the final r, largest rho minus least",
            [Case("first layer trained", _decay_effect(by_time), centres)],
            above=1,
        ),
        Statement(
            "The accuracy of a linear probe for the fine label is on the features less than"
            f" {CLOSE:g} below that on the inputs",
            "accuracy of the probe on features minus that on inputs",
            [Case(name, list(values), n_noisy) for name, values in behind.items()],
            above=-CLOSE,
        ),
        Statement(
            "2-means often fails where the probe is right",
            f"share with 2-means below {FAILS:g}, of the networks with a probe above {RIGHT:g}",
            [Case(name, list(values), n_noisy) for name, values in missed.items()],
            above=OFTEN,
        ),
    ]


def _slope(x: pd.Series, y: pd.Series) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _missed(table: pd.DataFrame) -> pd.Series:
    """Of the networks of each seed on which the probe is right, the share on which 2-means fails."""
    clear = table[table["probe"] > RIGHT]
    return (clear["two_means"] < FAILS).groupby(clear["seed"]).mean()


def _decay_effect(by_time: pd.DataFrame) -> list[float]:
    """How much more decay lowers log10 r at the largest rho than it changes it at the smallest, by seed."""
    ends = by_time[by_time["time"] == by_time["time"].max()]
    logs = np.log10(ends.set_index(["rho", "seed", "decay"])["ratio"]).unstack("decay")
    lowered = (logs[logs.columns.min()] - logs[logs.columns.max()]).unstack("rho")
    return list(lowered[lowered.columns.max()] - lowered[lowered.columns.min()].abs())


@theme()
def transition_figure(table: pd.DataFrame) -> Axes:
    """Fine over coarse distance against the inner product of clusters, a colour for each start size.

    Parameters
    ----------
    table : of ``nclib.theory.two_layer.sweep``, first layer trained. Points are means over seeds, bars their
        95 % intervals.
    """
    _, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    below, above = np.linspace(-0.9, 0, 91), np.linspace(0.01, 0.9, 90)
    axes.plot(below, [two_layer.limit_ratio(rho) for rho in below], color=INK, label=r"limit, $\rho \leq 0$")
    for number, (eps, rows) in enumerate(table.groupby("eps", sort=False)):
        law = np.array([two_layer.collapsed_ratio(rho, eps) for rho in above])
        axes.plot(
            above, law, color=f"C{number}", lw=1, ls="--", label="leading order" if number == 0 else None
        )
        at = rows.groupby("rho")["ratio"].agg(error_bar, NOT_NEGATIVE)
        mean, *bar = np.array(at.tolist()).T
        style = {"color": f"C{number}", "marker": MARKERS[number], "ms": 4, "ls": "none"}
        axes.errorbar(at.index, mean, yerr=bar, label=rf"trained, $\epsilon$ = {eps:g}", **style)
    axes.set(yscale="log", ylim=(table["ratio"].min() / 3, 4), ylabel="fine over coarse squared distance")
    axes.set_xlabel(r"inner product $\rho$ of two clusters of one label")
    axes.set_title(r"Fine structure against the similarity of siblings")
    axes.legend(fontsize="small")
    ends = table.groupby(["eps", "rho"], sort=False)["ratio"].mean().unstack()
    low, high = ends.columns.min(), ends.columns.max()
    words = "; ".join(f"eps {eps:g}: {ends[low][eps]:.2g} and {ends[high][eps]:.2g}" for eps in ends.index)
    return described(axes, f"Fine over coarse squared distance at rho {low:g} and {high:g}: {words}.")


@theme()
def phase_diagram_figure(tables: Mapping[str, pd.DataFrame]) -> Axes:
    """Fine over coarse distance over inner product and start size, a panel for each name.

    Parameters
    ----------
    tables : of ``nclib.theory.two_layer.sweep``, a full grid each. Colours are means of logarithms over
        seeds.
    """
    figure, panels = plt.subplots(
        1, len(tables), figsize=(5.4 * len(tables), 4.2), squeeze=False, sharey=True, layout="constrained"
    )
    words = []
    for panel, (name, table) in zip(panels[0], tables.items(), strict=True):
        log = np.log10(table["ratio"]).groupby([table["eps"], table["rho"]]).mean().unstack()
        words.append(f"{name}: {10 ** log.min().min():.1g} to {10 ** log.max().max():.1g}")
        mesh = panel.pcolormesh(*_grid(log), vmin=-8, vmax=0.5, cmap="mako", rasterized=True)
        lines = panel.contour(
            *_grid(log), levels=(-6, -4, -2, -1), colors="w", linewidths=0.7, linestyles="-"
        )
        panel.set(yscale="log", title=name, xlabel=r"inner product $\rho$ of two clusters of one label")
        panel.grid(False)
    panels[0, 0].set_ylabel(r"size $\epsilon$ of the start")
    bar = figure.colorbar(mesh, ax=panels, label=r"$\log_{10}$ of fine over coarse squared distance")
    bar.add_lines(lines)
    figure.suptitle("Fine over coarse distance, by similarity of siblings and size of the start")
    return described(panels[0, 0], f"Colour maps of fine over coarse squared distance. {'; '.join(words)}.")


@theme()
def eps_law_figure(
    tables: Mapping[str, pd.DataFrame], predicted: Mapping[str, Callable[[float], float]]
) -> Axes:
    """Fine over coarse distance against the size of the start, a panel for each name, a colour for each rho.

    Parameters
    ----------
    tables : of ``nclib.theory.two_layer.sweep``. Points are means over seeds, bars their 95 % intervals.
    predicted : under the same names, the power of eps for each rho: the slope of the lines, which go
        through the leftmost points.
    """
    figure, panels = plt.subplots(1, len(tables), figsize=(4.6 * len(tables), 4), squeeze=False, sharey=True,
                                  layout="constrained")  # fmt: skip
    words = []
    for panel, (name, table) in zip(panels[0], tables.items(), strict=True):
        for number, (rho, rows) in enumerate(table.groupby("rho")):
            power, at = predicted[name](rho), rows.groupby("eps")["ratio"].agg(error_bar, NOT_NEGATIVE)
            first, last = at.iloc[0][0], at.iloc[-1][0]
            law = first * (at.index / at.index[0]) ** power
            _measured(panel, at, law, number, rf"$\rho$ = {rho:g}, slope {power:.3g}")
            words.append(f"{name}, rho {rho:g}: from {last:.2g} to {first:.2g}")
        panel.set(xscale="log", yscale="log", title=name, xlabel=r"size $\epsilon$ of the start")
        panel.legend(fontsize="small")
    panels[0, 0].set_ylabel("fine over coarse squared distance")
    figure.suptitle("Powers of the start (lines: predicted slopes)")
    return described(panels[0, 0], f"Ratio as eps falls. {'; '.join(words)}.")


@theme()
def noise_diagram_figure(tables: Mapping[str, pd.DataFrame]) -> Axes:
    """What is read off features, over inner product and noise of the inputs, a row for each name.

    Parameters
    ----------
    tables : of ``nclib.theory.noisy_inputs.noise_sweep``, a full grid each. Colours are means over seeds.
    """
    readers = {"ratio": "fine over coarse (log)", "probe": "linear probe", "two_means": "2-means"}
    rows, columns = len(tables), len(readers)
    figure, panels = plt.subplots(
        rows,
        columns,
        figsize=(10.5, 0.8 + 3 * rows),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    words = []
    for row, (name, table) in zip(panels, tables.items(), strict=True):
        table = table.assign(ratio=np.log10(table["ratio"]))
        for panel, (measure, title) in zip(row, readers.items(), strict=True):
            grid = table.groupby(["sigma", "rho"])[measure].mean().unstack()
            low, high, colors = (-6, 0.5, "mako") if measure == "ratio" else (0.5, 1, "viridis")
            mesh = panel.pcolormesh(*_grid(grid), vmin=low, vmax=high, cmap=colors, rasterized=True)
            figure.colorbar(mesh, ax=panel, label="" if measure == "ratio" else "accuracy, fine label")
            panel.set(yscale="log", ylim=(grid.index[0], grid.index[-1]))
            panel.set_title(f"{title}\n{name}", fontsize="medium")
            panel.grid(False)
            words.append(f"{title}, {name}: mean {grid.mean().mean():.2f}")
        _noise_boundaries(row, table)
        row[0].set_ylabel(r"noise $\sigma$ of the inputs")
    for panel in panels[-1]:
        panel.set_xlabel(r"inner product $\rho$")
    figure.suptitle("What a linear probe and 2-means read off the features of noisy inputs")
    return described(panels[0, 0], f"Colour maps over rho and sigma. {'; '.join(words)}.")


def _noise_boundaries(row: Sequence[Axes], table: pd.DataFrame) -> None:
    """Where the best reader of the inputs is right for 90 %, and where 2-means is predicted to let go."""
    grid = table.groupby(["sigma", "rho"])["ratio"].mean().unstack()
    x, y, log_ratio = _grid(grid)
    best = noisy_inputs.bayes_accuracy(x, y[:, None])
    row[1].contour(x, y, best, levels=(0.9,), colors="w", linestyles="--")
    above = x > 0
    excess = np.log(y[:, None] / noisy_inputs.two_means_limit(x, 10**log_ratio))
    row[2].contour(x[above], y, excess[:, above], levels=(0,), colors="w", linestyles=":")


def _grid(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return table.columns.to_numpy(), table.index.to_numpy(), table.to_numpy()
