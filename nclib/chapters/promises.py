"""What ``make faults`` tried and what was not survived, for the page on promises."""

from __future__ import annotations

import pandas as pd

from nclib.chapters.benchmarks import benchmark
from nclib.chapters.tables import short_commit


def table() -> pd.DataFrame:
    """One row for each kind of fault."""
    titles = {"kind": "fault", "injected": "injected", "failures": "not survived", "seconds": "s"}
    return pd.DataFrame(benchmark("faults")["rows"])[[*titles]].rename(columns=titles).set_index("fault")


def summary() -> str:
    """How many faults in all, how many were not survived, and where, when and with which seed."""
    record = benchmark("faults")
    made = [row["provenance"] for row in record["rows"]]
    device, torch = (", ".join(sorted({each[name] for each in made})) for name in ("device", "torch"))
    commits = ", ".join(dict.fromkeys(short_commit(each["commit"]) for each in made))
    seeds = ", ".join(sorted({str(row["seed"]) for row in record["rows"]}))
    injected, lost = (sum(row[part] for row in record["rows"]) for part in ("injected", "failures"))
    minutes = sum(row["seconds"] for row in record["rows"]) / 60
    return (
        f"{injected:,} faults and inputs, {lost} not survived, {minutes:.0f} minutes, seed {seeds}; "
        f"{device}, torch {torch}, commit {commits}."
    )
