"""A job of a sweep that trains, as ``workflow/rules/train.smk`` starts it, by itself or under torchrun.

    python -m nclib.runs.sweep_job PLAN JOB MARKER

Imports what training needs and no more: a process that trains for seconds should not load for as long.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from nclib.config import RunConfig
from nclib.errors import NclibError, StoreError, status_of
from nclib.runs.get import train_run, train_share
from nclib.runs.released import released_runs
from nclib.storage import store
from nclib.storage.files import write_json
from nclib.training import distributed


def train_job(plan_file: Path, job: str, target: Path) -> None:
    """Train the runs of a job, those that are not there yet, and write its marker; a process's whole work.

    Raises
    ------
    NclibError : runs that failed, each with its reason, after the others were trained.
    """
    plan = json.loads(plan_file.read_text(encoding="utf-8"))
    runs = plan["jobs"][job]
    names = {RunConfig(**run["config"]): run["name"] for run in runs}
    if [store.run_key(config) for config in names] != [run["key"] for run in runs]:
        raise StoreError("the sources that train were changed since the sweep began; start it again")
    for run in released_runs() if plan["release"] else ():
        names.pop(run.config, None)
    if distributed.processes() > 1:  # all of them must ask for the same runs in the same order
        for config in names:
            train_run(config)
    else:
        _train_settings(names)
    if distributed.leads():
        write_json(target, [run["key"] for run in runs])


def _train_settings(names: dict[RunConfig, str]) -> None:
    """Train what the store lacks, the seeds of a setting together; at the end say which settings failed."""
    failures = []
    for setting in dict.fromkeys(replace(config, seed=0) for config in names):
        missing = [
            config
            for config in names
            if replace(config, seed=0) == setting and not store.contains(store.run_key(config))
        ]
        try:
            if missing:
                train_share(missing)
        except NclibError as error:
            failures.append(f"{names[missing[0]]}: {' '.join(str(error).split())}")
    if failures:
        raise NclibError("\n".join(failures))


def main() -> int:
    """What the process does."""
    plan_file, job, target = sys.argv[1:]

    def work() -> None:
        with distributed.process_group():
            train_job(Path(plan_file), job, Path(target))

    return status_of(work)


if __name__ == "__main__":
    sys.exit(main())
