"""Sweeps: a table of runs in YAML, planned here and executed by Snakemake, see ``workflow/Snakefile``.

    sweep = read_sweep(Path("workflow/grid-digits.yaml"))
    plan(sweep, Path("sweeps/grid-digits"))     # what Snakemake reads: jobs, runs and their keys

Runs lie in the store, or were released. What Snakemake looks at are markers in the output folder, small files
that list the keys of a job's runs; a marker is named after these keys, so that it can never stand for other
runs.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from nclib.config import RunConfig
from nclib.errors import NclibError, StoreError
from nclib.paths import REPOSITORY, WORKFLOW
from nclib.runs import cost
from nclib.runs.get import processes_at_once
from nclib.runs.priority import go_last, processors
from nclib.runs.released import released_runs, require_free
from nclib.runs.sources import fingerprint
from nclib.runs.sweep_end import REPORT, write_end
from nclib.runs.sweep_table import INSTALL, Setting, Sweep, run_name
from nclib.storage import store
from nclib.storage.files import storage_errors, write_json
from nclib.training.loop import default_device

PATIENCE = 30  # seconds in which Snakemake must have cancelled its jobs
ERROR = re.compile(  # as Snakemake reports a job that failed
    r"Error in rule (\w+):\n +message: (.*)\n +jobid: .*\n(?: +input: .*\n)? +output: (\S+)\n +log: (.*)"
)
SLURM = re.compile(r"^slurmstepd\S*: error: (.*)$", flags=re.MULTILINE)  # why Slurm ended a job, in its log
LOOK_EVERY = 1  # seconds between two looks at the progress


def listing(sweep: Sweep) -> list[str]:
    """A line for each setting and each job of several runs: what is there, and what the rest costs here."""
    released = _released(sweep)
    untrained = {config for _, config in _untrained(sweep, released)}
    costs: dict[str, float] = {}  # seconds of the runs that remain, by name
    lines = []
    for setting in sweep.settings:
        missing = [config for config in setting.configs if config in untrained]
        said = [_counted(setting, "trained", missing)]
        if sweep.release:
            said.append(_counted(setting, "released", [c for c in setting.configs if c not in released]))
        if missing:
            begun, of_setting = _remaining(setting, missing)
            said, costs = said + begun, costs | of_setting
        seeds = ", ".join(str(config.seed) for config in setting.configs)
        lines.append(f"{setting.name}, seed{'s' * (len(setting.configs) > 1)} {seeds}: {', '.join(said)}")
    jobs = {job: [run["name"] for run in runs if run["name"] in costs] for job, runs in sweep.jobs.items()}
    jobs = {job: names for job, names in jobs.items() if names}
    for job, names in jobs.items() if sweep.runs_a_job > 1 else ():
        lines.append(f"job {job}: {len(names)} to train, about {_time(sum(costs[name] for name in names))}")
    total = len(sweep.runs)
    to_release = sum(config not in released for _, config in sweep.runs) if sweep.release else 0
    if not costs and not to_release:
        return [*lines, f"all {total} runs are trained" + " and released" * sweep.release]
    at_once, left = processes_at_once(list(untrained), default_device()), sum(costs.values())
    made = f"jobs: {len(jobs)} to train {len(costs)} of {total} runs, {len(sweep.jobs)} to measure, "
    made += f"{to_release} runs to release, " * sweep.release
    made += f"1 to report; on this device about {_time(left)} of training, "
    return [*lines, f"{made}{_time(left / at_once)} with {at_once} at once"]


def _remaining(setting: Setting, missing: list[RunConfig]) -> tuple[list[str], dict[str, float]]:
    """What is said of runs of a setting that must be trained, and the seconds of each, by name."""
    each = cost.seconds(missing[0])
    reached = {config: epoch for config in missing if (epoch := cost.epoch_reached(config))}
    said = [f"seed {c.seed} at epoch {epoch} of {c.epochs}" for c, epoch in reached.items()]
    said.append(f"about {_time(each)} for {'each missing one' if len(missing) > 1 else 'it'}")
    left = {config: each * (1 - reached.get(config, 0) / config.epochs) for config in missing}
    return said, {run_name(setting, config): seconds for config, seconds in left.items()}


def _counted(setting: Setting, what: str, missing: list[RunConfig]) -> str:
    """How many runs of a setting are there, for example "1 of 2 trained"."""
    return f"{len(setting.configs) - len(missing)} of {len(setting.configs)} {what}"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.1f} h"


def _untrained(sweep: Sweep, released: Mapping[RunConfig, str]) -> list[tuple[str, RunConfig]]:
    """The runs that are neither released nor in the store."""
    return [
        (name, config)
        for name, config in sweep.runs
        if config not in released and not store.contains(store.run_key(config))
    ]


def _released(sweep: Sweep) -> dict[RunConfig, str]:
    """Folders of released runs, by configuration; none for a sweep that does not release."""
    return {run.config: run.folder.name for run in released_runs()} if sweep.release else {}


def plan(sweep: Sweep, output: Path) -> Path:
    """Write the file that Snakemake reads, and remove markers of jobs of which a run is gone by now.

    Returns
    -------
    ``plan.json`` in the output folder.

    Raises
    ------
    StoreError : a run would be released into another one's place, or a damaged one's.
    """
    jobs, released = sweep.jobs, _released(sweep)
    untrained = {store.run_key(config) for _, config in _untrained(sweep, released)}
    for job, runs in jobs.items():
        if any(run["key"] in untrained for run in runs):
            marker(output, job).unlink(missing_ok=True)
        for run in runs if sweep.release else ():
            if RunConfig(**run["config"]) not in released:
                release_marker(output, job).unlink(missing_ok=True)
                require_free(run["folder"])
    file = output / "plan.json"
    # the sources are part of the names of measures: another version measures anew
    content = {"table": str(sweep.file), "code": fingerprint()[:12], "release": sweep.release, "jobs": jobs}
    write_json(file, content | {"features": sweep.feature_files, "pages": sweep.pages})
    return file


def marker(output: Path, job: str) -> Path:
    """What says that the runs of a job were trained."""
    return output / "trained" / f"{job}.json"


def release_marker(output: Path, job: str) -> Path:
    """What says that the runs of a job were released."""
    return output / "released" / f"{job}.json"


def measures(output: Path, job: str) -> Path:
    """What this version of the code measured on the runs of a job."""
    return output / "measures" / f"{job}-{fingerprint()[:12]}.json"


def run_sweep(
    sweep: Sweep,
    output: Path,
    cores: int | None = None,
    profile: str | None = None,
    tell: Callable[[str], None] = print,
) -> list[str]:
    """Let Snakemake train, measure and report what is missing.

    Parameters
    ----------
    output : folder of markers, logs and the report.
    cores : of this machine that may be used; by default all, on a CPU as many as trainings pay side by side.
    profile : a folder in ``workflow/profiles``, or any folder, that says where the jobs run.
    tell : called with a line whenever there is progress.

    Returns
    -------
    list of what failed, and why.

    Raises
    ------
    NclibError : there is no Snakemake, or no workflow folder, for it is not installed with the package.
    StoreError : another process works on this output folder.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise NclibError(INSTALL)
    if not (WORKFLOW / "Snakefile").is_file():
        raise NclibError(f"there is no {WORKFLOW / 'Snakefile'}; a sweep runs from a copy of the repository")
    with _alone(output):
        command = _command(plan(sweep, output), cores, profile, [config for _, config in sweep.runs])
        path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        with (output / "snakemake.log").open("w", encoding="utf-8") as log:
            with interruptible():
                process = subprocess.Popen(
                    command,
                    env=os.environ | {"PYTHONPATH": path, "TQDM_DISABLE": "1"},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a group of its own, see _stop and go_last
                )
            go_last(process)
            try:
                _follow(process, sweep, output, tell)
            finally:
                _stop(process)
        if process.returncode == 0:
            with storage_errors(output):
                pages = [f"chapters/{page}.html" for page in sweep.pages]
                write_end(sweep.file, output, *_places(sweep), [REPORT, *sweep.feature_files, *pages])
        return _failures(sweep, output, process.returncode)


