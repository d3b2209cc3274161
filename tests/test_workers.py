"""Workers: they do what they are told, say why they failed, and never outlive their parent."""

from __future__ import annotations

import os
import signal

import pytest
from conftest import alive, ends

from nclib.runs.workers import Worker, stopping

PARENT = """
import sys, time
from nclib.runs.workers import Worker
worker = Worker("time:sleep", 60)
print(worker.process.pid, flush=True)
time.sleep(60)
"""


def test_does_its_work(tmp_path):
    worker = Worker("os:mkdir", str(tmp_path / "made"))
    assert worker.failure() is None
    assert (tmp_path / "made").is_dir()
    worker.stop()


def test_long_arguments_arrive():
    worker = Worker("builtins:len", "x" * 1_000_000)
    assert worker.failure() is None
    worker.stop()


@pytest.mark.parametrize(
    ("function", "argument", "reason"),
    [
        ("builtins:int", "many", "ValueError: invalid literal for int() with base 10: 'many'"),
        ("nclib.data:load", "no data", "KeyError: 'no data'"),
        ("nclib.config:recipe_config", "digit", "unknown recipe 'digit' (did you mean 'digits'?)"),
    ],
)
def test_says_why_it_failed(function, argument, reason):
    worker = Worker(function, argument)
    assert worker.failure().startswith(reason)
    worker.stop()


def test_a_killed_worker_is_a_failure():
    worker = Worker("time:sleep", 60)
    worker.process.kill()
    assert worker.failure() == "it was ended by signal 9, for want of memory?"
    worker.stop()


def test_modules_of_the_working_folder_are_not_executed(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('a stranger was here')")
    monkeypatch.chdir(tmp_path)
    worker = Worker("builtins:len", "x")
    assert worker.failure() is None
    worker.stop()


def test_none_outlives_the_block():
    workers = [Worker("time:sleep", 60), Worker("time:sleep", 60)]
    with pytest.raises(KeyboardInterrupt), stopping(workers):
        raise KeyboardInterrupt
    assert [worker.process.poll() for worker in workers] == [-9, -9]


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="asks Linux which processes run")
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_none_outlives_its_parent(start, ending):
    parent = start("-c", PARENT)
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.send_signal(ending)
    parent.wait()
    assert ends(pid)
