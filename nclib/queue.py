"""Queues of runs, in ``queues.toml``: what is missing is trained, the most important first.

jobs = read_queue("paper")
failures = work(jobs, publish=False)      # may be killed at any moment; the next call goes on from there
"""

from __future__ import annotations

import sys
import tomllib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from nclib import store
from nclib.config import RunConfig, recipe_config, unknown
from nclib.errors import ConfigError, DataError, TrainingError
from nclib.publish import release
from nclib.released import released_runs
from nclib.run import Run
from nclib.runs import provenance, train_run
from nclib.train import default_device

QUEUES_FILE = Path(__file__).with_name("queues.toml")
TRAIN_IMAGES = {  # known before a data set is loaded, or downloaded
    "digits": 1_437,
    "fashion": 60_000,
    "mnist": 60_000,
    "svhn": 73_257,
    "cifar10": 50_000,
    "cifar100": 50_000,
}


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
        recipe, name, seeds, fields = _parts(**entry)
        for seed in seeds:
            config = recipe_config(recipe, **fields, seed=seed)
            new = config.dataset not in {other.dataset for other in jobs}
            jobs.setdefault(config, Job(len(jobs) + 1, f"{name}-seed{seed}", config, new))
    return list(jobs.values())


def _parts(
    recipe: str, name: str | None = None, seeds: int | list[int] = 1, **fields: Any
) -> tuple[str, str, Sequence[int], dict[str, Any]]:
    """Recipe, name, seeds and fields of an entry."""
    default = "-".join([recipe, *(f"{field}-{value}" for field, value in fields.items())])
    return recipe, name or default, range(seeds) if isinstance(seeds, int) else seeds, fields


def remaining(jobs: Sequence[Job], publish: bool) -> list[Job]:
    """Jobs that neither the store nor book/released has; to publish, all that book/released lacks."""
    released = {run.config for run in released_runs()}
    missing = [job for job in jobs if job.config not in released]
    return [job for job in missing if publish or not store.contains(store.run_key(job.config))]


def work(jobs: Sequence[Job], publish: bool, done: Callable[[Run], None] = print) -> list[str]:
    """Train what remains of a queue into the store, one run after another.

    Parameters
    ----------
    jobs : a queue. What stderr says before each run counts positions in it.
    publish : whether each run is released too; one that the store already has is then only released.
    done : called with each finished run.

    Returns
    -------
    list of "name: reason" of the runs that could not be trained or, when published, measured.
    """
    failures = []
    todo = remaining(jobs, publish)
    for i, job in enumerate(todo):
        about = f"run {job.position} of {len(jobs)}, {job.name}; {len(todo) - i} remain, time: "
        print(about + time_left(jobs, todo[i:]), file=sys.stderr)
        try:
            run = train_run(job.config)
            if publish:
                release(run, job.name, with_features=job.with_features)
            done(run)
        except (TrainingError, DataError, ValueError) as error:  # ValueError: a measure refuses its features
            failures.append(f"{job.name}: {error}")
            print(f"failed: {failures[-1]}", file=sys.stderr)
    return failures


def time_left(jobs: Sequence[Job], todo: Sequence[Job]) -> str:
    """How long some jobs will train, judged by runs of the queue that this device has finished.

    Notes
    -----
    Time is taken to be proportional to training images times epochs, at the median speed of the finished
    runs of one architecture and width. That ignores the image size and the loss, counts classes held out
    as if they were trained on, and an interrupted run as if it began anew.
    """
    speeds = _seconds_per_image(jobs)
    missing = [job.config for job in todo if not store.contains(store.run_key(job.config))]
    known = [config for config in missing if (config.arch, config.width) in speeds]
    seconds = sum(speeds[c.arch, c.width] * TRAIN_IMAGES[c.dataset] * c.epochs for c in known)
    if missing and not known:
        return "unknown"
    rest = len(missing) - len(known)
    return f"about {seconds / 3600:.1f} h" + (f" and {rest} runs of unknown length" if rest else "")


def _seconds_per_image(jobs: Sequence[Job]) -> dict[tuple[str, int], float]:
    """Seconds per training image and epoch, by architecture and width, of stored runs from this device."""
    device = provenance(default_device())["device"]
    found = defaultdict(list)
    for c, key in ((job.config, store.run_key(job.config)) for job in jobs):
        if store.contains(key) and (made := Run(store.run_folder(key)).provenance)["device"] == device:
            found[c.arch, c.width].append(made["seconds"] / (TRAIN_IMAGES[c.dataset] * c.epochs))
    return {network: median(speeds) for network, speeds in found.items()}
