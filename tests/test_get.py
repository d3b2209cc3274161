"""Getting runs: from the store, released, or trained; by one process or by two."""

from __future__ import annotations

import json
import os
import re
import shutil
import time

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY
from sklearn.decomposition import PCA

import nclib
from nclib.config import RunConfig, recipe_config
from nclib.data.grouping import task
from nclib.errors import ConfigError, StoreError
from nclib.runs import evaluation, get, priority, publish
from nclib.runs.publish import release
from nclib.runs.released import find_released, released_runs
from nclib.runs.rows import stratified_rows
from nclib.storage import store


@pytest.fixture
def published(released, tiny_run, monkeypatch):
    """``tiny_run`` released as "tiny", with results and an embedding that cost no time."""
    monkeypatch.setattr(evaluation, "results", lambda run, methods: {"probe": 0.5, "methods": list(methods)})
    monkeypatch.setattr(evaluation, "embedding", lambda run: np.arange(720.0).reshape(360, 2))
    return release(tiny_run, "tiny")


class TestGetRun:
    def test_from_the_store(self, stored, released, no_training):
        run = nclib.get_run("digits", **TINY)
        assert run.folder == stored.folder
        assert not run.released

    def test_store_goes_before_released(self, stored, published, no_training):
        assert nclib.get_run("digits", **TINY).folder == stored.folder

    def test_released_goes_before_training(self, home, published, no_training):
        run = nclib.get_run("digits", **TINY)
        assert run.released
        assert run.folder == published
        assert not home.exists()

    def test_trains_where_there_is_neither(self, home, released, tiny_run):
        run = nclib.get_run("digits", **TINY)
        assert run.folder == home / "runs" / tiny_run.key
        assert run.history == tiny_run.history

    def test_released_run_can_be_refused(self, home, published, tiny_run):
        assert not nclib.get_run("digits", released=False, **TINY).released

    def test_another_seed_is_another_run(self, stored, published, tiny_config):
        assert get.find_run(nclib.recipe_config("digits", **TINY, seed=1)) is None

    def test_bad_field_costs_nothing(self, home, no_training):
        with pytest.raises(ConfigError, match="did you mean 'epochs'"):
            nclib.get_run("digits", epoch=1)
        assert not home.exists()


class TestRun:
    def test_provenance(self, tiny_run):
        assert tiny_run.provenance["torch"] == torch.__version__
        assert tiny_run.provenance["threads"] == 1  # of a perceptron, however many there are
        assert tiny_run.provenance["seconds"] > 0
        assert {"commit", "nclib", "python", "device", "started"} <= set(tiny_run.provenance)

    def test_model_gives_the_features(self, tiny_run):
        images = nclib.data.load("digits").test.images
        with torch.no_grad():
            h = tiny_run.model().features(images)
        torch.testing.assert_close(h, tiny_run.features("test").h)

    def test_head_is_the_models(self, tiny_run):
        weight, bias = tiny_run.head()
        assert torch.equal(weight, tiny_run.model().head.weight)
        assert torch.equal(bias, tiny_run.model().head.bias)

    def test_unknown_split_lists_both(self, tiny_run):
        for read in (tiny_run.features, tiny_run.moments):
            with pytest.raises(ValueError, match="'valid'; allowed: train, test"):
                read("valid")

    def test_unmeasured_epoch_lists_the_measured(self, tiny_run):
        with pytest.raises(ValueError, match="epoch 7 was not measured; measured: 0, 1, 2, 3"):
            tiny_run.moments("train", 7)


