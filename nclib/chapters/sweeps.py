"""Measures and report of a sweep, as jobs of ``workflow/Snakefile`` compute them.

python -m nclib.chapters.sweeps measures PLAN JOB OUTPUT
python -m nclib.chapters.sweeps report PLAN OUTPUT MEASURES ...
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes

from nclib.chapters.figures import alt_text, svg
from nclib.chapters.statistics import with_interval
from nclib.chapters.tables import duration, short_commit
from nclib.chapters.when_structure_appears import ENDS_PANELS, LIMITS, conditions_figure, ends, grid_figure
from nclib.config import RunConfig
from nclib.errors import StoreError, status_of
from nclib.runs.get import find_run
from nclib.storage.files import write_bytes, write_json

GRID = {"lr", "weight_decay"}  # fields whose combinations are shown as heatmaps


def measures(plan: dict[str, Any], job: str) -> list[dict[str, Any]]:
    """What is left of fine structure in the runs of a job, and what they cost.

    Returns
    -------
    a row for each run: "key", the columns of ``when_structure_appears.ends``, "seconds", "device", "commit".

    Raises
    ------
    StoreError : a run that is gone, or damaged.
    """
    rows = []
    for of_job in plan["jobs"][job]:
        run = find_run(RunConfig(**of_job["config"]), released=plan["release"])
        if run is None:
            raise StoreError(f"{of_job['name']}: the store has no such run any more; start the sweep again")
        made = run.provenance
        row = ends({"": [run]}).drop(columns="case").to_dict("records")[0]
        row |= {name: made[name] for name in ("seconds", "device", "commit")}
        rows.append({"key": of_job["key"], **row})
    return rows


def sweep_table(plan: dict[str, Any], rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Measures of a sweep's runs in its order, with "case", the setting, and "recipe" that it begins with."""
    of_key = {row["key"]: row for row in rows}
    runs = [run for job in plan["jobs"].values() for run in job]
    settings = [run["name"].rpartition(", seed")[0] for run in runs]
    table = pd.DataFrame([of_key[run["key"]] for run in runs])
    return table.assign(case=settings, recipe=[setting.partition(" ")[0] for setting in settings])


def varied(plan: dict[str, Any]) -> set[str]:
    """Fields besides the seed of which runs of one recipe have several values."""
    values = defaultdict(set)
    for run in (run for job in plan["jobs"].values() for run in job):
        for field, value in run["config"].items():
            values[run["name"].partition(" ")[0], field].add(json.dumps(value))
    return {field for (_, field), of_field in values.items() if len(of_field) > 1} - {"seed"}


def sweep_figure(plan: dict[str, Any], table: pd.DataFrame) -> Axes:
    """Heatmaps where learning rate and weight decay are what varies, else points by setting."""
    if varied(plan) == GRID:
        rates, decays = (sorted(table[name].unique(), reverse=True) for name in ("lr", "weight_decay"))
        return grid_figure(dict(list(table.groupby("recipe", sort=False))), rates, decays)
    return conditions_figure(table, "What is left of fine structure, by setting")


def settings_table(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each setting: mean over seeds with 95 % interval of each measure, and the cost of a run."""
    groups = table.groupby("case", sort=False)
    columns = {"seeds": groups["seed"].count()}
    columns |= {title: groups[name].agg(with_interval, LIMITS[name]) for name, title in ENDS_PANELS.items()}
    columns["time a run"] = groups["seconds"].mean().map(duration)
    return pd.DataFrame(columns).rename_axis("setting")


def extremes(table: pd.DataFrame) -> list[str]:
    """A sentence on the settings in which the most and the least structure is left, for two measures."""
    sentences = []
    for name in ("explained_variance", "found"):
        of_case = table.groupby("case", sort=False)[name]
        means = of_case.mean()
        most, least = (
            f"{case} ({with_interval(of_case.get_group(case), LIMITS[name])})"
            for case in (means.idxmax(), means.idxmin())
        )
        title = ENDS_PANELS[name].capitalize()
        sentences.append(f"{title}, mean over seeds: most in {most}, least in {least}.")
    return sentences


def report(plan: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """The report of a sweep, one HTML page that needs no other file."""
    table = sweep_table(plan, rows)
    axes = sweep_figure(plan, table)
    drawing = svg(axes.figure, alt_text(axes))
    plt.close(axes.figure)
    commits = ", ".join(map(short_commit, dict.fromkeys(table["commit"])))
    made = f"{len(table)} runs, {duration(table['seconds'].sum())} of training in all, on "
    made += f"{', '.join(dict.fromkeys(table['device']))}; commit {commits}."
    environment = Environment(
        loader=PackageLoader("nclib", "chapters"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("sweeps.html").render(
        title=f"Sweep {Path(plan['table']).stem}",
        extremes=extremes(table),
        drawing=Markup(drawing),
        settings=settings_table(table),
        made=made,
    )


def main() -> int:
    """What a job runs."""
    stage, plan_file, *rest = sys.argv[1:]
    plan = json.loads(Path(plan_file).read_text(encoding="utf-8"))

    def work() -> None:
        if stage == "measures":
            job, target = rest
            write_json(Path(target), measures(plan, job))
        else:
            target, *files = rest
            rows = [row for file in files for row in json.loads(Path(file).read_text(encoding="utf-8"))]
            write_bytes(Path(target), report(plan, rows).encode())

    return status_of(work)


if __name__ == "__main__":
    sys.exit(main())
