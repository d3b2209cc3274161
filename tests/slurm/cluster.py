"""Slurm for real on one Linux machine: two daemons as two nodes, with ports, keys and a folder of their own.

    apt-get install --no-install-recommends slurmctld slurmd slurm-client munge
    sudo python tests/slurm/cluster.py FOLDER COMMAND ...

starts them, runs the command, stops them, and returns the command's status. Nothing of a Slurm that the
machine has is read or changed: the command and the daemons see FOLDER in the place of /etc/slurm, in a mount
namespace of their own.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

INSIDE = "--inside"  # the namespace
CONF = """
ClusterName=nclib
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
MinJobAge=300
KillWait=5
SlurmdTimeout=10
GresTypes=gpu,shard
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port=16818 CPUs=1 RealMemory=2000 Gres=gpu:1,shard:4
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port=16819 CPUs=1 RealMemory=2000 Gres=gpu:1,shard:4
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
DEVICES = """
Name=gpu File=/dev/null
Name=shard Count=4
"""  # only pretended, to try what a profile asks for


def configure(folder: Path) -> None:
    """Write the configuration and a new munge key."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    for name in ("etc", "state", "spool-n1", "spool-n2"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "etc" / "slurm.conf").write_text(CONF.format(folder=folder).lstrip())
    (folder / "etc" / "gres.conf").write_text(DEVICES.lstrip())
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)


def daemons(folder: Path) -> list[list[str]]:
    """Commands of the daemons, each of which stays in the foreground."""
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munged = [f"--{option}={folder}/munge.{end}" for option, end in files.items()]
    slurmd = [["slurmd", "-D", "-N", node] for node in ("n1", "n2")]
    return [["munged", "--foreground", "--force", *munged], ["slurmctld", "-D", "-i"], *slurmd]


def nodes_are_idle() -> bool:
    """Whether both nodes wait for jobs."""
    found = subprocess.run(["sinfo", "-h", "-N", "-o", "%t"], capture_output=True, text=True)
    return found.stdout.split() == ["idle", "idle"]


def daemon_of(node: str) -> int:
    """Process of a node's daemon, asked inside."""
    file = re.search(r"^SlurmdPidFile=(.*)$", Path("/etc/slurm/slurm.conf").read_text(), flags=re.MULTILINE)
    return int(Path(file[1].replace("%n", node)).read_text())


def run_inside(folder: Path, command: list[str]) -> int:
    """Start the daemons, run the command and stop them, also where SIGTERM asks to."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    Path("/etc/slurm").mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", folder / "etc", "/etc/slurm"], check=True)
    started: list[subprocess.Popen] = []
    try:
        for daemon in daemons(folder):
            log = (folder / f"{daemon[0]}-{len(started)}.out").open("w")
            started.append(subprocess.Popen(daemon, stdout=log, stderr=log))
            if daemon[0] == "munged":
                wait_for(lambda: (folder / "munge.socket").exists(), "munged")
        wait_for(nodes_are_idle, "two idle nodes")
        return subprocess.run(command).returncode
    finally:
        subprocess.run(["scancel", "--user=root"], timeout=30)
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait()


def wait_for(condition: Callable[[], bool], what: str, seconds: int = 180) -> None:
    """Wait until something is so, or give up."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"no {what} within {seconds} s; see the logs beside slurm.conf")
        time.sleep(0.5)


def main() -> int:
    if sys.argv[1] == INSIDE:
        return run_inside(Path(sys.argv[2]), sys.argv[3:])
    folder, command = Path(sys.argv[1]).resolve(), sys.argv[2:]
    configure(folder)
    again = [sys.executable, __file__, INSIDE, str(folder), *command]
    os.execvp("unshare", ["unshare", "--mount", *again])


if __name__ == "__main__":
    sys.exit(main())