class TestMeasuredEpochs:
    """What a run keeps of the way: here a hundred images of train are followed."""

    @pytest.fixture(params=["mlp", "resnet18"])
    def run(self, home, request, monkeypatch):
        monkeypatch.setattr(nclib.data.datasets, "FOLLOWED", 100)
        fields = {"arch": request.param, "width": 4, "epochs": 2, "precision": "fp32", "batch_size": 256}
        return nclib.get_run("digits", **fields)

    def test_features_are_those_of_the_weights_and_give_the_moments(self, run):
        train, test = nclib.data.load("digits")
        for epoch in (0, 1):
            for split, images in (("train", train.stratified(100)), ("test", test)):
                f = run.features(split, epoch)
                with torch.no_grad():
                    h = run.model(epoch).features(images.images)
                torch.testing.assert_close(f.h, h, rtol=1e-4, atol=1e-5)
                assert torch.equal(f.fine, images.labels)
                moments = run.moments(split, epoch)
                assert torch.equal(moments.counts, torch.bincount(images.labels))
                torch.testing.assert_close(moments.means[3], f.h[f.fine == 3].double().mean(0))
                assert torch.equal(f.weight, run.model(epoch).head.weight)

    def test_the_end_is_of_all_images(self, run):
        assert len(run.features("train").h) == len(run.features("train", 2).h) == 1437

    def test_the_network_changed_on_the_way(self, run):
        first, between, last = (run.model(epoch).head.weight for epoch in (0, 1, 2))
        assert not torch.equal(first, between) and not torch.equal(between, last)

    def test_features_that_are_cheap_are_not_kept(self, run):
        kept = (run.folder / "features-00001.safetensors").exists()
        assert kept == (run.config.arch == "resnet18")

    def test_seeds_trained_together_keep_their_weights(self, home):
        a, b = nclib.get_runs("digits", [0, 1], loss="nc", width=8, epochs=2)
        assert a.provenance["together"] in (1, 2)
        with torch.no_grad():
            h = b.model(1).features(nclib.data.load("digits").test.images)
        torch.testing.assert_close(b.features("test", 1).h, h)
        assert not torch.equal(a.model(1).head.weight, b.model(1).head.weight)
        assert list((home / "checkpoints").iterdir()) == []

    def test_trajectory_clusters_every_measured_epoch(self, run):
        rows = evaluation.trajectory(run)
        assert [(row["epoch"], row["split"]) for row in rows] == [
            (epoch, split) for epoch in (0, 1, 2) for split in ("train", "test")
        ]
        f = run.features("test", 1)
        found = nclib.match_labels(nclib.reconstruct_labels(f.h, f.coarse, 2, "kmeans"), f.fine).accuracy
        assert rows[3]["kmeans"] == found
        explained = nclib.explained_variance(f.h, f.fine, f.coarse)
        assert rows[3]["explained_variance"] == pytest.approx(float(explained.mean()))


@pytest.mark.slow
def test_two_processes_at_once(home, start, tiny_config):
    """One trains, which its progress bar shows; both wait first, because this process holds the lock."""
    key = store.run_key(tiny_config)
    command = ["-m", "nclib.cli", "train", "digits", "--json", "--set"]
    command += [f"{name}={value}" for name, value in TINY.items()]
    with store.writing(key):
        processes = [start(*command, TQDM_DISABLE="") for _ in range(2)]
        notices = [process.stderr.readline() for process in processes]
        time.sleep(0.1)
        assert not store.contains(key)
    outputs = [process.communicate(timeout=300) for process in processes]
    assert all(f"another process is working on run {key[:12]}; waiting" in notice for notice in notices)
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted("digits, mlp" in err for _, err in outputs) == [False, True]
    found = [json.loads(out.splitlines()[-1]) for out, _ in outputs]
    assert found == [{"key": key, "folder": str(home / "runs" / key)}] * 2