@contextmanager
def interruptible() -> Iterator[None]:
    """What starts here answers to SIGINT, also where this process ignores it, as after ``&`` in a script."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _command(plan_file: Path, cores: int | None, profile: str | None, configs: list[RunConfig]) -> list[str]:
    command = [sys.executable, "-P", "-m", "snakemake", "--snakefile", str(WORKFLOW / "Snakefile")]
    command += ["--directory", str(plan_file.parent.resolve())]
    # The keys say what a run is made of, so times and sources are no reason to make it again; nclib holds a
    # lock that ends with it, which Snakemake's does not.
    command += ["--rerun-triggers", "mtime", "--rerun-incomplete", "--keep-going", "--nolock"]
    if profile:
        known = WORKFLOW / "profiles" / profile
        command += ["--profile", str(known if known.is_dir() else Path(profile).resolve())]
    threads = 1
    if cores or not profile:
        cores, threads = _shared_out(configs, cores)
        command += ["--cores", str(cores)]
    return [*command, "--config", f"plan={plan_file.resolve()}", f"threads={threads}"]


def _shared_out(configs: list[RunConfig], cores: int | None) -> tuple[int, int]:
    """Cores of this machine that jobs share, and how many of them a training takes.

    On CUDA the trainings that run at once take all cores but one, which is left to what follows a training.
    """
    device = default_device()
    at_once = processes_at_once(configs, device)
    if device.type != "cuda":
        return cores or at_once, 1
    cores = cores or processors()
    return cores, max(1, (cores - 1) // at_once)


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    with storage_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        lock = FileLock(output / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:  # is an OSError too
            raise StoreError(f"another process works on the sweep in {output}") from None
    try:
        yield
    finally:
        lock.release()


def _places(sweep: Sweep) -> tuple[list[str], list[str]]:
    """Keys of the runs that lie in the store, and released folders of the others."""
    released = _released(sweep)
    keys = [store.run_key(config) for _, config in sweep.runs if config not in released]
    return keys, [released[config] for _, config in sweep.runs if config in released]


def _follow(process: subprocess.Popen, sweep: Sweep, output: Path, tell: Callable[[str], None]) -> None:
    """Say how far the sweep is, until Snakemake has ended."""
    jobs, total, before, running = list(sweep.jobs), len(sweep.runs), None, True
    untrained = [store.run_key(config) for _, config in _untrained(sweep, _released(sweep))]
    parts = {"measured": [measures(output, job) for job in jobs]}
    if sweep.release:
        parts["released"] = [release_marker(output, job) for job in jobs]
    while running:
        running = process.poll() is None
        untrained = [key for key in untrained if not store.contains(key)]
        said = f"{total - len(untrained)} of {total} runs are trained"
        for part, files in parts.items():
            parts[part] = [file for file in files if not file.is_file()]
            said += f", {len(jobs) - len(parts[part])} of {len(jobs)} jobs {part}"
        if said != before:
            before = said
            tell(said)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=LOOK_EVERY)


def _stop(process: subprocess.Popen) -> None:
    """End Snakemake and its jobs here as Ctrl-C does; those on a cluster it cancels then."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _failures(sweep: Sweep, output: Path, code: int) -> list[str]:
    """What failed, and why, when Snakemake has ended with a status."""
    if code == 0:
        return []
    ended = f"Snakemake ended with status {code}; its log is {output / 'snakemake.log'}"
    errors = ERROR.finditer(_read(output / "snakemake.log"))
    failures = [_failure(sweep, output, *error.groups()) for error in errors]
    missing = _untrained(sweep, _released(sweep))
    counted = f"{len(missing)} of {len(sweep.runs)} runs are missing. " if missing else ""
    return [*failures, counted + ended]


def _failure(sweep: Sweep, output: Path, rule: str, message: str, target: str, logs: str) -> str:
    """A line on a job that failed: what it was to make, what the scheduler and its own log say."""
    own, *others = logs.partition(" (check")[0].split(", ")
    said = [] if message == "None" else [message.partition(". ")[0]]
    said += [reason for log in others for reason in SLURM.findall(_read(output / log))[:1]]
    said += _read(output / own).strip().splitlines()
    reason = "; ".join(said) or f"it ended without a word, see {output / 'snakemake.log'}"
    runs = sweep.jobs.get(Path(target).stem.partition("-")[0], [])
    of = f" ({runs[0]['name']}{f' and {len(runs) - 1} more' if len(runs) > 1 else ''})" if runs else ""
    return f"{rule} {target}{of}: {reason}"


def _read(log: Path) -> str:
    with suppress(OSError):
        return log.read_text(encoding="utf-8", errors="replace")
    return ""
