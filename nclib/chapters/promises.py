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
    made = record["provenance"]
    injected, lost = (sum(row[part] for row in record["rows"]) for part in ("injected", "failures"))
    minutes = sum(row["seconds"] for row in record["rows"]) / 60
    return (
        f"{injected:,} faults and inputs, {lost} not survived, {minutes:.0f} minutes, seed {record['seed']}; "
        f"{made['device']}, torch {made['torch']}, commit {short_commit(made['commit'])}."
    )
