"""What ``make bench`` found out about training, as tables.

speed.loops()          # of benchmarks/results/training.json
speed.caption()        # where and how that was
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from nclib.chapters.benchmarks import benchmark
from nclib.chapters.figures import INK, described, theme
from nclib.chapters.statistics import NOT_NEGATIVE, SHARE, interval, with_interval
from nclib.chapters.tables import short_commit
from nclib.runs.evaluation import count_images
from nclib.runs.released import released_runs

LEARNT = {  # keys of same_learning.json: title, what is possible, how a number is written
    "train_accuracy": ("coarse accuracy, train", SHARE, "{:.4f}"),
    "test_accuracy": ("coarse accuracy, test", SHARE, "{:.4f}"),
    "found": ("reconstruction accuracy", SHARE, "{:.3f}"),
    "nc1": ("NC1 of super-classes", NOT_NEGATIVE, "{:.3f}"),
    "msdr": ("MSDR of fine classes", NOT_NEGATIVE, "{:.3f}"),
}


def caption(name: str = "training") -> str:
    """Where and how the loops were measured; ``name`` is that of a file under benchmarks/results."""
    record = benchmark(name)
    made, repeats = record["provenance"], record["rows"][0]["repeats"]
    return (
        f"{made['device']}, {made['threads']} threads, torch {made['torch']}, "
        f"commit {short_commit(made['commit'])}; medians of {repeats} repeats, "
        "with the slowest and the fastest in brackets or as lines."
    )


def loops(part: str = "rows", name: str = "training") -> pd.DataFrame:
    """Both loops: training, or with ``part="extraction"`` features; ``name`` as in ``caption``."""
    rows = benchmark(name)[part]
    table = pd.DataFrame({"loop": row["loop"], **_speed(row)} for row in rows)
    if part == "rows":
        table["share of the bf16 matmul peak"] = [f"{row['share_of_peak']:.1%}" for row in rows]
    if "peak_memory" in rows[0]:
        table["peak memory, GiB"] = [f"{row['peak_memory'] / 2**30:.2f}" for row in rows]
    return table.set_index("loop")


def equal_precision() -> str:
    """How much faster nclib's loop is in float32, the precision of the copied loop."""
    record = benchmark("training")
    slowed = next(row["ratio"] for row in record["variants"] if row["variant"] == "in float32")
    ratio = slowed * record["rows"][1]["ratio"]
    return f"In float32, as the copied loop, nclib trains about {ratio:.1f} times as fast (from two series)."


def of_released(*names: str) -> pd.DataFrame:
    """Training images per second of released runs, all of their time counted."""
    rows = []
    for run in released_runs(*names):
        c, made = run.config, run.provenance
        seen = c.epochs * count_images(run, "train")
        row = {"run": run.folder.name, "batch size": c.batch_size, "epochs": c.epochs}
        row |= {"images/s": f"{seen / made['seconds']:,.0f}", "device": made["device"]}
        rows.append(row)
    return pd.DataFrame(rows).set_index("run")


def variants(part: str = "variants") -> pd.DataFrame:
    """nclib's loop with one thing changed; ``part="perceptron"``: that of digits."""
    rows = [{"nclib's loop": row["variant"], **_speed(row)} for row in benchmark("training")[part]]
    return pd.DataFrame(rows).set_index("nclib's loop")


def _speed(row: dict[str, float]) -> dict[str, str]:
    low, middle, high = (row[key] for key in ("lowest", "images_per_second", "highest"))
    return {"images/s": f"{middle:,.0f} ({low:,.0f} to {high:,.0f})", "ratio": f"{row['ratio']:.2f}"}


def by_width(name: str) -> pd.DataFrame:
    """Speed of nclib's loop at several widths of a ResNet-18, and what products over patches gain it.

    ``name`` is that of a file under benchmarks/results, one a processor.
    """
    rows = []
    for row in benchmark(name)["loop"]:
        cells = {"width": row["width"], "images/s": _speed(row | {"ratio": 1.0})["images/s"]}
        cells["share of the bf16 matmul peak"] = f"{row['share_of_peak']:.0%}"
        if gain := sorted(row.get("ratios_to_usual_convolutions", [])):  # where products are used
            cells["gain by products over patches"] = (
                f"{statistics.median(gain):.2f} ({gain[0]:.2f} to {gain[-1]:.2f})"
            )
        rows.append(cells)
    return pd.DataFrame(rows).set_index("width")


def layers(name: str) -> pd.DataFrame:
    """Milliseconds, forward and backward, of the layers of a full-width ResNet-18 by stage."""
    rows = pd.DataFrame(benchmark(name)["layers"])
    rows["stage"] = [
        f"{c} channels at {s} x {s}" for c, s in zip(rows["channels"], rows["side"], strict=True)
    ]
    table = rows.pivot(index="stage", columns="layer", values="milliseconds")
    return table.loc[rows["stage"].unique()].map("{:.1f}".format)


def wide_caption(name: str) -> str:
    """Where and how the wide network was measured."""
    record = benchmark(name)
    made = record["provenance"]
    return fill(
        f"{made['device']}, {made['threads']} threads, torch {made['torch']}, commit "
        f"{short_commit(made['commit'])}; batches of {record['batch_size']}, "
        f"medians of {record['repeats']} repeats; bf16 matmul peak "
        f"{record['loop'][0]['peak_flops'] / 1e9:,.0f} GFLOP/s.",
        72,
    )


