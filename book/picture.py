"""Draw the picture of the README from a released run: ``python book/picture.py``."""

from nclib import released_runs
from nclib.chapters import figures
from nclib.paths import REPOSITORY
from nclib.runs import evaluation

run = next(run for run in released_runs() if run.folder.name == "cifar10-unaugmented-seed0")
axes = figures.embeddings_figure(evaluation.embedding(run), run.features("test").fine, run.grouping)
axes.figure.savefig(REPOSITORY / "book" / "_static" / "fine-structure.png", dpi=110, facecolor="white")
