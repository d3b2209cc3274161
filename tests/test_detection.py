"""Outliers that a run meets, and their detection against the scores applied by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from nclib.config import recipe_config
from nclib.data.datasets import ImageSet, Splits, load
from nclib.measures.ood_scores import SCORES, detection_of, outlier_scores
from nclib.networks.features import features_of
from nclib.runs import detection
from nclib.runs.get import train_run

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def held_out_run(session_home):
    """Two epochs without the classes seven and nine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NCLIB_HOME", str(session_home))
        return train_run(recipe_config("digits", width=32, epochs=2, held_out=[7, 9]))


@pytest.fixture(autouse=True)
def no_other_data(monkeypatch):
    monkeypatch.setattr(detection, "missing_files", lambda name: [name])


class TestImages:
    def test_held_out_classes_are_those_that_training_lacked(self, held_out_run):
        images = detection.outlier_images(held_out_run)
        test = load("digits").test
        assert list(images) == ["noise", "held-out classes"]
        lacked = (test.labels == 7) | (test.labels == 9)
        assert torch.equal(images["held-out classes"], test.images[lacked])
        assert len(held_out_run.features("test").h) == len(test) - int(lacked.sum())

    def test_other_data_in_the_shape_of_the_network(self, tiny_run, monkeypatch):
        other = ImageSet(torch.full((5, 3, 32, 32), 9, dtype=torch.uint8), torch.zeros(5), ("x",))
        real = detection.load
        monkeypatch.setattr(detection, "missing_files", lambda name: [] if name == "svhn" else [name])
        monkeypatch.setattr(detection, "load", lambda n: Splits(other, other) if n == "svhn" else real(n))
        images = detection.outlier_images(tiny_run)
        assert list(images) == ["noise", "svhn"]
        assert torch.equal(images["svhn"], torch.full((5, 1, 8, 8), 9, dtype=torch.uint8))
        assert detection.absent_data(tiny_run) == ["fashion", "cifar10", "cifar100"]


class TestDetection:
    def test_every_score_with_every_labelling(self, held_out_run):
        rows = detection.detection(held_out_run)
        known = {(s, name) for s in detection.CLASS_SCORES for name in detection.LABELLINGS}
        expected = known | {(s, "none") for s in detection.PLAIN_SCORES}
        assert set(detection.CLASS_SCORES) | set(detection.PLAIN_SCORES) == set(SCORES)
        for kind, of_kind in rows.groupby("outliers"):
            assert set(zip(of_kind["score"], of_kind["labels"], strict=True)) == expected, kind
        assert rows[["auroc", "fpr95"]].map(lambda share: 0 <= share <= 1).all(axis=None)

    @pytest.mark.parametrize("name", ["labels of training", "true fine labels"])
    def test_is_the_score_applied_to_features(self, held_out_run, name):
        rows = detection.detection(held_out_run).set_index(["outliers", "score", "labels"])
        train, test = held_out_run.features("train"), held_out_run.features("test")
        images = detection.outlier_images(held_out_run)["held-out classes"]
        h = features_of(held_out_run.model(), images)
        labels = train.fine if name == "true fine labels" else train.coarse
        for score in ("gaussian", "nearest-mean"):
            inside, outside = (outlier_scores(train, x, labels)[score] for x in (test.h, h))
            row = rows.loc["held-out classes", score, name]
            assert row["n"] == len(h)
            assert {key: row[key] for key in ("auroc", "fpr95")} == pytest.approx(
                detection_of(inside, outside)
            )

    def test_fine_training_has_one_labelling(self, home):
        run = train_run(recipe_config("digits", width=16, epochs=1, grouping="none"))
        assert set(detection.detection(run)["labels"]) == {"none", "labels of training"}

    def test_released_run_answers_itself(self):
        row = {"outliers": "noise", "score": "knn", "labels": "none", "n": 3, "auroc": 0.5, "fpr95": 1.0}
        run = SimpleNamespace(results={"detection": [row]})
        pd.testing.assert_frame_equal(detection.detection(run), pd.DataFrame([row]))


def test_detections_name_run_and_seed(monkeypatch):
    monkeypatch.setattr(detection, "detection", lambda run: pd.DataFrame([{"auroc": run.auroc}]))
    runs = [SimpleNamespace(config=SimpleNamespace(seed=s), auroc=s / 10) for s in range(3)]
    rows = detection.detections({"a": runs[:2], "b": runs[2:]})
    assert rows[["trained on", "seed", "auroc"]].values.tolist() == [
        ["a", 0, 0.0],
        ["a", 1, 0.1],
        ["b", 2, 0.2],
    ]
