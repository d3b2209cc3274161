"""What does a sweep on Slurm lose when jobs, nodes and Snakemake fail, and what does a second call do?

    sudo python tests/slurm/cluster.py FOLDER python tests/slurm/faults.py [--only NAME ...] [--write FILE]

Rows of other faults in FILE stay.

For each fault a sweep of two runs, a job each, starts from an empty store on the two nodes. The fault strikes
one of the jobs while it trains. Then the same command is called again. What the store holds in the end is
compared with a local run of the same table: keys, bytes of weights, features and moments, and measures.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster import daemon_of, nodes_are_idle, wait_for

from nclib.paths import REPOSITORY
from nclib.runs.provenance import provenance
from nclib.runs.sweep import interruptible
from nclib.storage.files import sha256, write_json
from nclib.training.loop import default_device

TABLE = """
runs:
  - recipe: digits
    seeds: 2
    set: {arch: mlp, width: 32, epochs: 3, deterministic: true}
"""
TENSORS = ("features.safetensors", "model.safetensors", "moments.safetensors")
LIMIT = 900  # seconds of a call
PROGRESS = re.compile(r"\d+ of \d+ runs are trained.*")


class Case:
    """A sweep of ``TABLE`` with a store and an output folder of its own."""

    def __init__(self, folder: Path, profile: Path | None) -> None:
        folder.mkdir(parents=True)
        self.folder, self.profile = folder, profile
        (folder / "table.yaml").write_text(TABLE)

    def start(self, profile: Path | None = None) -> subprocess.Popen:
        """Begin ``nclib sweep``."""
        command = [sys.executable, "-P", "-m", "nclib", "sweep", str(self.folder / "table.yaml")]
        command += ["--output", str(self.folder / "out")]
        if chosen := profile or self.profile:
            command += ["--profile", str(chosen)]
        path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"NCLIB_HOME": str(self.folder / "store"), "PYTHONPATH": path}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with interruptible():  # a terminal's Ctrl-C reaches it, however this script was started
            return subprocess.Popen(command, env=environment, **pipes)

    def trained(self) -> dict[str, list[str]]:
        """Digests of the tensors of each run in the store."""
        runs = sorted((self.folder / "store" / "runs").glob("*"))
        return {run.name: [sha256(run / name) for name in TENSORS] for run in runs}

    def measured(self) -> dict[str, dict[str, float]]:
        """Numbers of the measures that the report shows."""
        files = sorted((self.folder / "out" / "measures").glob("*.json"))
        rows = [row for file in files for row in json.loads(file.read_text())]
        made = {"key", "seconds", "device", "commit"}
        return {row["key"]: {name: row[name] for name in row.keys() - made} for row in rows}

    def training_process(self) -> int:
        """Number of a process that trains a run of this sweep, once there is one."""
        found: list[int] = []
        wait_for(lambda: found.extend(self._training()) or found, "job that trains", LIMIT)
        return found[0]

    def _training(self) -> Iterator[int]:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().decode().split("\0")
            except (OSError, UnicodeError):  # it has ended, or is not ours
                continue
            if words[1:4] == ["-P", "-m", "nclib.runs.sweep_job"] and words[4].startswith(str(self.folder)):
                yield int(process.name)


def said(process: subprocess.Popen) -> tuple[int, list[str]]:
    """Status of a call that has ended, and what it said besides progress."""
    output = process.communicate(timeout=LIMIT)[0]
    return process.returncode, [line for line in output.splitlines() if not PROGRESS.fullmatch(line)]


def in_environment(process: int, name: str) -> str:
    words = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    return next(word.partition("=")[2] for word in words if word.startswith(f"{name}="))


def parents(process: int) -> Iterator[int]:
    """The process and those that it descends from, up to the daemon of its node."""
    while process > 1:
        yield process
        status = Path(f"/proc/{process}/status").read_text()
        process = int(re.search(r"^PPid:\s*(\d+)", status, flags=re.MULTILINE)[1])


def a_job_dies(case: Case, call: subprocess.Popen) -> None:
    os.kill(case.training_process(), signal.SIGKILL)


def a_job_is_cancelled(case: Case, call: subprocess.Popen) -> None:
    training = case.training_process()
    os.kill(training, signal.SIGSTOP)  # so that it cannot end first
    subprocess.run(["scancel", in_environment(training, "SLURM_JOB_ID")], check=True)


def a_job_exceeds_its_time(case: Case, call: subprocess.Popen) -> None:
    training = case.training_process()
    os.kill(training, signal.SIGSTOP)
    job = in_environment(training, "SLURM_JOB_ID")
    subprocess.run(["scontrol", "update", f"JobId={job}", "TimeLimit=1"], check=True)


def nothing(case: Case, call: subprocess.Popen) -> None:
    """The fault lies in the profile: ``little_memory``."""


def a_node_goes_down(case: Case, call: subprocess.Popen) -> None:
    """Its daemon and all that it started die at once; it comes back after the call."""
    training = case.training_process()
    node, job = (in_environment(training, name) for name in ("SLURMD_NODENAME", "SLURM_JOB_ID"))
    os.kill(daemon_of(node), signal.SIGKILL)
    for process in list(parents(training)):
        name = Path(f"/proc/{process}/cmdline").read_bytes()
        os.kill(process, signal.SIGKILL)
        if name.startswith(b"slurmstepd"):
            break
    for step in Path("/proc").glob("[0-9]*"):  # the other step of the job
        with suppress(OSError):  # it has ended
            if (step / "cmdline").read_bytes().startswith(f"slurmstepd: [{job}.".encode()):
                os.kill(int(step.name), signal.SIGKILL)
    DOWN.append(node)


def snakemake_is_killed(case: Case, call: subprocess.Popen) -> None:
    """The jobs that run go on; one is held until the second call has begun."""
    HELD.append(case.training_process())
    os.kill(HELD[0], signal.SIGSTOP)
    children = Path(f"/proc/{call.pid}/task/{call.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)


def ctrl_c(case: Case, call: subprocess.Popen) -> None:
    os.kill(case.training_process(), signal.SIGSTOP)
    call.send_signal(signal.SIGINT)


DOWN: list[str] = []  # nodes
HELD: list[int] = []  # processes
BACK: list[subprocess.Popen] = []  # daemons that this script started
FAULTS: dict[str, Callable[[Case, subprocess.Popen], None]] = {
    "a job's process is killed": a_job_dies,
    "a job is cancelled (scancel)": a_job_is_cancelled,
    "a job exceeds its time": a_job_exceeds_its_time,
    "the jobs exceed their memory": nothing,
    "a node goes down and comes back": a_node_goes_down,
    "Snakemake is killed (SIGKILL), its jobs go on": snakemake_is_killed,
    "Ctrl-C": ctrl_c,
}
LITTLE_MEMORY = "the jobs exceed their memory"


def strike(name: str, folder: Path, profile: Path, local: Case) -> dict[str, object]:
    """A row of the table."""
    case = Case(folder, profile)
    start = time.monotonic()
    first = case.start(little_memory(profile, folder) if name == LITTLE_MEMORY else None)
    FAULTS[name](case, first)
    status, words = said(first)
    there = case.trained()
    left = subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True).stdout.split()
    if DOWN:
        BACK.append(subprocess.Popen(["slurmd", "-D", "-N", DOWN.pop()], stderr=subprocess.DEVNULL))
        wait_for(nodes_are_idle, "two idle nodes")
    second = case.start()
    if HELD:
        time.sleep(60)  # its jobs are in the queue by then
        os.kill(HELD.pop(), signal.SIGCONT)
    again, words_again = said(second)
    after = case.trained()
    same = after == local.trained() and case.measured() == local.measured()
    return {
        "fault": name, "runs": len(local.trained()), "identical": same, "seconds": time.monotonic() - start,
        "status": status, "said": words, "jobs_left": len(left), "trained_first": len(there),
        "second_status": again, "second_said": words_again, "trained_then": len(after) - len(there),
    }  # fmt: skip


def little_memory(profile: Path, folder: Path) -> Path:
    """The profile with less memory than torch needs."""
    copied = Path(shutil.copytree(profile, folder / "profile"))
    file = copied / "config.yaml"
    file.write_text(re.sub(r"mem_mb: \d+", "mem_mb: 250", file.read_text()))
    return copied


def write(file: Path, rows: list[dict[str, object]], made: dict[str, object]) -> None:
    """Write rows in the place of those of the same faults."""
    kept = json.loads(file.read_text())["rows"] if file.exists() else []
    of_fault = {row["fault"]: row for row in [*kept, *rows]}
    write_json(file, {"rows": [of_fault[name] for name in FAULTS if name in of_fault], "provenance": made})


@contextmanager
def ending(daemons: list[subprocess.Popen]) -> Iterator[None]:
    """End daemons after the block."""
    try:
        yield
    finally:
        for daemon in daemons:
            daemon.terminate()
            daemon.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--write", type=Path, metavar="FILE")
    options = parser.parse_args()
    version = subprocess.run(["sinfo", "--version"], capture_output=True, text=True).stdout.split()[-1]
    made = provenance(default_device()) | {"slurm": version}
    for name in ("snakemake", "snakemake-executor-plugin-slurm"):
        made[name] = importlib.metadata.version(name)
    profile, rows = REPOSITORY / "workflow" / "profiles" / "slurm", []
    with tempfile.TemporaryDirectory() as scratch, ending(BACK):
        local = Case(Path(scratch) / "local", None)
        assert said(local.start())[0] == 0, "the local run failed"
        for number, name in enumerate(options.only):
            row = strike(name, Path(scratch) / str(number), profile, local)
            rows.append(json.loads(json.dumps(row | {"commit": made["commit"]}).replace(scratch, "")))
            print(json.dumps(rows[-1], indent=1), flush=True)
            if options.write:
                write(options.write, rows, made)
    return 0 if all(row["identical"] and row["second_status"] == 0 for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
