"""``nclib doctor``: what this machine has, and what to do about what it lacks."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile

from nclib import config
from nclib.paths import data_root, home

PACKAGES = {  # distribution: what needs it, and how to install it
    "torch": ("everything", "pip install ."),
    "torchvision": ("downloaded data sets", "pip install ."),
    "scikit-learn": ("digits, clustering, probes", "pip install ."),
    "openTSNE": ("t-SNE", "pip install '.[tsne]'"),
    "papermill": ("nclib run", "pip install '.[run]'"),
    "jupyter-book": ("make book", "pip install '.[book]'"),
}


def diagnose() -> int:
    """Print what is there and what is not. Returns 0 if the quick tier can run, else 1."""
    print(f"Python {platform.python_version()} on {platform.platform()}")
    present = {name: _package(name) for name in PACKAGES}
    works = present["torch"] and present["scikit-learn"] and _store()
    if present["torch"] and present["scikit-learn"]:
        _device()
        for name in config.CHOICES["dataset"]:
            _dataset(name)
    return 0 if works else 1


def _line(good: bool, what: str, remedy: str = "") -> bool:
    print(f"[{'ok' if good else '--'}] {what}" + ("" if good else f"\n     {remedy}"))
    return good


def _package(name: str) -> bool:
    purpose, remedy = PACKAGES[name]
    try:
        return _line(True, f"{name} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
        return _line(False, f"{name} is not installed; needed for {purpose}", remedy)


def _store() -> bool:
    try:
        home().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home()):
            return _line(True, f"store {home()} can be written")
    except OSError as error:
        reason = error.strerror or error
        return _line(
            False, f"store {home()} cannot be written: {reason}", "set NCLIB_HOME to a folder that can"
        )


def _device() -> None:
    import torch

    if torch.cuda.is_available():
        _line(True, f"device {torch.cuda.get_device_name()}")
        return
    remedy = "the quick and laptop tiers do not need one; the paper tier does"
    _line(False, f"no CUDA device; training on {os.cpu_count()} cores", remedy)
    bf16 = any(has for name, has in torch.cpu.get_capabilities().items() if "bf16" in name)
    detail = "has" if bf16 else "lacks"
    remedy = "ResNets train faster with --set precision=fp32 here, which makes other runs than the released"
    _line(bf16, f"the processor {detail} instructions for bf16, the precision of most recipes", remedy)


def _dataset(name: str) -> None:
    from nclib.data import missing_files  # needs torch

    missing = missing_files(name)
    remedy = (
        f"downloaded to {data_root()} at first use when there is a network; or set NCLIB_DATA to a folder "
        "that has it in torchvision's layout"
    )
    detail = f"lacks {missing[0]}" if missing else "found"
    _line(not missing, f"data set {name}: {detail}", remedy)
