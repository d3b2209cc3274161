"""``nclib doctor``: what this machine has, and what to do about what it lacks."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
import tempfile

from nclib import config
from nclib.errors import ConfigError, StoreError, printable
from nclib.notebook import NO_CHAPTERS
from nclib.paths import NOTEBOOKS, data_root, home
from nclib.runs.priority import processors

PACKAGES = {  # distribution: what needs it, and how to install it
    "torch": ("everything", "pip install ."),
    "torchvision": ("downloaded data sets", "pip install ."),
    "scikit-learn": ("clustering, probes", "pip install ."),
    "openTSNE": ("t-SNE", "pip install '.[tsne]'"),
    "papermill": ("nclib run", "pip install '.[run]'"),
    "jupyter-book": ("make book", "pip install '.[book]'"),
}
STORE_REMEDY = "set NCLIB_HOME to a folder that can be written"
DEVICE_REMEDY = "unset NCLIB_DEVICE, or set it to cpu"


def diagnose() -> int:
    """Print what is there and what is not, and last the one thing to do next.

    Returns
    -------
    0 if the quick tier can run, else 1.
    """
    print(f"Python {platform.python_version()} on {platform.platform()}")
    missing = [name for name in PACKAGES if not _package(name)]
    writable = _store()
    computes = not {"torch", "scikit-learn"} & set(missing)
    usable = computes and _device()
    if computes:
        _datasets()
    print(f"\nNext: {_next_step(missing, writable, usable)}")
    return 0 if writable and usable else 1


def _next_step(missing: list[str], writable: bool, usable: bool) -> str:
    if missing:
        purpose, remedy = PACKAGES[missing[0]]
        return f"{remedy}    # {missing[0]}, for {purpose}"
    if not writable:
        return STORE_REMEDY
    if not usable:
        return DEVICE_REMEDY
    if not NOTEBOOKS.is_dir():
        return f"work on your own features, or get the book: {NO_CHAPTERS}"
    return (
        "nclib run 01 --html 01.html    # the first chapter, for a browser; nothing that it needs is missing"
    )


def _line(good: bool, what: str, remedy: str = "") -> bool:
    print(printable(f"[{'ok' if good else '--'}] {what}" + ("" if good else f"\n     {remedy}")))
    return good


def _package(name: str) -> bool:
    purpose, remedy = PACKAGES[name]
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return _line(False, f"{name} is not installed; needed for {purpose}", remedy)
    if name == "torchvision" and not _torchvision_loads():
        what = f"torchvision {version} was built for another torch: `import torchvision` fails"
        _line(False, what, "nclib works around it; install torch and torchvision with one pip call")
        return True
    return _line(True, f"{name} {version}")


def _torchvision_loads() -> bool:
    """Whether it can be imported by itself, asked of another process, since this one may have mended it."""
    command = [sys.executable, "-c", "import torchvision"]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def _store() -> bool:
    try:
        with tempfile.TemporaryFile(dir=next(p for p in (home(), *home().parents) if p.exists())):
            return _line(True, f"store {home()} can be written")
    except StoreError as error:
        return _line(False, f"store cannot be written: {error}", STORE_REMEDY)
    except OSError as error:
        return _line(False, f"store {home()} cannot be written: {error.strerror or error}", STORE_REMEDY)


def _device() -> bool:
    """Whether there is a device to train on, which only a wrong NCLIB_DEVICE prevents."""
    import torch

    from nclib.training.loop import default_device

    try:
        default_device()
    except ConfigError as error:
        return _line(False, str(error), DEVICE_REMEDY)
    if torch.cuda.is_available():
        return _line(True, f"device {torch.cuda.get_device_name()}")
    remedy = "the quick and laptop tiers do not need one; the paper tier does"
    _line(False, f"no CUDA device; training on {processors()} cores", remedy)
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.11
        return True
    bf16 = any(has for name, has in torch.cpu.get_capabilities().items() if "bf16" in name)
    detail = "has" if bf16 else "lacks"
    remedy = "ResNets train faster with --set precision=fp32 here, which makes other runs than the released"
    _line(bf16, f"the processor {detail} instructions for bf16, the precision of most recipes", remedy)
    return True


def _datasets() -> None:
    from nclib.data.datasets import missing_files

    try:
        data_root()
    except StoreError as error:
        _line(False, "data sets cannot be looked for", str(error))
        return
    names = config.CHOICES["dataset"]
    absent = [name for name in names if missing_files(name)]
    _line(True, f"data sets: {', '.join(name for name in names if name not in absent)}")
    if absent:
        place = f"not in {data_root()}"
        remedy = "downloaded when first asked for, or set NCLIB_DATA"
        print(printable(f"[--] {place}: {', '.join(absent)}; {remedy}"))