class TestReleased:
    def test_answers_as_the_run_does(self, published, tiny_run, tiny_config):
        run = find_released(tiny_config)
        assert run.history == tiny_run.history
        assert run.results["probe"] == 0.5
        assert run.measured_epochs == tiny_run.measured_epochs
        assert torch.equal(run.moments("train", 2).scatter, tiny_run.moments("train", 2).scatter)
        rounded = tiny_run.moments("train", 2).means.float().double()
        assert torch.equal(run.moments("train", 2).means, rounded)
        assert torch.equal(run.head()[0], tiny_run.head()[0])

    @pytest.mark.numeric
    def test_error_of_the_features_is_as_stated(self, published, tiny_run, tiny_config):
        run, true = find_released(tiny_config), tiny_run.features("test")
        f = run.features("test")
        means = torch.stack([true.h[true.coarse == c].double().mean(0) for c in range(5)])
        spread = (true.h.double() - means[true.coarse]).square().mean().sqrt()
        error = float((f.h.double() - true.h.double()).abs().max() / spread)
        stated = run.results["feature_error"]
        assert error <= stated * 1.01 + 1e-5  # what float32 sums add
        assert 0 < stated < 0.01
        assert torch.equal(f.fine, true.fine)
        assert torch.equal(f.coarse, true.coarse)

    @pytest.mark.numeric
    def test_train_features_and_references_are_those_of_the_data(self, published, tiny_run, tiny_config):
        """Each as the run of the store and the images give it, but for the stated error."""
        run, (_, images) = find_released(tiny_config), task(tiny_config)[0]
        rows = stratified_rows(images.labels, 360)
        x = PCA(50, random_state=0).fit_transform(images.images.flatten(1) / 255.0)
        expected = {
            "train": tiny_run.features("train").h,
            "untrained": tiny_run.features("test", 0).h[rows],
            "pixels": torch.as_tensor(x)[rows],
        }
        found = run.references | {"train": run.features("train")}
        assert run.feature_splits == ("train", "test")
        assert torch.equal(found["features"].h, run.features("test").h[rows])
        for name, h in expected.items():
            f = found[name]
            means = torch.stack([h[f.coarse == c].mean(0) for c in range(5)])
            spread = (h - means[f.coarse]).square().mean().sqrt()
            stated = run.results["feature_errors"][name]
            assert float((f.h - h).abs().max() / spread) <= stated * 1.01 + 1e-4
            assert 0 < stated < 0.01

    def test_features_in_two_bytes(self, published, tiny_run):
        count = sum(tiny_run.features(split).h.numel() for split in ("train", "test", "test"))
        moments = (tiny_run.folder / "moments.safetensors").stat().st_size
        others = 50 * 360 * 2 + 10_000  # components of pixels; labels, means, names
        assert (published / "arrays.safetensors").stat().st_size < moments + 2 * count + others

    def test_lacks_are_named_with_the_way_to_get_them(self, published, tiny_config):
        run = find_released(tiny_config)
        for ask, what in ((lambda: run.features("test", 0), "features of epoch 0"), (run.model, "weights")):
            with pytest.raises(StoreError, match=rf"tiny holds no {what}.*released=False.*trains it again"):
                ask()

    def test_embedding(self, published, tiny_config):
        assert np.array_equal(find_released(tiny_config).embedding, np.arange(720.0).reshape(360, 2))

    def test_distances_are_those_of_all_pairs(self, published, tiny_run, tiny_config):
        f = tiny_run.features("test")
        one, two = (f.h[f.fine == c].double() for c in (0, 5))
        stated = find_released(tiny_config).results["distances_test"][0][5]
        assert stated == pytest.approx(float(torch.cdist(one, two).square().mean()), rel=1e-6)

    def test_without_features(self, published, released, tiny_run, tiny_config):
        shutil.rmtree(published)
        release(tiny_run, "tiny", with_features=False)
        with pytest.raises(StoreError, match="no test features"):
            find_released(tiny_config).features("test")

    @pytest.mark.parametrize("name", ["run.json", "arrays.safetensors"])
    def test_damage_is_named_and_never_used(self, home, published, tiny_config, no_training, name, capsys):
        path = published / name
        content = bytearray(path.read_bytes())
        content[0] ^= 1
        path.write_bytes(content)
        message = rf"{published} is damaged: {name}.*git checkout"
        for ask in (find_released, get.find_run):
            if name == "run.json":  # then nobody knows which run it is
                assert ask(tiny_config) is None
                assert re.search(message, capsys.readouterr().err)
                continue
            with pytest.raises(StoreError, match=message):
                ask(tiny_config)
        assert released_runs() == []
        assert re.search(message, capsys.readouterr().err)
        assert path.read_bytes() == content

    def test_no_folder_is_no_run(self, released, tiny_config):
        assert find_released(tiny_config) is None
        assert released_runs() == []

    def test_can_be_moved(self, published, tiny_config):
        os.rename(published, published.parent / "renamed")
        assert find_released(tiny_config).folder.name == "renamed"
        shutil.rmtree(published.parent / "renamed")
        assert find_released(tiny_config) is None


def test_release_without_tsne(released, tiny_run, tiny_config, monkeypatch):
    monkeypatch.setattr(evaluation, "results", lambda run, methods: {"methods": list(methods)})
    release(tiny_run, "tiny", with_features=False, with_tsne=False)
    run = find_released(tiny_config)
    assert run.results["methods"] == ["kmeans", "pca-gmm", "spectral"]
    assert not any("tsne" in name or "features" in name for name in run.arrays)


