"""The one way to get a run.

run = get_run("digits", seed=3)      # from the store; else from the released runs; else trained now
"""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from nclib import __version__, store
from nclib.config import RunConfig, recipe_config
from nclib.files import write_json, write_tensors
from nclib.paths import REPOSITORY
from nclib.released import find_released
from nclib.run import Run
from nclib.train import Trained, default_device, train


def get_run(recipe: str, *, released: bool = True, **overrides: Any) -> Run:
    """A run of a recipe: from the store; else from the released runs; else trained now.

    Parameters
    ----------
    recipe : a name in ``recipes.toml``, for example "digits".
    released : whether a released run will do; it has the numbers, but not all of the features.
    **overrides : fields of ``RunConfig``; ``None`` keeps what the recipe says.

    Raises
    ------
    ConfigError : an unknown recipe, field or value.
    DataError : a data set that is absent and cannot be downloaded, or altered.
    StoreError : a damaged run, now set aside, or a store that cannot be written.
    TrainingError : training failed; its last checkpoint stays.
    """
    config = recipe_config(recipe, **overrides)
    return find_run(config, released=released) or train_run(config)


def find_run(config: RunConfig, *, released: bool = True) -> Run | None:
    """The run of a configuration if the store has it, or else a released one; None if neither."""
    key = store.run_key(config)
    if store.contains(key):
        return Run(store.verified(key))
    return find_released(config) if released else None


def train_run(config: RunConfig) -> Run:
    """Train a configuration into the store, resuming where an earlier attempt stopped.

    One process trains a key; others that ask for it wait and then read it.
    """
    key = store.run_key(config)
    with store.writing(key):
        if not store.contains(key):
            device = default_device()
            started = datetime.now(UTC).isoformat(timespec="seconds")
            trained = train(config, store.checkpoint_file(key), device)
            record = _record(key, config, trained) | {
                "provenance": provenance(device) | {"started": started, "seconds": trained.seconds}
            }
            store.add(key, lambda folder: _write(folder, record, trained))
    return Run(store.verified(key))


def _record(key: str, config: RunConfig, trained: Trained) -> dict[str, Any]:
    grouping = trained.grouping
    return {
        "key": key,
        "config": asdict(config),
        "grouping": {
            "fine_to_coarse": grouping.fine_to_coarse.tolist(),
            "fine": grouping.fine_names,
            "coarse": grouping.coarse_names,
        },
        "image_shape": trained.image_shape,
        "history": trained.history,
    }


def _write(folder: Path, record: dict[str, Any], trained: Trained) -> None:
    features = {
        f"{split}/{part}": getattr(f, part) for split, f in trained.features.items() for part in ("h", "fine")
    }
    write_json(folder / "run.json", record)
    write_tensors(folder / "model.safetensors", trained.model.state_dict())
    write_tensors(folder / "moments.safetensors", trained.snapshots)
    write_tensors(folder / "features.safetensors", features)


def provenance(device: torch.device) -> dict[str, Any]:
    """What a result depends on besides its configuration: commit, versions, device, threads."""
    return {
        "commit": _commit(),
        "nclib": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()}, {os.cpu_count()} cores"


def _cpu_model() -> str:
    """The processor's name as Linux gives it, else the architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """Commit of the checkout that runs, "-dirty" if nclib differs from it; "unknown" outside git."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("-dirty" if _git("status", "--porcelain", "--", "nclib") else "")
    except (OSError, subprocess.CalledProcessError):  # no git, or no checkout
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(REPOSITORY), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
