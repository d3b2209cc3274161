"""What tests share: a store of their own, and one tiny run that many of them read."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

os.environ["TQDM_DISABLE"] = "1"
os.environ["NCLIB_DEVICE"] = "cpu"
os.environ["MPLBACKEND"] = "Agg"
# Tests start processes, and tests run beside other work: threads that wait for each other crawl.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NCLIB_REMEMBER"] = "0"  # what a test replaces must be computed
os.environ["NCLIB_PROCESSES"] = "1"  # to start one costs seconds; tests that are about them say so

settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")  # every run tries the same examples

TINY = {"arch": "mlp", "width": 32, "epochs": 3, "deterministic": True}


finished_with = pytest.StashKey[int]()


def pytest_sessionfinish(session, exitstatus):
    session.config.stash[finished_with] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """Leave with pytest's own status, without the interpreter's teardown.

    After all results are printed, the native threads of kernels (zmq), OpenMP and BLAS are torn down in no
    fixed order; in one of four full runs this process then died of a segmentation fault.
    """
    if finished_with in config.stash and not hasattr(config, "workerinput"):  # xdist's workers still report
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[finished_with])


@pytest.fixture(scope="session", autouse=True)
def session_home(tmp_path_factory):
    """No test touches the reader's own store or data."""
    home = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NCLIB_HOME", str(home))
        yield home


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same state of the global generators."""
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def three_threads():
    """Three of torch's threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_config():
    """Configuration of ``tiny_run``: digits, an MLP, three epochs."""
    from nclib.config import recipe_config

    return recipe_config("digits", **TINY)


@pytest.fixture(scope="session")
def tiny_run(session_home, tiny_config):
    """A finished run; to be read only."""
    from nclib.runs.get import train_run

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NCLIB_HOME", str(session_home))
        return train_run(tiny_config)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty store, at a path with a space."""
    folder = tmp_path / "a store"
    monkeypatch.setenv("NCLIB_HOME", str(folder))
    return folder


@pytest.fixture
def stored(home, tiny_run):
    """A copy of ``tiny_run`` in the store ``home``; may be damaged."""
    from nclib.runs.run import Run

    return Run(Path(shutil.copytree(tiny_run.folder, home / "runs" / tiny_run.key)))


@pytest.fixture
def released(tmp_path, monkeypatch) -> Path:
    """An empty folder in the place of book/released."""
    from nclib.runs import publish
    from nclib.runs import released as released_module

    folder = tmp_path / "released"
    monkeypatch.setattr(released_module, "RELEASED", folder)
    monkeypatch.setattr(publish, "RELEASED", folder)
    return folder


def rewritten(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the record of a stored or released run, and the manifest with it."""
    from nclib.storage import store

    record = json.loads((folder / "run.json").read_text())
    change(record)
    (folder / "run.json").write_text(json.dumps(record))
    store.write_manifest(folder)


@pytest.fixture
def no_training(monkeypatch) -> None:
    """Training fails the test."""
    from nclib.runs import get

    def train(*_):
        raise AssertionError("trained, although the run was there")

    monkeypatch.setattr(get, "train", train)


@pytest.fixture
def start() -> Callable[..., subprocess.Popen]:
    """Start Python in a process of its own; those still alive at the end of the test are killed."""
    started = []

    def start(*arguments: str, stdin: int = subprocess.DEVNULL, **environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=os.environ | environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def alive(pid: int) -> bool:
    """Whether a process runs, on Linux; one that has ended and waits for its parent to ask does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(pid: int, seconds: float = 20) -> bool:
    """Whether a process ends in this time."""
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pid)
