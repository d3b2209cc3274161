"""Chapter 9: a synthetic setting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nclib.chapters.figures import MARKERS, described, theme
from nclib.chapters.statistics import interval, with_interval
from nclib.theory import noisy_inputs, two_layer
from nclib.theory.two_layer import limit_cosine, limit_ratio


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
    axes.plot(
        below, [two_layer.limit_ratio(rho) for rho in below], color="0.2", label=r"limit, $\rho \leq 0$"
    )
    for number, (eps, rows) in enumerate(table.groupby("eps", sort=False)):
        law = np.array([two_layer.collapsed_ratio(rho, eps) for rho in above])
        axes.plot(
            above, law, color=f"C{number}", lw=1, ls="--", label="leading order" if number == 0 else None
        )
        at = rows.groupby("rho")["ratio"].agg(interval)
        mean, half = np.array(at.tolist()).T
        style = {"color": f"C{number}", "marker": MARKERS[number], "ms": 4, "ls": "none"}
        axes.errorbar(at.index, mean, yerr=half, label=rf"trained, $\epsilon$ = {eps:g}", **style)
    axes.set(yscale="log", ylim=(table["ratio"].min() / 3, 4), ylabel="fine over coarse squared distance")
    axes.set_xlabel(r"inner product $\rho$ of two clusters of one label")
    axes.set_title(r"Structure survives at full size up to $\rho = 0$, and is of order $\epsilon^2$ beyond")
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
    figure.suptitle("Where fine structure survives training")
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
            power, at = predicted[name](rho), rows.groupby("eps")["ratio"].agg(interval)
            mean, half = np.array(at.tolist()).T
            style = {"color": f"C{number}", "marker": MARKERS[number], "ms": 4, "ls": "none"}
            label = rf"$\rho$ = {rho:g}, slope {power:.3g}"
            panel.errorbar(at.index, mean, yerr=half, label=label, **style)
            panel.plot(at.index, mean[0] * (at.index / at.index[0]) ** power, color=f"C{number}", lw=1)
            words.append(f"{name}, rho {rho:g}: from {mean[-1]:.2g} to {mean[0]:.2g}")
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
    figure.suptitle("A probe reads nearly all that the inputs hold; clustering needs structure of some size")
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
