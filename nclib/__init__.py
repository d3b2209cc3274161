"""Fine structure under neural collapse: train on coarse labels, find the fine ones again.

    import nclib

    run = nclib.get_run("digits", seed=0)
    pseudo = nclib.reconstruct_labels(run.features("train").h, run.features("train").coarse)

Importing nclib loads nothing heavy: torch and scikit-learn come with the first function that needs them.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

__version__ = "0.1.0"

# OpenMP threads that spin while they wait slow training down up to twofold on a shared machine. Read once,
# when torch loads its runtime; set one of them yourself to have it otherwise.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_HOME = {  # public name: module that holds it
    "get_run": "runs.get",
    "get_runs": "runs.get",
    "get_cases": "runs.get",
    "Run": "runs.run",
    "released_runs": "runs.released",
    "released_cases": "runs.released",
    "recipe_config": "config",
    "recipe_names": "config",
    "RunConfig": "config",
    "FeatureSet": "networks.features",
    "extract": "networks.features",
    "LabelledFeatures": "storage.feature_files",
    "load_features": "storage.feature_files",
    "save_features": "storage.feature_files",
    "FeatureShards": "storage.shards",
    "save_moments": "storage.moment_files",
    "load_moments": "storage.moment_files",
    "ClassMoments": "measures.moments",
    "Moments": "measures.moments",
    "collapse_metrics": "measures.collapse",
    "nc_loss": "training.losses",
    "class_distances": "measures.distances",
    "msdr": "measures.distances",
    "explained_variance": "measures.variance",
    "explained_variance_test": "measures.significance",
    "explained_variance_null": "measures.significance",
    "relative_distances": "measures.distances",
    "neighbour_purity": "measures.neighbours",
    "reconstruct_labels": "measures.reconstruction",
    "match_labels": "measures.reconstruction",
    "choose_k": "measures.cluster_number",
    "subpopulations": "measures.subpopulations",
    "linear_probe": "measures.probe",
    "principal_components": "measures.principal_components",
    "tsne": "measures.embedding",
}
_MODULES = (
    "bench",
    "chapters",
    "config",
    "data",
    "measures",
    "networks",
    "notebook",
    "report",
    "runs",
    "storage",
    "theory",
    "training",
)

__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"nclib.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"nclib.{name}")
    else:
        raise AttributeError(f"module 'nclib' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
