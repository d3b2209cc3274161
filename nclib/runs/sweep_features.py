"""A job of a sweep that writes features of one run into a file, see ``workflow/rules/features.smk``.

python -m nclib.runs.sweep_features KEY SPLIT EPOCH FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

from nclib.errors import status_of
from nclib.runs.run import Run
from nclib.storage import store
from nclib.storage.feature_files import save_features


def write_features(run: Run, split: str, epoch: int, file: Path) -> None:
    """Write features, super-classes and logits of a split at a measured epoch, -1 is the last.

    Raises
    ------
    StoreError : a file that cannot be written.
    """
    f = run.features(split, epoch)
    save_features(file, f.h, f.coarse, logits=f.logits(), class_names=run.grouping.coarse_names)


def main() -> int:
    """What the process does."""
    key, split, epoch, file = sys.argv[1:]
    return status_of(lambda: write_features(Run(store.verified(key)), split, int(epoch), Path(file)))


if __name__ == "__main__":
    sys.exit(main())
