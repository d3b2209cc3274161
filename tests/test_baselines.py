"""The untrained network is the one that was measured, and all spaces hold the same images."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import nclib
from nclib.data.grouping import task
from nclib.measures.moments import Moments
from nclib.runs import baselines, publish
from nclib.runs.released import released_runs
from nclib.runs.rows import of_rows, stratified_rows

pytestmark = pytest.mark.numeric


class TestUntrained:
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_is_the_network_of_epoch_zero(self, tiny_run, split):
        f = baselines.untrained(tiny_run, split)
        kept = tiny_run.moments(split, 0)
        assert torch.allclose(Moments.of(f.h, f.fine).means, kept.means, rtol=1e-5, atol=1e-7)
        assert torch.allclose(f.weight.float(), tiny_run.head(0)[0].float())

    def test_some_rows(self, tiny_run):
        rows = torch.tensor([3, 100, 7])
        some, everything = (baselines.untrained(tiny_run, "test", r) for r in (rows, slice(None)))
        assert torch.allclose(some.h, everything.h[rows], atol=1e-6)
        assert some.fine.tolist() == everything.fine[rows].tolist()


class TestPixels:
    def test_distances_are_of_numbers_from_zero_to_one(self, tiny_run):
        images = task(tiny_run.config)[0].test
        x = images.images.double().flatten(1).numpy() / 255
        expected = nclib.class_distances(x, images.labels)
        assert torch.allclose(baselines.pixel_distances(tiny_run, "test"), expected, rtol=1e-6)

    def test_released_run_answers_itself(self):
        carried = {"pixel_distances": {"train": [[1.0]], "test": [[2.0]]}}
        run = SimpleNamespace(results=carried)
        assert baselines.pixel_distances(run, "test").tolist() == [[2.0]]

    def test_classes_held_out_are_absent(self, tiny_run):
        run = SimpleNamespace(results={}, config=replace(tiny_run.config, held_out=(9,)))
        assert baselines.pixel_distances(run, "test").shape == (9, 9)


class TestSpaces:
    def test_hold_the_same_images(self, tiny_run):
        found = baselines.spaces(tiny_run, "test")
        assert all(torch.equal(f.fine, found["features"].fine) for f in found.values())
        assert torch.equal(found["features"].h, tiny_run.features("test").h)
        assert {name: f.h.shape[1] for name, f in found.items()} == {
            "features": 32, "untrained": 32, "pixels": 64
        }  # fmt: skip

    def test_many_samples_are_thinned_out_alike(self, tiny_run, monkeypatch):
        monkeypatch.setattr(baselines, "NEIGHBOUR_SAMPLES", 50)
        found = baselines.spaces(tiny_run, "train")
        assert {len(f.h) for f in found.values()} == {50}
        images = task(tiny_run.config)[0].train
        x = baselines.pixels(images.images)
        rows = [int((x == row).all(dim=1).nonzero()[0]) for row in found["pixels"].h]
        assert torch.equal(tiny_run.features("train").h[rows], found["features"].h)

    def test_of_a_released_run_need_no_data_set(self, tiny_run, monkeypatch):
        kept = {"features": tiny_run.features("test")}
        run = SimpleNamespace(references=kept)
        monkeypatch.setattr(baselines, "task", None)
        assert baselines.spaces(run, "test") == kept

    def test_of_a_part_of_train_are_of_the_same_images(self, tiny_run):
        """As of a released run, which has features of some of the training images."""
        rows = stratified_rows(tiny_run.features("train").fine, 200)
        some = of_rows(tiny_run.features("train"), rows)
        run = SimpleNamespace(config=tiny_run.config, references={}, features=lambda split: some)
        found = baselines.spaces(run, "train")
        everything = baselines.spaces(tiny_run, "train")
        assert len(rows) == 200
        for name, f in found.items():
            assert torch.allclose(f.h, everything[name].h[rows], atol=1e-6)


def test_stratified_rows_are_those_of_the_images(tiny_run):
    images = task(tiny_run.config)[0].train
    rows = stratified_rows(images.labels, 300)
    assert torch.equal(images.stratified(300).images, images.images[rows])


@pytest.fixture(scope="module")
def found(tiny_run) -> dict:
    return baselines.neighbours(tiny_run)


class TestNeighbours:
    def test_is_plain_json(self, found):
        assert json.loads(json.dumps(found)) == found

    def test_is_the_purity_of_features(self, found, tiny_run):
        f = tiny_run.features("test")
        purity = nclib.neighbour_purity(f.h, f.fine, f.coarse)
        assert found["test"]["all"]["features"] == pytest.approx(purity.mean())
        assert found["test"]["features"][4] == pytest.approx(purity[f.fine.numpy() == 4].mean())
        assert found["test"]["n"] == 360

    def test_lies_above_chance(self, found):
        for split in ("train", "test"):
            assert all(found[split]["chance"] < purity <= 1 for purity in found[split]["all"].values())

    def test_released_run_answers_itself(self):
        carried = {"k": 10}
        run = SimpleNamespace(results={"neighbours": carried})
        assert baselines.neighbours(run) is carried


def test_amending_adds_what_a_release_lacked(tiny_run, released, monkeypatch):
    monkeypatch.setattr(publish.evaluation, "results", lambda *_, **__: {"probe": 0.5})
    folder = publish.release(tiny_run, "tiny", with_tsne=False)
    (complete,) = released_runs()
    record = json.loads((folder / "run.json").read_text())
    for name in ("neighbours", "pixel_distances"):
        del record["results"][name]
    publish.write_json(folder / "run.json", record)
    publish.store.write_manifest(folder)
    publish.amend(*released_runs())
    (amended,) = released_runs()
    assert amended.results["pixel_distances"] == complete.results["pixel_distances"]
    ours, theirs = (r.results["neighbours"]["test"]["all"] for r in (amended, complete))
    assert ours == pytest.approx(theirs, abs=0.002)  # features were rounded
    assert amended.results["neighbours"]["train"]["n"] == 1437
    assert amended.results["probe"] == 0.5
    assert amended.results["amended"]["commit"]
    assert np.isfinite(amended.results["pixel_distances"]["train"]).all()
