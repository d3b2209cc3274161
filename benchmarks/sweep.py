"""What a sweep costs besides training, here: seconds of calls and of jobs, and of the processor in them.

    python -m benchmarks.sweep [--repeats 5] [--output benchmarks/results/sweep.json]

Two runs of digits, a job each, in a store of their own. Seconds of the processor are those of all processes
that a call started; they say what a call takes on a machine that does nothing else. Needs Snakemake. About
two minutes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nclib.runs.provenance import provenance
from nclib.storage.files import write_json
from nclib.training.loop import default_device

ROOT = Path(__file__).parents[1]
TABLE = "runs: [{recipe: digits, seeds: 2}]"
Times = tuple[float, float]  # seconds on the clock and of the processor


class Sweep:
    """A sweep of ``TABLE`` that was called once, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.output, self.table = folder, folder / "out", folder / "table.yaml"
        self.table.write_text(TABLE)
        self.environment = os.environ | {"NCLIB_HOME": str(folder / "store"), "TQDM_DISABLE": "1"}
        self.call()
        self.plan = json.loads((self.output / "plan.json").read_text())
        self.job, (self.run,) = next(iter(self.plan["jobs"].items()))

    def call(self, *options: str) -> Times:
        """``nclib sweep``."""
        return self.timed("nclib", "sweep", self.table, "--output", self.output, *options)

    def timed(self, module: str, *arguments: object) -> Times:
        """A process that runs a module of Python."""
        command = [sys.executable, "-m", module, *map(str, arguments)]
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, cwd=ROOT, env=self.environment, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return time.perf_counter() - start, used

    def asked_of_snakemake(self) -> Times:
        """The call with nothing to do, if it had not been noted that the sweep ended."""
        (self.output / "ended.json").unlink()
        return self.call()

    def dry(self) -> Times:
        """A dry run of a sweep of which nothing is trained."""
        aside = self.folder / "aside"
        (self.folder / "store").rename(aside)
        try:
            return self.call("--dry-run")
        finally:
            shutil.rmtree(self.folder / "store", ignore_errors=True)
            aside.rename(self.folder / "store")

    def training_job(self) -> Times:
        """A job that trains one run, less the run's own time; of the processor: a job whose run is there."""
        folder = self.folder / "store" / "runs" / self.run["key"]
        shutil.rmtree(folder)
        job = "nclib.runs.sweep_job", self.output / "plan.json", self.job, self.folder / "marker.json"
        wall, _ = self.timed(*job)
        trained = json.loads((folder / "run.json").read_text())["provenance"]["seconds"]
        return wall - trained, self.timed(*job)[1]

    def measures_job(self) -> Times:
        """A job that measures one run, for which the store remembers nothing."""
        shutil.rmtree(self.folder / "store" / "results", ignore_errors=True)
        plan, target = self.output / "plan.json", self.folder / "measures.json"
        return self.timed("nclib.chapters.sweeps", "measures", plan, self.job, target)

    def report_job(self) -> Times:
        """The job that writes the report."""
        files = sorted((self.output / "measures").glob("*.json"))
        target = self.folder / "report.html"
        return self.timed("nclib.chapters.sweeps", "report", self.output / "plan.json", target, *files)


PARTS: dict[str, Callable[[Sweep], Times]] = {
    "a call with nothing to do": Sweep.call,
    "the same, if Snakemake has to find that out": Sweep.asked_of_snakemake,
    "a dry run": Sweep.dry,
    "a training job, beyond training": Sweep.training_job,
    "a job of measures, measuring included": Sweep.measures_job,
    "the report": Sweep.report_job,
}


def measured(repeats: int) -> list[dict[str, Any]]:
    """A row for each of ``PARTS``, which take turns."""
    times: dict[str, list[Times]] = {name: [] for name in PARTS}
    with tempfile.TemporaryDirectory() as folder:
        sweep = Sweep(Path(folder))
        for _ in range(repeats):
            for name, part in PARTS.items():
                times[name].append(part(sweep))
    rows = []
    for name, taken in times.items():
        wall, used = zip(*taken, strict=True)
        row = {"what": name, "seconds": statistics.median(wall), "lowest": min(wall), "highest": max(wall)}
        rows.append(row | {"processor_seconds": statistics.median(used), "repeats": repeats})
    return rows


def main() -> None:
    """Measure, print and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/sweep.json")
    options = parser.parse_args()
    made = provenance(default_device()) | {"snakemake": importlib.metadata.version("snakemake")}
    record = {"rows": measured(options.repeats), "load": os.getloadavg()[1], "provenance": made}
    print(json.dumps(record, indent=1))
    write_json(options.output, record)


if __name__ == "__main__":
    main()
