"""Publishing a run of the store under book/released."""

from __future__ import annotations

import json
from pathlib import Path

from nclib import report, store
from nclib.files import write_json, write_tensors
from nclib.paths import RELEASED
from nclib.released import encode_features
from nclib.run import Run


def release(run: Run, name: str, with_features: bool = True) -> Path:
    """Publish a finished run under ``book/released``.

    Parameters
    ----------
    run : a run of the store.
    name : of the new folder, for example "cifar10-laptop-seed0".
    with_features : whether the test features go with it; meant for one run per data set.

    Returns
    -------
    Folder that was written.
    """
    arrays, results = dict(run.snapshots), report.results(run)
    if with_features:
        encoded, results["feature_error"] = encode_features(run.features("test"))
        arrays |= encoded
    record = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    folder = RELEASED / name
    write_tensors(folder / "arrays.safetensors", arrays)
    write_json(folder / "run.json", record | {"results": results})
    store.write_manifest(folder)
    return folder
