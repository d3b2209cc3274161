"""Which code computes: a fingerprint of the package and of what it computes with. Loads none of it."""

from __future__ import annotations

import hashlib
import importlib.metadata
from functools import cache

from nclib.paths import PACKAGE

COMPUTING = ("numpy", "openTSNE", "scikit-learn", "scipy", "torch")  # distributions


@cache
def fingerprint() -> str:
    """Hash of the package's sources, recipes among them, and of the versions of what it computes with."""
    digest = hashlib.sha256()
    for path in sorted(path for end in ("py", "toml") for path in PACKAGE.rglob(f"*.{end}")):
        digest.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes() + b"\0")
    for name in COMPUTING:
        digest.update(f"{name} {_version(name)}\n".encode())
    return digest.hexdigest()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"
