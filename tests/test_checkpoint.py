"""Checkpoints: only a whole one of this very run is continued; any other is set aside."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress

import pytest
import torch

from nclib import cli
from nclib.config import RunConfig
from nclib.runs import get
from nclib.runs.run import Run
from nclib.storage import store
from nclib.storage.files import Damaged, read_tensors, write_tensors
from nclib.training import loop
from nclib.training.loop import CHECKPOINT, train

FIELDS = {"arch": "mlp", "width": 8, "epochs": 4, "precision": "fp32", "deterministic": True}
CONFIG = RunConfig(**FIELDS)


@pytest.fixture(scope="module")
def whole():
    """What the run is that was never interrupted."""
    return train(CONFIG)


@pytest.fixture
def interrupted(home, monkeypatch):
    """Train a configuration into the folder of its key, or another, until it is killed in an epoch."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)

    def interrupted(config=CONFIG, dies_in=3, folder=None):
        real = loop.Training.train_epoch

        def train_epoch(self, epoch, bar):
            if epoch == dies_in:
                raise KeyboardInterrupt
            return real(self, epoch, bar)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(loop.Training, "train_epoch", train_epoch)
            train(config, folder or store.unfinished_folder(store.run_key(config)))

    return interrupted


@pytest.fixture
def folder(interrupted):
    """Of an unfinished run that reached epoch 2."""
    interrupted()
    return store.unfinished_folder(store.run_key(CONFIG))


def assert_begins_anew(folder, whole, capsys, reason):
    """Training says why it does not go on, keeps the checkpoint aside, and ends as if there had been none."""
    found = sorted(path.name for path in folder.iterdir())
    run = get.train_run(CONFIG)
    said = capsys.readouterr().err
    assert reason in said and "training begins anew" in said
    (aside,) = folder.parent.glob(f"{folder.name}-*")
    assert str(aside) in said
    assert sorted(path.name for path in aside.iterdir()) == found
    assert run.history == whole.history
    assert all(torch.equal(t, run.model().state_dict()[name]) for name, t in whole.model.state_dict().items())
    assert aside in store.leftovers()


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"lr": 0.01}, {"loss": "mse"}, {"epochs": 3}, {"width": 4}], ids=str
)
def test_of_another_run_is_not_continued(interrupted, folder, whole, capsys, other):
    shutil.rmtree(folder)
    interrupted(RunConfig(**FIELDS | other), folder=folder)
    (name, value), mine = *other.items(), FIELDS | {"seed": 0, "lr": 0.1, "loss": "cross-entropy"}
    assert_begins_anew(folder, whole, capsys, f"{name}={value!r} instead of {mine[name]!r}")


def test_of_another_version_is_not_continued(interrupted, folder, whole, capsys):
    """The same configuration under the key that other sources gave it."""
    shutil.rmtree(folder)
    interrupted(folder=folder.with_name("0" * 64))
    folder.with_name("0" * 64).rename(folder)
    assert_begins_anew(folder, whole, capsys, "it was written for 000000000000")


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\xff" * 100], ids=["empty", "text", "huge"])
def test_damaged_is_set_aside(folder, whole, capsys, content):
    (folder / CHECKPOINT).write_bytes(content)
    assert_begins_anew(folder, whole, capsys, "is damaged")


def test_every_flip_in_the_header_is_noticed(folder):
    file = folder / CHECKPOINT
    content = file.read_bytes()
    tensors, metadata = read_tensors(file)
    for place in range(0, 8 + int.from_bytes(content[:8], "little"), 7):
        for bit in (1, 16):
            flipped = bytearray(content)
            flipped[place] ^= bit
            file.write_bytes(flipped)
            try:
                now, said = read_tensors(file)
            except Damaged:
                continue
            assert said == metadata and now.keys() == tensors.keys()  # white space alone


def emptied(tensors, metadata, state):
    state["history"] = []


def doubled(tensors, metadata, state):
    state["history"] *= 2


def unmeasured(tensors, metadata, state):
    del state["history"][1]["test_accuracy"]


