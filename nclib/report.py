"""The numbers of a run that the chapters state: one function from a run to plain, JSON-ready results.

    results(run)["reconstruction"]["tsne-kmeans"]["train"]      # accuracy of the reconstructed labels

A released run carries its results; for a run of the store they are computed from its features.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from nclib.features import FeatureSet
from nclib.probe import linear_probe
from nclib.run import Run
from nclib.structure import match_labels, reconstruct_labels

METHODS = ("kmeans", "tsne-kmeans")
METHOD_NAMES = {"kmeans": "2-means", "tsne-kmeans": "t-SNE + 2-means"}


def results(run: Run, k: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Reconstruction and probes of a run.

    Parameters
    ----------
    run : of the store, or released; a released run answers only for its own ``k``.
    k : clusters inside each super-class; by default as many as it has fine classes.
    seed : of the clustering and of t-SNE.

    Returns
    -------
    dict : "reconstruction" gives per method the share of samples whose reconstructed label is right,
    "train" and "test", each split clustered by itself inside its true coarse labels and matched
    one to one; "probe", the test accuracy on true fine labels of a linear probe trained on the
    labels reconstructed on train; "confusion", the (C, C) counts of true against reconstructed
    labels on train. "probe" and "probe_per_class" are those of a linear probe trained on true labels.
    "chance" is the accuracy of reconstructed labels drawn at random. "seconds" is the time all this took.
    """
    if run.released and k is None:
        return run.results
    start = time.perf_counter()
    train, test = run.features("train"), run.features("test")
    clusters = k or fine_per_coarse(run)
    probe = linear_probe(train.h, train.fine)
    return {
        "reconstruction": {
            method: _reconstruction(train, test, clusters, method, seed) for method in METHODS
        },
        "probe": probe.accuracy(test.h, test.fine),
        "probe_per_class": [float(a) for a in probe.per_class_accuracy(test.h, test.fine)],
        "chance": chance_accuracy(train, clusters, seed),
        "seconds": time.perf_counter() - start,
    }


def fine_per_coarse(run: Run) -> list[int]:
    """Number of fine classes in every super-class."""
    return [len(run.grouping.members(c)) for c in range(run.grouping.num_coarse)]


def chance_accuracy(f: FeatureSet, k: int | Sequence[int], seed: int = 0) -> float:
    """Accuracy of labels drawn at random inside each super-class, after the same matching."""
    clusters = np.broadcast_to(k, len(f.weight))
    random = np.random.default_rng(seed).random(len(f.h))
    offset = np.concatenate([[0], np.cumsum(clusters)[:-1]])
    coarse = f.coarse.numpy()
    pseudo = offset[coarse] + (random * clusters[coarse]).astype(np.int64)
    return match_labels(pseudo, f.fine).accuracy


def _reconstruction(
    train: FeatureSet, test: FeatureSet, k: int | Sequence[int], method: str, seed: int
) -> dict[str, Any]:
    on_train, on_test = (
        match_labels(reconstruct_labels(f.h, f.coarse, k, method, seed), f.fine)
        for f in (train, test)
    )
    named = on_train.labels >= 0  # clusters beyond the number of classes have no name
    probe = linear_probe(train.h[named], on_train.labels[named])
    return {
        "train": on_train.accuracy,
        "test": on_test.accuracy,
        "probe": probe.accuracy(test.h, test.fine),
        "confusion": confusion_matrix(train.fine, on_train.labels).tolist(),
    }
