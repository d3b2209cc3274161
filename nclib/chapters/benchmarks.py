"""What ``make bench`` measured, as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from nclib.chapters.tables import short_commit
from nclib.paths import BENCHMARKS

DISTANCES_COLUMNS = {  # of benchmarks/results/distances.json
    "samples": ("N", "{:,}"),
    "dimension": ("D", "{:,}"),
    "classes": ("C", "{:,}"),
    "method": ("method", "{}"),
    "seconds": ("s", "{:.3f}"),
    "peak_over_features": ("peak memory / features", "{:.2f}"),
    "relative_error": ("relative error", "{:.0e}"),
    "relative_error_close_pairs": ("the same, close pairs", "{:.0e}"),
}
MEASURES_COLUMNS = {  # of benchmarks/results/measures.json: title, how a cell is written
    "samples": ("N", "{:,}"),
    "dimension": ("D", "{:,}"),
    "classes": ("C", "{:,}"),
    "method": ("method", "{}"),
    "nc1_seconds": ("NC1, s", "{:.3f}"),
    "all_seconds": ("all measures, s", "{:.3f}"),
    "peak_over_features": ("peak memory / features", "{:.2f}"),
    "nc1_relative_error": ("relative error of NC1", "{:.0e}"),
    "nc1_relative_error_close_pairs": ("the same, close pairs", "{:.0e}"),
}
SEEDS_COLUMNS = {  # of benchmarks/results/many_seeds.json
    "case": ("network and loss", "{}"),
    "seeds": ("seeds", "{}"),
    "apart_seconds": ("one after another, s", "{:.3f}"),
    "together_seconds": ("as one program, s", "{:.3f}"),
}
NETWORKS_COLUMNS = {  # of benchmarks/results/phase_diagram.json
    "how": ("how", "{}"),
    "networks": ("networks", "{:,}"),
    "seconds": ("s", "{:.0f}"),
    "seconds_lowest": ("fastest", "{:.0f}"),
    "seconds_highest": ("slowest", "{:.0f}"),
}
SWEEP_COLUMNS = {  # of benchmarks/results/sweep.json
    "what": ("what", "{}"),
    "seconds": ("s", "{:.1f}"),
    "lowest": ("fastest", "{:.1f}"),
    "highest": ("slowest", "{:.1f}"),
    "processor_seconds": ("of the processor, s", "{:.1f}"),
}


def benchmark_table(name: str, columns: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Rows that a benchmark wrote under benchmarks/results, a dash where nothing was measured."""
    rows = benchmark(name)["rows"]
    cells = [
        {title: "-" if row[key] is None else form.format(row[key]) for key, (title, form) in columns.items()}
        for row in rows
    ]
    return pd.DataFrame(cells).set_index(next(title for title, _ in columns.values()))


def benchmark(name: str) -> dict[str, Any]:
    """What a benchmark wrote under benchmarks/results."""
    return json.loads((BENCHMARKS / f"{name}.json").read_text(encoding="utf-8"))


def benchmark_provenance(name: str) -> str:
    """Where and how a benchmark was taken, for a caption."""
    repeats = sorted({row["repeats"] for row in benchmark(name)["rows"]})
    return f"Medians of {' or '.join(map(str, repeats))} repeats; {machine(name)}"


def machine(name: str) -> str:
    """Where a benchmark was run, for a caption."""
    made = benchmark(name)["provenance"]
    return (
        f"{made['device']}, threads: {made['threads']}, torch {made['torch']}, "
        f"commit {short_commit(made['commit'])}."
    )
