"""The processors of this machine: how many are ours, and work that lets everything else go first."""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from pathlib import Path
from subprocess import Popen

NICENESS = 19  # the lowest priority
TRIES = 20


def processors() -> int:
    """How many of them this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def go_last(process: Popen) -> None:
    """Give a process, which began a session of its own, the lowest priority, and all that it starts.

    Linux shares the processor between sessions first. Without a lower priority of the session too, its
    processes would take as much as everything in another terminal together.
    """
    with suppress(ProcessLookupError):  # it has ended already
        os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
    group = Path(f"/proc/{process.pid}/autogroup")  # only where the kernel groups by session
    for _ in range(TRIES if group.exists() else 0):
        try:
            group.write_text(str(NICENESS))
            return
        except BlockingIOError:  # the kernel lets users other than root write one every tenth of a second
            time.sleep(random.uniform(0.1, 0.5))
        except OSError:  # it has ended
            return
