"""Draw the picture of the README from a released run: ``python book/picture.py``."""

from nclib import plots, released_runs, report
from nclib.paths import REPOSITORY

run = next(run for run in released_runs() if run.folder.name == "cifar10-unaugmented-seed0")
axes = plots.embeddings(report.embedding(run), run.features("test").fine, run.grouping)
axes.figure.savefig(REPOSITORY / "book" / "_static" / "fine-structure.png", dpi=110, facecolor="white")
