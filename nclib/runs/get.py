"""The one way to get a run, or one for each of many seeds.

run = get_run("digits", seed=3)      # from the store; else from the released runs; else trained now
runs = get_runs("digits", range(15))
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from nclib.config import RunConfig, recipe_config
from nclib.errors import ConfigError, StoreError, TrainingError
from nclib.networks.features import feature_tensors
from nclib.runs.priority import processors
from nclib.runs.provenance import provenance
from nclib.runs.released import find_released, released_runs
from nclib.runs.run import Run
from nclib.runs.workers import Worker, stopping
from nclib.storage import store
from nclib.storage.files import link_or_copy, write_json, write_tensors
from nclib.storage.integrity import FORMAT
from nclib.training import distributed
from nclib.training.checkpoint import changed
from nclib.training.loop import Trained, default_device, train, training_threads
from nclib.training.stacked_seeds import pays_together, train_together

FILLS_A_GPU = 64  # width of a ResNet that does


def get_run(recipe: str, *, released: bool = True, **overrides: Any) -> Run:
    """A run of a recipe: from the store; else from the released runs; else trained now.

    Parameters
    ----------
    recipe : a name in ``recipes.toml``, for example "digits".
    released : whether a released run will do; it has the numbers, but not all of the features.
    **overrides : fields of ``RunConfig``; ``None`` keeps what the recipe says.

    Returns
    -------
    Run : its ``released`` says whether it is a released one.

    Raises
    ------
    ConfigError : an unknown recipe, field or value.
    DataError : a data set that is absent and cannot be downloaded, or altered.
    StoreError : a damaged run, now set aside, or a store that cannot be written.
    TrainingError : training failed; its last checkpoint stays.
    """
    config = recipe_config(recipe, **overrides)
    return find_run(config, released=released) or train_run(config)


def get_runs(recipe: str, seeds: Iterable[int], *, released: bool = True, **overrides: Any) -> list[Run]:
    """A run of a recipe for each seed; those that are missing are trained in the fastest way known here.

    Parameters
    ----------
    recipe, released, **overrides : as in ``get_run``; a ``seed`` among them is not used.
    seeds : of the runs.

    Returns
    -------
    list of Run, one a seed, in the order of ``seeds``.

    Raises
    ------
    ConfigError, DataError, StoreError, TrainingError : as ``get_run`` does.
    """
    return get_cases({"": {}}, recipe, seeds, released=released, **overrides)[""]


def get_cases(
    cases: Mapping[str, Mapping[str, Any]],
    recipe: str,
    seeds: Iterable[int],
    *,
    released: bool = True,
    **overrides: Any,
) -> dict[str, list[Run]]:
    """Runs to be compared: for each case one a seed. Whatever is missing is trained side by side.

    Parameters
    ----------
    cases : by name, the fields of ``RunConfig`` in which the case differs.
    recipe, seeds, released, **overrides : as in ``get_runs``, for all cases.

    Returns
    -------
    dict by name of the case: a list of Run, one a seed, in the order of ``seeds``.

    Raises
    ------
    ConfigError, DataError, StoreError, TrainingError : as ``get_run`` does.
    """
    if not isinstance(seeds, Iterable):
        raise ConfigError(f"seeds={seeds!r}: expected several, for example range(5)")
    seeds = list(seeds)
    configs = {
        name: [recipe_config(recipe, **overrides | fields | {"seed": seed}) for seed in seeds]
        for name, fields in cases.items()
    }
    everything = dict.fromkeys(config for of_case in configs.values() for config in of_case)
    found = {config: find_run(config, released=False) for config in everything}
    if released and None in found.values():  # each released run is verified once, not for every case
        shelf = {run.config: run for run in released_runs()}
        found = {config: run or shelf.get(config) for config, run in found.items()}
    train_all([config for config, run in found.items() if run is None])
    return {
        name: [found[config] or train_run(config) for config in of_case] for name, of_case in configs.items()
    }


def find_run(config: RunConfig, *, released: bool = True) -> Run | None:
    """The run of a configuration if the store has it, or else a released one; None if neither."""
    key = store.run_key(config)
    if store.contains(key):
        return Run(store.verified(key))
    return find_released(config) if released else None


def train_run(config: RunConfig) -> Run:
    """Train a configuration into the store, resuming where an earlier attempt stopped.

    One process trains a key, or all that torchrun started; others that ask for it wait and then read it.
    """
    key = store.run_key(config)
    with store.writing(key) if distributed.leads() else nullcontext():
        if distributed.agreed(not store.contains(key)):
            made = _beginning(config)
            trained = train(config, store.unfinished_folder(key), default_device(), made)
            if distributed.leads():
                _keep(config, trained, made, together=1)
        distributed.agreed(True)  # the run is there for all of them
    return Run(store.verified(key))


def train_all(configs: Sequence[RunConfig]) -> None:
    """Train configurations into the store.

    Notes
    -----
    Each of ``processes_at_once`` gets a share of them. Seeds of a network for which that pays are trained
    as one program, see ``nclib.training.stacked_seeds``; ``benchmarks/many_seeds.py`` measures it.
    """
    processes = processes_at_once(configs, default_device())
    shares = [share for share in (configs[i::processes] for i in range(processes)) if share]
    if len(shares) > 1:
        run_processes([asdict(config) for config in share] for share in shares)
    elif shares:
        train_share(shares[0])


def processes_at_once(configs: Sequence[RunConfig], device: torch.device) -> int:
    """How many processes train side by side.

    Notes
    -----
    On a CPU one for each core: two threads that share one small network are slower than two networks. On
    CUDA four where every network is small, for one of them does not fill a GPU. ``benchmarks/training.py``
    measures two runs at once on either; the number for CUDA is an assumption, not yet measured.
    ``NCLIB_PROCESSES`` says otherwise for a CPU: a book build, which fills the processors with chapters,
    trains in the chapters themselves, for a process of its own costs as much as three runs of digits.

    Raises
    ------
    ConfigError : an ``NCLIB_PROCESSES`` that is no whole number above 0.
    """
    if device.type != "cuda":
        chosen = os.environ.get("NCLIB_PROCESSES") or str(processors())
        if not (chosen.isascii() and chosen.isdigit() and int(chosen) > 0):
            raise ConfigError(f"NCLIB_PROCESSES={chosen!r}: set it to a whole number from 1 on, or unset it")
        return int(chosen)
    small = (config.arch == "mlp" or config.width < FILLS_A_GPU for config in configs)
    return 4 if all(small) else 1


def train_share(configs: Sequence[RunConfig]) -> None:
    """Train configurations in this process, seeds of one experiment together if that is faster.

    Experiments that another process is training come last: it may be done with them then.
    """
    experiments = defaultdict(list)
    for config in configs:
        experiments[replace(config, seed=0)].append(config)
    keys = {config: store.run_key(config) for config in configs}
    waiting = list(experiments.values())
    while waiting:
        free = (seeds for seeds in waiting if not any(store.is_busy(keys[config]) for config in seeds))
        seeds = next(free, waiting[0])
        waiting.remove(seeds)
        if pays_together(seeds[0], len(seeds), default_device()):
            _train_seeds(seeds)
        else:
            for config in seeds:
                train_run(config)


def _train_seeds(configs: Sequence[RunConfig]) -> None:
    """Train configurations that differ in their seed only, as one program."""
    with ExitStack() as locks:
        for key in sorted(store.run_key(config) for config in configs):
            locks.enter_context(store.writing(key))
        configs = [config for config in configs if not store.contains(store.run_key(config))]
        if not configs:
            return
        made = _beginning(configs[0])
        folders = [store.unfinished_folder(store.run_key(config)) for config in configs]
        for config, trained in zip(configs, train_together(configs, folders=folders), strict=True):
            _keep(config, trained, made, together=len(configs))


def run_processes(shares: Iterable[list[dict[str, Any]]]) -> None:
    """``train_share`` of every share at once, a process with one thread each.

    Raises
    ------
    TrainingError : a process failed; the message ends as its own does.
    """
    started: list[Worker] = []
    with stopping(started):
        for share in shares:
            started.append(Worker("nclib.runs.get:train_listed", share))
        for worker in started:
            if failure := worker.failure():
                raise TrainingError(f"a training process failed: {failure}")


def train_listed(configs: list[dict[str, Any]]) -> None:
    """``train_share`` of configurations as JSON carries them."""
    train_share([RunConfig(**fields) for fields in configs])


def _keep(config: RunConfig, trained: Trained, made: dict[str, Any], together: int) -> None:
    """Add what was trained to the store; ``together`` seeds were one program."""
    key = store.run_key(config)
    made = made | {"seconds": trained.seconds, "together": together}
    if len(trained.attempts) > 1:  # it was resumed
        made["attempts"] = trained.attempts
    record = _record(key, config, trained) | {"provenance": made}
    store.add(key, lambda folder: _write(folder, record, trained, store.unfinished_folder(key)))


def _beginning(config: RunConfig) -> dict[str, Any]:
    """Provenance when training begins: the checkout may move on while it runs."""
    device = default_device()
    made = {
        "threads": training_threads(config, device),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return provenance(device) | made


def _record(key: str, config: RunConfig, trained: Trained) -> dict[str, Any]:
    grouping = trained.grouping
    return {
        "format": FORMAT,
        "key": key,
        **store.decided_by(config),
        "config": asdict(config),
        "grouping": {
            "fine_to_coarse": grouping.fine_to_coarse.tolist(),
            "fine": grouping.fine_names,
            "coarse": grouping.coarse_names,
        },
        "image_shape": trained.image_shape,
        "history": trained.history,
    }


def _write(folder: Path, record: dict[str, Any], trained: Trained, unfinished: Path) -> None:
    write_json(folder / "run.json", record)
    write_tensors(folder / "model.safetensors", trained.model.state_dict())
    write_tensors(folder / "moments.safetensors", trained.snapshots)
    write_tensors(folder / "features.safetensors", feature_tensors(trained.features))
    for name, digest in trained.kept.items():  # in the other folder until the run is whole
        if problem := changed(unfinished, name, digest):
            raise StoreError(f"{problem} while the run was trained. Train it again.")
        link_or_copy(unfinished / name, folder / name)
