"""What ``make bench`` found out about training, as tables.

speed.loops()          # of benchmarks/results/training.json
speed.same_learning()  # of benchmarks/results/same_learning.json
"""

from __future__ import annotations

import pandas as pd
from scipy.stats import ttest_ind

from nclib.report import benchmark, short_commit, with_interval

LEARNT = {  # keys of same_learning.json: title, how a number is written
    "train_accuracy": ("coarse accuracy, train", "{:.4f}"),
    "test_accuracy": ("coarse accuracy, test", "{:.4f}"),
    "found": ("fine labels found again", "{:.3f}"),
    "nc1": ("NC1 of coarse labels", "{:.3f}"),
    "msdr": ("MSDR of fine classes", "{:.3f}"),
}


def caption() -> str:
    """Where and how ``make bench`` was run."""
    record = benchmark("training")
    made, repeats = record["provenance"], record["rows"][0]["repeats"]
    return (
        f"{made['device']}, {made['threads']} threads, torch {made['torch']}, "
        f"commit {short_commit(made['commit'])}; medians of {repeats} repeats, "
        "with the slowest and the fastest in brackets."
    )


def loops(part: str = "rows") -> pd.DataFrame:
    """Both loops: training, or with ``part="extraction"`` the features of a split."""
    rows = benchmark("training")[part]
    table = pd.DataFrame({"loop": row["loop"], **_speed(row)} for row in rows)
    if part == "rows":
        table["share of the bf16 matmul peak"] = [f"{row['share_of_peak']:.1%}" for row in rows]
        table["peak memory, GiB"] = [f"{row['peak_memory'] / 2**30:.2f}" for row in rows]
    return table.set_index("loop")


def variants(part: str = "variants") -> pd.DataFrame:
    """nclib's loop with one thing changed; ``part="perceptron"``: that of digits, by threads."""
    rows = [{"nclib's loop": row["variant"], **_speed(row)} for row in benchmark("training")[part]]
    return pd.DataFrame(rows).set_index("nclib's loop")


def _speed(row: dict[str, float]) -> dict[str, str]:
    low, middle, high = (row[key] for key in ("lowest", "images_per_second", "highest"))
    return {"images/s": f"{middle:,.0f} ({low:,.0f} to {high:,.0f})", "ratio": f"{row['ratio']:.2f}"}


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
    cells = {name: [with_interval(values, columns[name]) for values in table[name]] for name in known}
    return pd.DataFrame(cells, index=table.index)


def same_learning() -> pd.DataFrame:
    """What both loops learnt: means over seeds with 95 % intervals, and Welch's test of the difference."""
    rows = pd.DataFrame(benchmark("same_learning")["rows"])
    found = []
    for key, (title, form) in LEARNT.items():
        values = {loop: of_loop[key] for loop, of_loop in rows.groupby("loop")}
        cells = {f"{loop} loop": with_interval(v, form) for loop, v in values.items()}
        p = ttest_ind(values["nclib"], values["plain"], equal_var=False).pvalue
        found.append({"measure": title} | cells | {"p of the difference": f"{p:.2f}"})
    return pd.DataFrame(found).set_index("measure")


def learning_caption() -> str:
    """How both loops were compared."""
    record = benchmark("same_learning")
    made, rows = record["provenance"], pd.DataFrame(record["rows"])
    seeds = ", ".join(str(seed) for seed in sorted(rows["seed"].unique()))
    return f"{record['recipe']}, seeds {seeds} of each loop; {made['device']}, torch {made['torch']}."
