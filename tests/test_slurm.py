"""A sweep on a real Slurm with two nodes, struck by a fault and called again; more: tests/slurm/faults.py."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SLURM = Path(__file__).parent / "slurm"
PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "unshare")


def lacking() -> str | None:
    """Why there can be no Slurm here."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "starts a Slurm: needs root"
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"starts a Slurm: needs {', '.join(missing)}, see tests/slurm/cluster.py"
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        return "needs Snakemake and its Slurm plugin: nclib[workflow]"
    return None


@pytest.mark.slow
@pytest.mark.skipif(lacking() is not None, reason=str(lacking()))
def test_a_second_call_makes_what_a_cancelled_job_left_and_the_numbers_of_a_local_run(tmp_path):
    faults = [sys.executable, str(SLURM / "faults.py"), "--only", "a job is cancelled (scancel)"]
    command = [sys.executable, str(SLURM / "cluster.py"), str(tmp_path / "slurm"), *faults]
    path = os.pathsep.join(filter(None, [str(SLURM.parents[1]), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
