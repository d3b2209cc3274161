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
    "get_run": "runs",
    "get_runs": "runs",
    "get_cases": "runs",
    "Run": "run",
    "released_runs": "released",
    "released_cases": "released",
    "recipe_config": "config",
    "recipe_names": "config",
    "RunConfig": "config",
    "FeatureSet": "features",
    "extract": "features",
    "ClassMoments": "moments",
    "Moments": "moments",
    "collapse_metrics": "collapse",
    "nc_loss": "losses",
    "class_distances": "structure",
    "msdr": "structure",
    "explained_variance": "variance",
    "relative_distances": "structure",
    "neighbour_purity": "structure",
    "reconstruct_labels": "structure",
    "match_labels": "structure",
    "choose_k": "clusters",
    "linear_probe": "probe",
    "tsne": "embed",
}
_MODULES = (
    "baselines",
    "bench",
    "claims",
    "conditions",
    "config",
    "data",
    "elsewhere",
    "geometry",
    "notebook",
    "ood",
    "outliers",
    "perclass",
    "plots",
    "precision",
    "report",
    "synthetic",
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