def without_momentum(tensors, metadata, state):
    for name in [name for name in tensors if name.startswith("momentum/")]:
        del tensors[name]


def without_moments(tensors, metadata, state):
    del tensors["snapshots/1/train/means"]


def of_another_shape(tensors, metadata, state):
    tensors["model/head.bias"] = torch.zeros(3)


def without_state(tensors, metadata, state):
    state.clear()


@pytest.mark.parametrize(
    ("change", "reason"),
    [(emptied, "its history"), (doubled, "its history"), (unmeasured, "what was measured"),
     (without_momentum, "its momentum"), (without_moments, "the moments of epochs [0, 1, 2]"),
     (of_another_shape, "other parameters"), (without_state, "not a checkpoint of this version")],
)  # fmt: skip
def test_incomplete_is_set_aside(folder, whole, capsys, change, reason):
    """Although its checksum is right."""
    tensors, metadata = read_tensors(folder / CHECKPOINT)
    state = json.loads(metadata["state"])
    change(tensors, metadata, state)
    write_tensors(folder / CHECKPOINT, tensors, metadata | {"state": json.dumps(state)})
    assert_begins_anew(folder, whole, capsys, reason)


@pytest.mark.parametrize("change", ["lost", "flipped", "another epoch's"])
def test_kept_weights_that_changed(folder, whole, capsys, change):
    file = folder / "weights-00001.safetensors"
    if change == "lost":
        file.unlink()
    elif change == "flipped":
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    else:
        shutil.copy(folder / "weights-00002.safetensors", file)
    assert_begins_anew(folder, whole, capsys, "weights-00001.safetensors")


def test_files_of_another_run_are_not_stored(folder):
    shutil.copy(folder / "weights-00001.safetensors", folder / "weights-00077.safetensors")
    run = get.train_run(CONFIG)
    assert not (run.folder / "weights-00077.safetensors").exists()
    assert store.damage(run.folder) is None


@pytest.mark.parametrize("fields", [{"momentum": 0.0}, {"loss": "nc"}, {"loss": "nc-without-nc2"}], ids=str)
def test_of_this_run_is_continued(interrupted, fields, capsys):
    """Also where there is no momentum, or none of a parameter that the loss does not see."""
    config = RunConfig(**FIELDS | fields)
    interrupted(config)
    run = get.train_run(config)
    assert "anew" not in capsys.readouterr().err
    assert [attempt["first_epoch"] for attempt in run.provenance["attempts"]] == [0, 3]


def test_attempts_are_recorded(interrupted, monkeypatch):
    """What each was made with: threads do not change a run's key."""
    key = store.run_key(CONFIG)
    real = loop.Training.train_epoch
    for threads, dies_in in ((1, 2), (2, 4), (1, None)):

        def train_epoch(self, epoch, bar, dies_in=dies_in):
            if epoch == dies_in:
                raise KeyboardInterrupt
            return real(self, epoch, bar)

        monkeypatch.setattr(loop.Training, "train_epoch", train_epoch)
        monkeypatch.setattr(get, "training_threads", lambda *_, threads=threads: threads)
        with suppress(KeyboardInterrupt):
            get.train_run(CONFIG)
    attempts = Run(store.verified(key)).provenance["attempts"]
    assert [(each["threads"], each["first_epoch"]) for each in attempts] == [(1, 0), (2, 2), (1, 4)]
    assert all({"commit", "device", "torch", "started"} <= each.keys() for each in attempts)


def test_gc_deletes_what_was_set_aside(folder, capsys):
    (folder / CHECKPOINT).write_bytes(b"")
    get.train_run(CONFIG)
    assert cli.main(["gc"]) == 0
    assert list(folder.parent.iterdir()) == []


def test_a_foreign_file_beside_it_stays(folder, capsys):
    (folder / "notes.txt").write_text("mine")
    (folder / CHECKPOINT).write_bytes(b"")
    run = get.train_run(CONFIG)
    assert store.damage(run.folder) is None
    assert cli.main(["gc", "--stale"]) == 0
    assert (folder / "notes.txt").read_text() == "mine"
