"""Queues of runs, in ``queues.toml``: what is missing is trained, the most important first.

failures = work(read_queue("evidence"), publish=True)   # may be killed at any moment; the next call goes on
"""

from __future__ import annotations

import os
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from nclib.bench import throughput
from nclib.config import RunConfig, recipe_config, unknown
from nclib.data.datasets import FOLLOWED
from nclib.errors import ConfigError, StoreError
from nclib.paths import home
from nclib.runs.get import find_run, processes_at_once, train_run
from nclib.runs.publish import release
from nclib.runs.released import released_runs
from nclib.runs.run import Run
from nclib.runs.workers import Worker, stopping
from nclib.storage import store
from nclib.storage.files import read_metadata, storage_errors
from nclib.training.checkpoint import CHECKPOINT
from nclib.training.loop import default_device, measured_epochs

QUEUES_FILE = Path(__file__).with_name("queues.toml")
IMAGES = {  # of train and of test, and their shape: known before a data set is loaded, or downloaded
    "digits": (1_437, 360, (1, 8, 8)),
    "fashion": (60_000, 10_000, (1, 28, 28)),
    "mnist": (60_000, 10_000, (1, 28, 28)),
    "svhn": (73_257, 26_032, (3, 32, 32)),
    "cifar10": (50_000, 10_000, (3, 32, 32)),
    "cifar100": (50_000, 10_000, (3, 32, 32)),
}
WHOLE = ("grouping", "held_out")  # fields whose value may itself be a list
NICENESS = 19  # of the workers: everything else on the machine goes first
LOOK_EVERY = 0.2  # seconds between two looks at the workers


@dataclass(frozen=True)
class Job:
    """One run of a queue.

    Attributes
    ----------
    position : in the queue, from 1 on.
    name : of its released folder.
    config : what to train.
    with_features : whether the test features are released too: for the queue's first run of a data set.
    """

    position: int
    name: str
    config: RunConfig
    with_features: bool


def read_queue(queue: str) -> list[Job]:
    """The runs of a queue in ``queues.toml``, in order, each configuration once.

    Raises
    ------
    ConfigError : an unknown queue, recipe, field or value.
    """
    queues = tomllib.loads(QUEUES_FILE.read_text(encoding="utf-8"))
    if queue not in queues:
        raise ConfigError(unknown("queue", queue, queues))
    jobs: dict[RunConfig, Job] = {}
    for entry in queues[queue]:
        for name, config in _configs(**entry):
            new = config.dataset not in {other.dataset for other in jobs}
            jobs.setdefault(config, Job(len(jobs) + 1, name, config, new))
    return list(jobs.values())


def _configs(
    recipe: str, name: str | None = None, seeds: int | list[int] = 1, **fields: Any
) -> Iterator[tuple[str, RunConfig]]:
    """Names and configurations of an entry: for each seed all combinations of the listed values."""
    lists = {f: values for f, values in fields.items() if isinstance(values, list) and f not in WHOLE}
    single = {field: value for field, value in fields.items() if field not in lists}
    start = [name] if name else [recipe, *(f"{field}-{value}" for field, value in single.items())]
    for seed in range(seeds) if isinstance(seeds, int) else seeds:
        for values in product(*lists.values()):
            chosen = dict(zip(lists, values, strict=True))
            said = [str(v) if name else f"{field}-{v}" for field, v in chosen.items()]
            config = recipe_config(recipe, **single, **chosen, seed=seed)
            yield "-".join([*start, *said, f"seed{seed}"]), config


def remaining(jobs: Sequence[Job], publish: bool) -> list[Job]:
    """Jobs that neither the store nor book/released has; to publish, all that book/released lacks."""
    released = {run.config for run in released_runs()}
    missing = [job for job in jobs if job.config not in released]
    return [job for job in missing if publish or not store.contains(store.run_key(job.config))]


