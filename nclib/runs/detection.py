"""How well the scores of ``nclib.measures.ood_scores`` detect out-of-distribution (OOD) samples.

rows = detection(run)       # one for each kind of OOD samples, score and labelling
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from nclib.data.datasets import load, missing_files
from nclib.measures.ood_scores import SCORES, detection_of, noise_like, outlier_scores, resized
from nclib.measures.reconstruction import reconstruct_labels
from nclib.networks.features import FeatureSet, features_of
from nclib.paths import data_root
from nclib.runs.evaluation import fine_per_coarse
from nclib.runs.run import Run

OTHER_DATA = ("fashion", "svhn", "cifar10", "cifar100")
CLASS_SCORES = ("nearest-mean", "gaussian", "gmm", "neco")  # those that know classes
PLAIN_SCORES = tuple(name for name in SCORES if name not in CLASS_SCORES)
LABELLINGS = ("labels of training", "labels found again", "true fine labels")


def outlier_images(run: Run) -> dict[str, Tensor]:
    """Test images from outside the training distribution, in the shape that the network takes.

    Returns
    -------
    dict by name of (N, C, H, W) uint8: Gaussian noise with the pixels' mean and spread; the classes held
        out, if there are; the test images of each other data set that is on this machine.
    """
    test = load(run.config.dataset).test
    images = {"noise": noise_like(test.images, seed=0)}
    if run.config.held_out:
        images["held-out classes"] = test.of_classes(run.config.held_out).images
    absent = absent_data(run)
    others = [name for name in OTHER_DATA if name != run.config.dataset and name not in absent]
    return images | {name: _test_images(name, tuple(run.image_shape), data_root()) for name in others}


@cache
def _test_images(dataset: str, shape: tuple[int, ...], root: Path) -> Tensor:
    """Resized test images of a data set under ``root``; reading it takes longer than many a run's scores."""
    return resized(load(dataset).test.images, shape)


def absent_data(run: Run) -> list[str]:
    """Data sets that would serve as OOD samples and are not on this machine."""
    return [name for name in OTHER_DATA if name != run.config.dataset and missing_files(name)]


def detection(run: Run) -> pd.DataFrame:
    """Detection of all OOD samples by all scores; a run that was published with it carries it.

    Returns
    -------
    a row for each: "outliers", "score", "labels" (one of ``LABELLINGS``, or "none" where the score knows
    no classes), "auroc" and "fpr95" as ``nclib.measures.ood_scores.detection_of`` defines them, "n", the
    number of OOD samples.
    """
    if "detection" in run.results:
        return pd.DataFrame(run.results["detection"])
    train, test = run.features("train"), run.features("test")
    model = run.model()
    outside = {name: features_of(model, images) for name, images in outlier_images(run).items()}
    rows = _rows(train, test.h, outside, "none", None, PLAIN_SCORES)
    for name, labels in labellings(run, train).items():
        rows += _rows(train, test.h, outside, name, labels, CLASS_SCORES)
    return pd.DataFrame(rows)


def detections(runs_of: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """``detection`` of several runs of each name, with that name as "trained on", and "seed"."""
    return pd.concat(
        detection(run).assign(**{"trained on": name, "seed": run.config.seed})
        for name, runs in runs_of.items()
        for run in runs
    )


def labellings(run: Run, train: FeatureSet) -> dict[str, Tensor]:
    """Class labels of the training features, by name; only the first if training knew the fine ones."""
    clusters = fine_per_coarse(run)
    if max(clusters) == 1:
        return {LABELLINGS[0]: train.coarse}
    found = torch.as_tensor(reconstruct_labels(train.h, train.coarse, clusters, "kmeans"))
    return dict(zip(LABELLINGS, (train.coarse, found, train.fine), strict=True))


def _rows(
    train: FeatureSet,
    inside: Tensor,
    outside: Mapping[str, Tensor],
    name: str,
    labels: Tensor | None,
    scores: Sequence[str],
) -> list[dict[str, object]]:
    sizes = [len(inside), *(len(h) for h in outside.values())]
    everything = outlier_scores(train, torch.cat([inside, *outside.values()]), labels, scores)
    rows = []
    for score, values in everything.items():
        within, *others = torch.as_tensor(values).split(sizes)
        for kind, beyond in zip(outside, others, strict=True):
            row = {"outliers": kind, "score": score, "labels": name, "n": len(beyond)}
            rows.append(row | detection_of(within, beyond))
    return rows