@pytest.mark.parametrize("held_out", [(), (7, 9)])
def test_detection_is_released_where_classes_were_held_out(released, home, held_out, monkeypatch):
    rows = pd.DataFrame([{"score": "knn", "auroc": 0.5}])
    monkeypatch.setattr(publish, "detection", lambda run: rows)
    monkeypatch.setattr(evaluation, "results", lambda run, methods: {})
    run = nclib.get_run("digits", **TINY, held_out=held_out)
    release(run, "tiny", with_features=False, with_tsne=False)
    found = find_released(run.config).results.get("detection")
    assert found == (rows.to_dict("records") if held_out else None)


def test_release_without_openTSNE_leaves_it_out(released, tiny_run, tiny_config, monkeypatch, capsys):
    monkeypatch.setattr(publish, "find_spec", lambda name: None)
    release(tiny_run, "tiny", with_features=False)
    assert "tiny is released without t-SNE" in capsys.readouterr().err
    assert list(find_released(tiny_config).results["reconstruction"]) == ["kmeans", "pca-gmm", "spectral"]


def test_seeds_are_several():
    with pytest.raises(ConfigError, match=r"seeds=5: expected several, for example range\(5\)"):
        nclib.get_runs("digits", 5)


def test_small_networks_share_a_gpu(monkeypatch):
    monkeypatch.delenv("NCLIB_PROCESSES")
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    narrow, wide, mlp = RunConfig(width=16), RunConfig(width=64), recipe_config("digits")
    assert get.processes_at_once([narrow, mlp], cuda) == 4
    assert get.processes_at_once([narrow, wide], cuda) == 1
    assert get.processes_at_once([wide], cpu) == priority.processors()
    monkeypatch.setenv("NCLIB_PROCESSES", "3")
    assert get.processes_at_once([wide], cpu) == 3
    assert get.processes_at_once([narrow], cuda) == 4


@pytest.mark.parametrize("value", ["garbage", "0", "-1", "2.5", "²"])
def test_a_wrong_number_of_processes_is_named(monkeypatch, value):
    monkeypatch.setenv("NCLIB_PROCESSES", value)
    with pytest.raises(ConfigError, match="NCLIB_PROCESSES"):
        get.processes_at_once([RunConfig(width=16)], torch.device("cpu"))


def test_what_another_process_trains_comes_last(home, monkeypatch):
    configs = [recipe_config("digits", lr=lr) for lr in (0.1, 0.2, 0.3)]
    trained = []
    monkeypatch.setattr(get, "train_run", trained.append)
    with store.writing(store.run_key(configs[0])):
        get.train_share(configs)
    assert trained == [configs[1], configs[2], configs[0]]


class TestReleaseAppearsByOneRename:
    @pytest.mark.parametrize("before", [False, True])
    def test_killed_while_it_is_written(self, released, tiny_run, monkeypatch, before):
        """Nothing is there, or what was there before; and the next attempt succeeds."""
        monkeypatch.setattr(evaluation, "results", lambda run, methods: {"probe": 0.5})
        if before:
            release(tiny_run, "tiny", with_tsne=False)
        monkeypatch.setattr(evaluation, "results", lambda run, methods: {"probe": 0.6})

        def die(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(store, "write_manifest", die)
            release(tiny_run, "tiny", with_tsne=False)
        assert [run.results["probe"] for run in released_runs()] == [0.5][:before]
        release(tiny_run, "tiny", with_tsne=False)
        (run,) = released_runs()
        assert run.results["probe"] == 0.6
        assert [path.name for path in released.iterdir()] == ["tiny"]


def test_weights_that_something_deleted_are_missed(home, monkeypatch):
    """A run without them would pass for a whole one, and never be trained again."""
    config = recipe_config("digits", width=8, epochs=2)
    real = get.train

    def train(config, folder, *others):
        trained = real(config, folder, *others)
        (folder / "weights-00001.safetensors").unlink()
        return trained

    monkeypatch.setattr(get, "train", train)
    with pytest.raises(StoreError, match=r"has lost weights-00001\.safetensors"):
        get.train_run(config)
    assert not store.contains(store.run_key(config))
