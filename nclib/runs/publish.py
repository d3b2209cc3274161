"""Publishing a run of the store under book/released."""

from __future__ import annotations

import math
import shutil
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nclib.data.grouping import task
from nclib.errors import StoreError
from nclib.measures.distances import distances_of
from nclib.paths import RELEASED
from nclib.runs import evaluation
from nclib.runs.baselines import neighbours, pixel_components, pixel_distances, untrained
from nclib.runs.detection import detection
from nclib.runs.provenance import provenance
from nclib.runs.released import (
    EMBEDDING,
    REFERENCE_IMAGES,
    REPLACED,
    TRAIN_IMAGES,
    ReleasedRun,
    encode_features,
    encode_moments,
    in_place,
)
from nclib.runs.rows import of_rows, stratified_rows
from nclib.runs.run import Run
from nclib.storage import store
from nclib.storage.files import storage_errors, write_json, write_tensors


def release(
    run: Run,
    name: str,
    with_features: bool = True,
    with_tsne: bool | None = None,
) -> Path:
    """Publish a finished run under ``book/released``, with the detection of classes that were held out.

    Parameters
    ----------
    run : a run of the store.
    name : of the new folder, for example "cifar10-laptop-seed0".
    with_features : whether features go with it, see ``nclib.runs.released``; meant for one run per data set.
    with_tsne : whether t-SNE is computed, to be shown and to be clustered; on large data it takes longer than
        everything else. By default if openTSNE is installed; if it is not, stderr says what is left out.

    Returns
    -------
    Folder that was written.

    Raises
    ------
    StoreError : features that have one dimension or are all equal, a measure that is not finite, or a folder
        that cannot be written.
    """
    _refuse_degenerate(run)
    if with_tsne is None:
        with_tsne = find_spec("openTSNE") is not None
        if not with_tsne:
            print(f"openTSNE is not installed: {name} is released without t-SNE", file=sys.stderr)
    arrays = encode_moments(run.snapshots)
    if with_tsne:
        arrays[EMBEDDING] = torch.as_tensor(evaluation.embedding(run)).float()
    methods = [method for method in evaluation.METHODS if with_tsne or "tsne" not in method]
    results = evaluation.results(run, methods=methods) | {"measures": evaluation.trajectory(run)}
    if run.config.held_out:
        results["detection"] = detection(run).to_dict("records")
    for split in ("train", "test"):
        results[f"distances_{split}"] = distances_of(run.moments(split)).tolist()
    results |= _compared(run)
    if with_features:
        encoded, errors = _encoded(run)
        arrays |= encoded
        results |= errors
    record = run.record | {"results": results, "released": provenance(torch.device("cpu"))}
    return _publish(name, arrays, record)


def _refuse_degenerate(run: Run) -> None:
    """Raise StoreError if features have one dimension, or the network maps all images to one point."""
    for split in ("train", "test"):
        h = run.features(split).h
        if h.shape[1] < 2:
            raise StoreError(
                f"run {run.key[:12]} is not released: its features have one dimension, and t-SNE needs "
                "two. Train a network of width 2 or more."
            )
        if torch.equal(h, h[:1].expand_as(h)):
            raise StoreError(
                f"run {run.key[:12]} is not released: all of its {split} features are equal, which leaves "
                "nothing to measure. Another lr or weight_decay may keep them apart."
            )


def _refuse_non_finite(record: Any, place: str = "") -> None:
    """Raise StoreError if a number in a record is infinite or undefined, naming where."""
    if isinstance(record, float) and not math.isfinite(record):
        raise StoreError(
            f"the run is not released: {place.removeprefix('/')} is {record}, and a released run holds "
            "finite numbers only. A network of another width, lr or weight_decay may have them."
        )
    parts = (
        dict(enumerate(record)) if isinstance(record, list) else record if isinstance(record, dict) else {}
    )
    for name, value in parts.items():
        _refuse_non_finite(value, f"{place}/{name}")


def _publish(name: str, arrays: dict[str, Tensor], record: dict[str, Any]) -> Path:
    """Write a released folder; it appears, or takes the place of an older one, when it is whole.

    Readers wait during the two renames of the latter; after a kill between them they find the older one
    where it then lies.
    """
    _refuse_non_finite(record)
    folder, partial, old = RELEASED / name, RELEASED / f".partial-{name}", RELEASED / (REPLACED + name)
    with storage_errors(folder):
        if old.exists() and not folder.exists():  # a process was killed between the two renames
            old.rename(folder)
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir(parents=True)
        write_tensors(partial / "arrays.safetensors", arrays)
        write_json(partial / "run.json", record | {"name": name})
        store.write_manifest(partial)
        with in_place(change=True):
            if folder.exists():
                folder.rename(old)
            partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    return folder


def add_features(run: ReleasedRun, source: Run) -> None:
    """Add features to a run that was released without some of them; its other results stay as they are.

    ``results["amended"]`` says when and by which commit.

    Parameters
    ----------
    run : a released run.
    source : the run of the store that it was made from.

    Raises
    ------
    StoreError : they are not the same run.
    """
    if run.key != source.key:
        raise StoreError(f"{run.folder.name} is run {run.key[:12]}; its features are not those of {source}")
    encoded, errors = _encoded(source)
    results = run.results | errors | {"amended": provenance(torch.device("cpu"))}
    _publish(run.folder.name, run.arrays | encoded, run.record | {"results": results})


def amend(run: ReleasedRun) -> None:
    """Add to a released run what earlier versions did not measure, from the features that it has.

    ``results["amended"]`` says when and by which commit.
    """
    results = run.results | _compared(run) | {"amended": provenance(torch.device("cpu"))}
    _publish(run.folder.name, run.arrays, run.record | {"results": results})


def _encoded(run: Run) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Features that are released with a run, encoded, and the results that state their errors."""
    images = task(run.config)[0].test.images
    train, test = run.features("train"), run.features("test")
    rows = stratified_rows(test.fine, REFERENCE_IMAGES)
    components = torch.as_tensor(pixel_components(images))[rows]
    sets = {
        "test": test,
        "train": of_rows(train, stratified_rows(train.fine, TRAIN_IMAGES)),
        "untrained": untrained(run, "test", rows),
        "pixels": replace(of_rows(test, rows), h=components),
    }
    arrays, errors = {}, {}
    for name, f in sets.items():
        encoded, errors[name] = encode_features(f, name)
        arrays |= encoded
    return arrays, {"feature_error": errors["test"], "feature_errors": errors}


def _compared(run: Run) -> dict[str, Any]:
    """Results that pixels and the untrained network are held beside."""
    distances = {split: pixel_distances(run, split).tolist() for split in ("train", "test")}
    return {"pixel_distances": distances, "neighbours": neighbours(run)}
