"""What training costs here: how long a run is expected to take, and how far an unfinished one is."""

from __future__ import annotations

import pytest

from nclib.config import recipe_config
from nclib.data import datasets
from nclib.runs import cost
from nclib.runs.released import released_runs
from nclib.storage import store
from nclib.storage.files import write_tensors


def test_numbers_and_shapes_of_images():
    assert set(cost.IMAGES) == set(datasets.dataset_names())
    train, test = datasets.load("digits")
    assert cost.IMAGES["digits"] == (len(train), len(test), tuple(train.images.shape[1:]))
    for run in (run for run in released_runs() if not run.config.held_out):
        counts = tuple(int(run.moments(split).counts.sum()) for split in ("train", "test"))
        assert cost.IMAGES[run.config.dataset] == (*counts, run.image_shape)


def test_seconds_grow_with_epochs_and_images(monkeypatch):
    monkeypatch.setattr(cost, "_speed", lambda *_: {"training": 100.0, "features": 1000.0})
    config = recipe_config("fashion-laptop", epochs=1)  # measured at epoch 0 and at the end
    assert cost.seconds(config) == pytest.approx(60_000 / 100 + 20_000 / 1000 + 70_000 / 1000)


def test_speed_is_measured():
    speed = cost._speed("resnet18", 2, (1, 8, 8), 16, "fp32")
    assert speed["training"] > 0 and speed["features"] > 0


@pytest.mark.parametrize("metadata, epoch", [({"epoch": "12"}, 12), ({"epoch": "x"}, 0), ({}, 0)])
def test_epoch_reached_is_that_of_the_checkpoint(home, metadata, epoch):
    config = recipe_config("digits")
    assert cost.epoch_reached(config) == 0
    file = store.unfinished_folder(store.run_key(config)) / "state.safetensors"
    write_tensors(file, {}, metadata)
    assert cost.epoch_reached(config) == epoch
    file.write_bytes(b"no checkpoint")
    assert cost.epoch_reached(config) == 0