@contextmanager
def alone(queue: str) -> Iterator[None]:
    """Hold a queue of this store.

    Raises
    ------
    StoreError : another process works on it.
    """
    store.prepare()
    path = store.part("locks") / f"queue-{queue}"
    lock = FileLock(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:  # is an OSError too
            raise StoreError(
                f"another process works on the queue {queue!r} of {home()}; it takes up what remains, so "
                "there is nothing to start. With --dry-run the queue is listed."
            ) from None
    try:
        yield
    finally:
        lock.release()


def work(
    jobs: Sequence[Job], publish: bool, hours: float = float("inf"), done: Callable[[Run], None] = print
) -> list[str]:
    """Train what remains of a queue into the store, as many runs at once as this device is best used by.

    Parameters
    ----------
    jobs : a queue. What stderr says of each run counts positions in it.
    publish : whether each run is released too; one that the store already has is then only released.
    hours : runs are begun only if they are expected to end within so many hours from now.
    done : called with each finished run.

    Returns
    -------
    list of "name: reason" of the runs that could not be trained or, when published, measured.

    Notes
    -----
    Every run has a process of its own, with lowest priority. When this one stops, they do.
    """
    todo = remaining(jobs, publish)
    end = time.monotonic() + 3600 * hours
    at_once = processes_at_once([job.config for job in todo], default_device())
    workers: list[Worker] = []
    running: dict[Worker, Job] = {}
    failures = []
    with stopping(workers):
        while todo or running:
            while len(running) < at_once and (job := next((j for j in todo if _fits(j, end)), None)):
                todo.remove(job)
                told = asdict(job) | {"publish": publish, "key": store.run_key(job.config)}
                worker = Worker("nclib.runs.queue:work_on", told, threads(at_once), niceness=NICENESS)
                workers.append(worker)
                running[worker] = job
                print(f"begun: run {job.position} of {len(jobs)}, {job.name}", file=sys.stderr)
            if not running:
                break  # nothing that is left fits into the hours
            time.sleep(LOOK_EVERY)
            for worker in [w for w in running if w.process.poll() is not None]:
                job = running.pop(worker)
                if failure := worker.failure():
                    failures.append(f"{job.name}: {failure}")
                    print(f"failed: {failures[-1]}", file=sys.stderr)
                else:
                    done(find_run(job.config))
    return failures


def _fits(job: Job, end: float) -> bool:
    """Whether a job begun now is expected to be trained at a time of the monotonic clock."""
    return end == float("inf") or time.monotonic() + seconds(job.config) < end


def threads(at_once: int) -> int:
    """Threads of each of so many processes."""
    return max(1, (os.cpu_count() or 1) // at_once)


def work_on(job: dict[str, Any]) -> None:
    """Train one job, and release it if ``job["publish"]``; a process's whole work."""
    config = RunConfig(**job["config"])
    if store.run_key(config) != job["key"]:
        raise StoreError("the sources that train were changed since the queue began; start it again")
    run = train_run(config)
    if job["publish"]:
        release(run, job["name"], with_features=job["with_features"])


def listing(jobs: Sequence[Job], publish: bool) -> list[str]:
    """A line for each run of a queue: how far it is, and the hours that it took, or will take here."""
    released = {run.config: run for run in released_runs()}
    todo = remaining(jobs, publish)
    lines, left = [], 0.0
    for job in jobs:
        run = released.get(job.config)
        key = store.run_key(job.config)
        if run is None and store.contains(key) and store.damage(store.run_folder(key)) is None:
            run = Run(store.run_folder(key))
        hours = (run.provenance["seconds"] if run else seconds(job.config)) / 3600
        epoch = _epoch_reached(key)
        state = "to do" if not epoch else f"epoch {epoch} of {job.config.epochs}"
        if run:
            state = "released" if run.released else "trained"
        else:
            left += hours * (1 - epoch / job.config.epochs)
        spent = "took" if run else "about"
        lines.append(f"{job.position:4}  {job.name:44}  {state:16}  {spent:5} {hours:5.1f} h")
    at_once = processes_at_once([job.config for job in todo], default_device())
    ending = f"{len(todo)} of {len(jobs)} remain: about {left / at_once:.1f} h, {at_once} at once"
    return [*lines, ending + "; measuring them for a release comes on top." * publish]


def _epoch_reached(key: str) -> int:
    """Last epoch that an unfinished run of this key has saved."""
    file = store.unfinished_folder(key) / CHECKPOINT
    try:
        return int(read_metadata(file)["epoch"]) if file.exists() else 0
    except (StoreError, KeyError, ValueError):  # damaged: training will begin anew
        return 0


def seconds(config: RunConfig) -> float:
    """How long a configuration is expected to train and to be measured on this device, in seconds.

    Notes
    -----
    From the speed of a few steps of this network. The loss is not looked at, and classes held out count as
    if they were trained on.
    """
    train, test, shape = IMAGES[config.dataset]
    speed = _speed(config.arch, config.width, shape, config.batch_size, config.precision)
    on_the_way = (len(measured_epochs(config.epochs)) - 1) * (min(train, FOLLOWED) + test)
    return config.epochs * train / speed["training"] + (on_the_way + train + test) / speed["features"]


@cache
def _speed(arch: str, width: int, shape: tuple[int, ...], batch: int, precision: str) -> dict[str, float]:
    images = torch.zeros(2 * batch, *shape, dtype=torch.uint8)
    config = RunConfig(arch=arch, width=width, batch_size=batch, precision=precision, epochs=2)
    return throughput(images, torch.arange(len(images)) % 5, config)
