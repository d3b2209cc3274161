"""Queues: what the paper's holds and in which order; going on after an interruption or a failure."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

import pytest
import torch
from conftest import TINY
from filelock import FileLock

from nclib import cli
from nclib.config import recipe_config
from nclib.data import datasets, grouping
from nclib.errors import ConfigError, StoreError
from nclib.runs import queue
from nclib.runs.released import released_runs
from nclib.storage import store
from nclib.storage.files import write_tensors

FIELDS = "".join(f", {name} = {json.dumps(value)}" for name, value in TINY.items())


@pytest.fixture
def make_queue(home, released, tmp_path, monkeypatch):
    """Make a queue "tiny" of tiny digits runs, each with some more fields."""

    def make(*entries: str) -> list[queue.Job]:
        lines = [f'{{ recipe = "digits"{FIELDS}{", " * bool(entry)}{entry} }},' for entry in entries]
        (tmp_path / "queues.toml").write_text("\n".join(["tiny = [", *lines, "]"]))
        return queue.read_queue("tiny")

    monkeypatch.setattr(queue, "QUEUES_FILE", tmp_path / "queues.toml")
    monkeypatch.setattr(queue, "NICENESS", 0)  # or a busy machine would let these tests wait
    return make


def in_store(jobs: list[queue.Job]) -> list[bool]:
    return [store.contains(store.run_key(job.config)) for job in jobs]


class TestPaper:
    jobs = queue.read_queue("paper")

    def position(self, recipe: str, **fields) -> int:
        return [job.config for job in self.jobs].index(recipe_config(recipe, **fields))

    def test_the_most_important_come_first(self):
        rates = [(lr, decay) for lr in (0.1, 0.01, 0.001) for decay in (5e-3, 5e-4, 5e-5)]
        rates.remove((0.1, 5e-4))
        stages = [
            [("cifar10-paper", {})], [("fashion-paper", {})], [("cifar100-paper", {})],
            [("cifar10-paper", {"lr": lr, "weight_decay": decay}) for lr, decay in rates],
            [("cifar10-paper", {"seed": seed}) for seed in (1, 2, 3, 4)],
            [("cifar10-paper", {"grouping": grouping}) for grouping in ("semantic", "random5", "none")],
            [("svhn-paper", {}), ("mnist-paper", {})],
            [("cifar10-resnet50-paper", {})],
        ]  # fmt: skip
        places = [sorted(self.position(recipe, **fields) for recipe, fields in stage) for stage in stages]
        assert [place for stage in places for place in stage] == list(range(21))

    @pytest.mark.parametrize("recipe", ["cifar10-paper", "cifar10-resnet50-paper"])
    @pytest.mark.parametrize("loss", ["cross-entropy", "mse", "nc"])
    def test_fifteen_seeds(self, recipe, loss):
        places = [self.position(recipe, loss=loss, seed=seed) for seed in range(15)]
        assert places == sorted(places)
        assert places[-1] < self.position("cifar10-paper", held_out=(7, 8, 9))

    def test_nothing_twice(self):
        for of in (lambda job: job.config, lambda job: job.name):
            assert len({of(job) for job in self.jobs}) == len(self.jobs)
        assert [job.position for job in self.jobs] == list(range(1, len(self.jobs) + 1))

    def test_features_once_for_every_data_set(self):
        sets = [job.config.dataset for job in self.jobs if job.with_features]
        assert sets == ["cifar10", "fashion", "cifar100", "svhn", "mnist"]

    def test_every_grouping_fits_its_data(self, monkeypatch):
        def without_images(dataset: str) -> datasets.Splits:
            n = 100 if dataset == "cifar100" else 10
            own = tuple(fine // 5 for fine in range(n)), tuple(f"group {k}" for k in range(n // 5))
            nothing = torch.empty(0, 1, 1, 1), torch.empty(0, dtype=torch.int64)
            images = datasets.ImageSet(*nothing, tuple(f"class {k}" for k in range(n)), *own)
            return datasets.Splits(images, images)

        monkeypatch.setattr(grouping, "load", without_images)
        for c in (job.config for job in self.jobs):
            _, made = grouping.task(c)
            assert len(made.fine_names) == (100 if c.dataset == "cifar100" else 10) - len(c.held_out)

    def test_unknown_queue_lists_those_there(self):
        with pytest.raises(ConfigError, match=r"'papr'.*did you mean 'paper'.*allowed: evidence, paper"):
            queue.read_queue("papr")

    def test_numbers_and_shapes_of_images(self):
        assert set(queue.IMAGES) == set(datasets.dataset_names())
        train, test = datasets.load("digits")
        assert queue.IMAGES["digits"] == (len(train), len(test), tuple(train.images.shape[1:]))
        for run in (run for run in released_runs() if not run.config.held_out):
            counts = tuple(int(run.moments(split).counts.sum()) for split in ("train", "test"))
            assert queue.IMAGES[run.config.dataset] == (*counts, run.image_shape)


class TestReadQueue:
    def test_seeds_names_and_duplicates(self, make_queue):
        jobs = make_queue('seeds = [2, 0], name = "a"', "", 'seeds = 2, name = "b"', 'loss = "mse"')
        assert [job.name for job in jobs[:3]] == ["a-seed2", "a-seed0", "b-seed1"]
        assert [job.config.seed for job in jobs] == [2, 0, 1, 0]
        assert jobs[3].name.startswith("digits-arch-mlp-")
        assert jobs[3].name.endswith("-loss-mse-seed0")
        assert [job.with_features for job in jobs] == [True, False, False, False]

    def test_lists_are_combined_for_one_seed_after_the_other(self, make_queue):
        jobs = make_queue('lr = [0.1, 0.2], loss = ["mse", "nc"], seeds = 2, name = "a"')
        assert [(j.config.seed, j.config.lr, j.config.loss) for j in jobs] == [
            (seed, lr, loss) for seed in (0, 1) for lr in (0.1, 0.2) for loss in ("mse", "nc")
        ]
        assert jobs[0].name == "a-0.1-mse-seed0"


class TestWork:
    def test_skips_the_store_and_trains_the_rest(self, make_queue, stored, capsys):
        jobs = make_queue("seeds = [1, 0]", "batch_size = 64")
        assert cli.main(["train", "--queue", "tiny", "--json"]) == 0
        out, err = capsys.readouterr()
        assert in_store(jobs) == [True] * 3
        trained = {json.loads(line)["key"] for line in out.splitlines()}
        assert trained == {store.run_key(jobs[i].config) for i in (0, 2)}
        begun = [line for line in err.splitlines() if line.startswith("begun")]
        assert begun == [f"begun: run {i + 1} of 3, {jobs[i].name}" for i in (0, 2)]
        assert err.splitlines()[-1] == "3 of 3 runs are there"

    def test_nothing_remains(self, make_queue, stored, no_training, capsys):
        make_queue("")
        assert cli.main(["train", "--queue", "tiny"]) == 0
        assert capsys.readouterr() == ("", "1 of 1 runs are there\n")

    def test_an_interrupted_queue_leaves_a_checkpoint_and_no_worker(self, make_queue, start):
        make_queue("")
        queue.QUEUES_FILE.write_text(queue.QUEUES_FILE.read_text().replace("epochs = 3", "epochs = 2000"))
        (job,) = queue.read_queue("tiny")
        key = store.run_key(job.config)
        code = "import sys, nclib.cli, nclib.runs.queue as q; from pathlib import Path; "
        code += "q.NICENESS, q.QUEUES_FILE = 0, Path(sys.argv.pop()); sys.exit(nclib.cli.main())"
        process = start("-c", code, "train", "--queue", "tiny", str(queue.QUEUES_FILE))
        while not (store.unfinished_folder(key) / "state.safetensors").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.terminate()
        assert process.wait() == 130
        assert process.stderr.read().splitlines()[-1].startswith("nclib: interrupted")
        with FileLock(store.home() / "locks" / key, timeout=0):  # nobody trains it any more
            assert 0 <= queue._epoch_reached(key) < 2000

    def test_failures_are_named_and_the_rest_is_trained(self, make_queue, monkeypatch, tmp_path, capsys):
        jobs = make_queue('dataset = "svhn"', "batch_size = 5000", "")
        (tmp_path / "data").mkdir()
        monkeypatch.setenv("NCLIB_DATA", str(tmp_path / "data"))
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody answers
        monkeypatch.setattr(queue, "seconds", lambda _: 1.0)
        assert cli.main(["train", "--queue", "tiny"]) == 1
        assert in_store(jobs) == [False, False, True]
        *_, ending, first, second = capsys.readouterr().err.splitlines()
        absent, too_large = sorted([first, second], key=lambda line: "batch_size=5000" in line)
        assert ending == "1 of 3 runs are there"
        assert absent.startswith(f"{jobs[0].name}: data set 'svhn' is not on this machine")
        assert too_large.startswith(f"{jobs[1].name}: batch_size=5000")

    def test_a_run_that_does_not_fit_is_passed_over(self, make_queue, monkeypatch, capsys):
        jobs = make_queue("batch_size = 64", "")
        monkeypatch.setattr(queue, "seconds", lambda config: 3600.0 if config.batch_size == 64 else 1.0)
        assert cli.main(["train", "--queue", "tiny", "--hours", "0.5"]) == 0
        assert in_store(jobs) == [False, True]

    def test_a_second_instance_is_refused(self, make_queue, home, capsys):
        make_queue("")
        with queue.alone("tiny"):
            assert cli.main(["train", "--queue", "tiny"]) == 1
        said = capsys.readouterr().err
        assert said.startswith("nclib: another process works on the queue 'tiny'")
        assert in_store(queue.read_queue("tiny")) == [False]


class TestListing:
    def test_says_what_is_there_and_what_is_to_come(self, make_queue, stored, monkeypatch, capsys):
        make_queue('name = "a"', 'seeds = [1], name = "b"', 'batch_size = 64, name = "c"')
        monkeypatch.setattr(queue, "seconds", lambda _: 7200.0)
        monkeypatch.setattr(queue, "processes_at_once", lambda *_: 2)
        unfinished = store.unfinished_folder(store.run_key(queue.read_queue("tiny")[2].config))
        write_tensors(unfinished / "state.safetensors", {}, {"epoch": "1"})
        assert cli.main(["train", "--queue", "tiny", "--dry-run"]) == 0
        *lines, ending = capsys.readouterr().out.splitlines()
        took = f"{stored.provenance['seconds'] / 3600:.1f}"
        assert [line.split() for line in lines] == [
            ["1", "a-seed0", "trained", "took", took, "h"],
            ["2", "b-seed1", "to", "do", "about", "2.0", "h"],
            ["3", "c-seed0", "epoch", "1", "of", "3", "about", "2.0", "h"],
        ]
        assert ending == "2 of 3 remain: about 1.7 h, 2 at once"  # 2 and two thirds of 2, over two

    def test_seconds_grow_with_epochs_and_images(self, monkeypatch):
        monkeypatch.setattr(queue, "_speed", lambda *_: {"training": 100.0, "features": 1000.0})
        config = recipe_config("fashion-laptop", epochs=1)  # measured at epoch 0 and at the end
        assert queue.seconds(config) == pytest.approx(60_000 / 100 + 20_000 / 1000 + 70_000 / 1000)

    def test_speed_is_measured(self):
        speed = queue._speed("resnet18", 2, (1, 8, 8), 16, "fp32")
        assert speed["training"] > 0 and speed["features"] > 0


class TestRelease:
    @pytest.fixture
    def published(self, monkeypatch):
        """Names of what is published, instead of measuring it, and whether with features."""
        calls = []

        def release(run, name, with_features):
            calls.append((run.key, name, with_features))

        monkeypatch.setattr(queue, "release", release)
        return calls

    @pytest.mark.parametrize("publish", [True, False])
    def test_a_worker_publishes_what_the_store_has(self, make_queue, stored, no_training, published, publish):
        (job,) = make_queue('name = "a"')
        told = asdict(job) | {"publish": publish, "key": stored.key}
        queue.work_on(json.loads(json.dumps(told)))
        assert published == [(stored.key, "a-seed0", True)][:publish]

    def test_a_worker_of_other_sources_refuses(self, make_queue, no_training):
        (job,) = make_queue("")
        with pytest.raises(StoreError, match="changed since the queue began"):
            queue.work_on(asdict(job) | {"publish": False, "key": "of other sources"})

    def test_a_damaged_run_is_to_do(self, make_queue, stored, monkeypatch):
        (job,) = make_queue("")
        (stored.folder / "run.json").write_text("{")
        monkeypatch.setattr(queue, "seconds", lambda _: 3600.0)
        assert "to do" in queue.listing([job], publish=True)[0]

    def test_released_run_need_not_be_in_the_store(self, make_queue, tiny_run, monkeypatch):
        jobs = make_queue("seeds = 2")
        monkeypatch.setattr(queue, "released_runs", lambda: [tiny_run])
        assert queue.remaining(jobs, publish=False) == jobs[1:]
        assert queue.remaining(jobs, publish=True) == jobs[1:]

    def test_what_is_stored_remains_to_be_published(self, make_queue, stored):
        jobs = make_queue("")
        assert queue.remaining(jobs, publish=True) == jobs