def profile() -> pd.DataFrame:
    """Share of the wall clock by kind of operation, in both loops; the largest first."""
    rows = pd.DataFrame(benchmark("training")["profile"])
    table = rows.pivot(index="kind", columns="loop", values="share").fillna(0)
    return table.sort_values("copied loop", ascending=False).map("{:.1%}".format)


def terminal_phase() -> pd.DataFrame:
    """Seconds, epochs and joules until 99.9 % of the coarse labels of train are right, over seeds."""
    rows = pd.DataFrame(benchmark("training")["terminal"]["rows"])
    columns = {"seconds": "{:.1f}", "epochs": "{:.1f}", "joules": "{:.0f}"}
    known = [name for name in columns if rows[name].notna().all()]
    table = rows.groupby("loop", sort=False)[known].agg(list)
    cells = {
        name: [with_interval(values, NOT_NEGATIVE, columns[name]) for values in table[name]] for name in known
    }
    return pd.DataFrame(cells, index=table.index)


def same_learning(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """What two loops learnt: means over seeds, and of the difference by seed, with 95 % intervals.

    ``rows`` are those of benchmarks/results/same_learning.json or same_convolutions.json.
    """
    rows = pd.DataFrame(rows)
    found = []
    for key, (title, limits, form) in LEARNT.items():
        values = rows.pivot(index="seed", columns="loop", values=key)[rows["loop"].unique()]
        cells = {loop: with_interval(v, limits, form) for loop, v in values.items()}
        first, second = values
        signed = form.replace(":", ":+")
        mean, half = interval(values[first] - values[second])
        ends = ", ".join(signed.format(end) for end in (mean - half, mean + half))
        cells["difference"] = f"{signed.format(mean)} [{ends}]"
        found.append({"measure": title} | cells)
    return pd.DataFrame(found).set_index("measure")


def learning_caption(name: str = "same_learning") -> str:
    """How the loops of ``same_learning`` were compared."""
    record = benchmark(name)
    made, rows = record["provenance"], pd.DataFrame(record["rows"])
    seeds = ", ".join(str(seed) for seed in sorted(rows["seed"].unique()))
    words = f"{record['recipe']}, seeds {seeds} each way; {made['device']}, torch {made['torch']}."
    return fill(words, 72)


@theme()
def loops_figure(record: Mapping[str, Any]) -> Axes:
    """Training images per second of both loops, and in another series of nclib's with one thing changed.

    Bars are medians over epochs, lines reach from the slowest to the fastest.

    Parameters
    ----------
    record : what ``benchmarks/training.py`` wrote.
    """
    loops, variants = record["rows"], record["variants"]
    _, (both, changed) = plt.subplots(
        2, sharex=True, figsize=(8, 1.4 + 0.4 * (len(loops) + len(variants))), layout="constrained",
        height_ratios=[len(loops), len(variants)],
    )  # fmt: skip
    spoken = [
        _draw_speeds(both, loops, "loop", ["C1", "C0"]),
        _draw_speeds(changed, variants, "variant", ["C0"] + ["0.7"] * (len(variants) - 1)),
    ]
    both.set_title(f"nclib trains {loops[1]['ratio']:.1f} times as fast as the copied loop")
    changed.set_title("nclib's loop with one thing changed, timed in another series")
    changed.set_xlabel("training images per second")
    return described(both, f"Images per second. {spoken[0]}. With one thing changed: {spoken[1]}.")


def _draw_speeds(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str, colors: list[str]) -> str:
    """Bars of a benchmark's rows, which have their names under ``name``. The same in words."""
    names = [row[name] for row in rows]
    middle = np.array([row["images_per_second"] for row in rows])
    ends = np.array([(row["lowest"], row["highest"]) for row in rows]).T
    axes.barh(names, middle, xerr=abs(ends - middle), color=colors, ecolor=INK)
    axes.invert_yaxis()
    return "; ".join(f"{name}: {value:,.0f}" for name, value in zip(names, middle, strict=True))


@theme()
def same_learning_figure(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> Axes:
    """What each seed has learnt with either loop, a panel for each measure.

    Parameters
    ----------
    rows : of benchmarks/results/same_learning.json.
    titles : title of each measure's panel.
    """
    table = pd.DataFrame(rows)
    figure, panels = plt.subplots(1, len(titles), figsize=(11, 3), layout="constrained")
    for panel, (measure, title) in zip(panels, titles.items(), strict=True):
        sns.stripplot(
            table, x="loop", y=measure, hue="loop", order=["nclib", "plain"], hue_order=["nclib", "plain"],
            jitter=0.15, ax=panel, legend=False,
        )  # fmt: skip
        panel.set(xlabel="", ylabel="")
        panel.set_title(title, fontsize="small")
    figure.suptitle("What the fast loop and the plain one learn, by seed")
    means = table.groupby("loop")[list(titles)].mean()
    spoken = "; ".join(
        f"{titles[m]}: {means.loc['nclib', m]:.3g}, {means.loc['plain', m]:.3g}" for m in titles
    )
    return described(panels[0], f"Points are seeds. Means of nclib's and of the plain loop: {spoken}.")
