"""Work in the background: priority of a process, of what it starts and of its session."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nclib.runs.priority import go_last

GROUP = Path("/proc/self/autogroup")
CHILD = """import subprocess, sys
input()
subprocess.run([sys.executable, "-c", "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"])
"""


@pytest.fixture
def process():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", CHILD], start_new_session=True, **pipes)
    yield process
    process.kill()
    process.communicate()


def test_what_it_starts_goes_last_too(process):
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    go_last(process)
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == 19
    assert process.communicate("\n")[0].strip() == "19"
    assert os.getpriority(os.PRIO_PROCESS, 0) == mine


@pytest.mark.skipif(not GROUP.exists(), reason="this kernel does not group by session")
def test_its_session_does_and_ours_does_not(process):
    mine = GROUP.read_text()
    go_last(process)
    assert Path(f"/proc/{process.pid}/autogroup").read_text().endswith("nice 19\n")
    assert GROUP.read_text() == mine


def test_one_that_has_ended_is_no_error(process):
    process.communicate("\n")
    go_last(process)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes")
def test_only_processors_that_this_process_may_use_count():
    """In a process that is bound to one of them, as a job with one core of a large node is."""
    command = "from nclib.runs.priority import processors; print(processors())"
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{one}]); {command}"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "1\n"
