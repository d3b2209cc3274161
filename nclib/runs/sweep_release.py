"""A job of a sweep that releases the runs of a job that trained, see ``workflow/rules/release.smk``.

python -m nclib.runs.sweep_release PLAN JOB MARKER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from nclib.config import RunConfig
from nclib.errors import NclibError, StoreError, status_of
from nclib.runs.get import find_run
from nclib.runs.publish import release
from nclib.runs.released import find_released, require_free
from nclib.storage import store
from nclib.storage.files import write_json


def release_job(plan_file: Path, job: str, target: Path) -> None:
    """Release the runs of a job that are not, and write its marker; a process's whole work.

    Raises
    ------
    NclibError : runs that were not released, each with its reason, after the others were.
    """
    runs = json.loads(plan_file.read_text(encoding="utf-8"))["jobs"][job]
    failures = []
    for run in runs:
        try:
            _release(run)
        except NclibError as error:
            failures.append(f"{run['name']}: {' '.join(str(error).split())}")
    if failures:
        raise NclibError("\n".join(failures))
    write_json(target, [run["key"] for run in runs])


def _release(run: dict[str, Any]) -> None:
    """Release a run of a plan, unless it is or another process just does so."""
    config = RunConfig(**run["config"])
    with store.writing(run["key"]):
        if find_released(config):
            return
        require_free(run["folder"])
        found = find_run(config, released=False)
        if found is None:
            raise StoreError("the store has no such run any more; start the sweep again")
        release(found, run["folder"], with_features=run["with_features"])


def main() -> int:
    """What the process does."""
    plan_file, job, target = sys.argv[1:]
    return status_of(lambda: release_job(Path(plan_file), job, Path(target)))


if __name__ == "__main__":
    sys.exit(main())
