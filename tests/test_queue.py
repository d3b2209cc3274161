"""Queues: what the paper's holds and in which order; going on after an interruption or a failure."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import TINY

from nclib import cli, data, grouping, queue, runs, store
from nclib.config import recipe_config
from nclib.errors import ConfigError, DataError
from nclib.released import released_runs
from nclib.run import Run
from nclib.train import Training

FIELDS = "".join(f", {name} = {json.dumps(value)}" for name, value in TINY.items())


@pytest.fixture
def make_queue(home, released, tmp_path, monkeypatch):
    """Make a queue "tiny" of tiny digits runs, each with some more fields."""

    def make(*entries: str) -> list[queue.Job]:
        lines = [f'{{ recipe = "digits"{FIELDS}{", " * bool(entry)}{entry} }},' for entry in entries]
        (tmp_path / "queues.toml").write_text("\n".join(["tiny = [", *lines, "]"]))
        return queue.read_queue("tiny")

    monkeypatch.setattr(queue, "QUEUES_FILE", tmp_path / "queues.toml")
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
        def without_images(dataset: str) -> data.Splits:
            n = 100 if dataset == "cifar100" else 10
            own = tuple(fine // 5 for fine in range(n)), tuple(f"group {k}" for k in range(n // 5))
            nothing = torch.empty(0, 1, 1, 1), torch.empty(0, dtype=torch.int64)
            images = data.ImageSet(*nothing, tuple(f"class {k}" for k in range(n)), *own)
            return data.Splits(images, images)

        monkeypatch.setattr(grouping, "load", without_images)
        for c in (job.config for job in self.jobs):
            _, made = grouping.task(c)
            assert len(made.fine_names) == (100 if c.dataset == "cifar100" else 10) - len(c.held_out)

    def test_unknown_queue_lists_those_there(self):
        with pytest.raises(ConfigError, match=r"'papr'.*did you mean 'paper'.*allowed: paper"):
            queue.read_queue("papr")

    def test_numbers_of_training_images(self):
        assert set(queue.TRAIN_IMAGES) == set(data.dataset_names())
        assert queue.TRAIN_IMAGES["digits"] == len(data.load("digits").train)
        for run in (run for run in released_runs() if not run.config.held_out):
            assert queue.TRAIN_IMAGES[run.config.dataset] == int(run.moments("train").counts.sum())


class TestReadQueue:
    def test_seeds_names_and_duplicates(self, make_queue):
        jobs = make_queue('seeds = [2, 0], name = "a"', "", 'seeds = 2, name = "b"', 'loss = "mse"')
        assert [job.name for job in jobs[:3]] == ["a-seed2", "a-seed0", "b-seed1"]
        assert [job.config.seed for job in jobs] == [2, 0, 1, 0]
        assert jobs[3].name.startswith("digits-arch-mlp-")
        assert jobs[3].name.endswith("-loss-mse-seed0")
        assert [job.with_features for job in jobs] == [True, False, False, False]


class TestWork:
    def test_skips_the_store_and_trains_the_rest(self, make_queue, stored, capsys):
        jobs = make_queue("seeds = [1, 0]", "batch_size = 64")
        assert cli.main(["train", "--queue", "tiny", "--json"]) == 0
        out, err = capsys.readouterr()
        assert in_store(jobs) == [True] * 3
        trained = [json.loads(line)["key"] for line in out.splitlines()]
        assert trained == [store.run_key(jobs[i].config) for i in (0, 2)]
        said = err.splitlines()
        assert said[0].startswith(f"run 1 of 3, {jobs[0].name}; 2 remain, time: about 0.0 h")
        assert said[1].startswith(f"run 3 of 3, {jobs[2].name}; 1 remain, ")
        assert said[-1] == "3 of 3 runs are there, 0 failed"

    def test_nothing_remains(self, make_queue, stored, no_training, capsys):
        make_queue("")
        assert cli.main(["train", "--queue", "tiny"]) == 0
        assert capsys.readouterr().out == ""

    def test_dry_run_lists_what_remains(self, make_queue, stored, no_training, capsys):
        jobs = make_queue("", "seeds = [1]", "batch_size = 64")
        assert cli.main(["train", "--queue", "tiny", "--dry-run"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split() for line in lines[:-1]] == [[str(job.position), job.name] for job in jobs[1:]]
        assert lines[-1].startswith("2 of 3 remain")

    def test_interrupted_run_resumes(self, make_queue, tiny_run, monkeypatch, capsys):
        (job,) = make_queue("")
        train_epoch, epochs = Training.train_epoch, []

        def interrupted_once(self, epoch, bar):
            epochs.append(epoch)
            if epochs == [1, 2]:
                raise KeyboardInterrupt
            return train_epoch(self, epoch, bar)

        monkeypatch.setattr("nclib.train.CHECKPOINT_SECONDS", 0.0)
        monkeypatch.setattr(Training, "train_epoch", interrupted_once)
        assert cli.main(["train", "--queue", "tiny"]) == 130
        assert capsys.readouterr().err.splitlines()[1:] == [
            "nclib: interrupted; the same command goes on from the last checkpoint"
        ]
        assert cli.main(["train", "--queue", "tiny"]) == 0
        assert epochs == [1, 2, 2, 3]
        assert Run(store.run_folder(store.run_key(job.config))).history == tiny_run.history

    def test_failures_are_named_and_the_rest_is_trained(self, make_queue, monkeypatch, capsys):
        jobs = make_queue('dataset = "svhn"', "batch_size = 5000", "")

        def no_network(dataset):
            raise DataError(f"data set {dataset!r} is not on this machine")

        monkeypatch.setattr(data, "missing_files", lambda dataset: ["train_32x32.mat"])
        monkeypatch.setattr(data, "_download", no_network)
        assert cli.main(["train", "--queue", "tiny"]) == 1
        assert in_store(jobs) == [False, False, True]
        *_, ending, absent, too_large = capsys.readouterr().err.splitlines()
        assert ending == "1 of 3 runs are there, 2 failed"
        assert absent == f"{jobs[0].name}: data set 'svhn' is not on this machine"
        assert too_large.startswith(f"{jobs[1].name}: batch_size=5000")


class TestRelease:
    @pytest.fixture
    def published(self, monkeypatch):
        """Names of what is published, instead of measuring it, and whether with features."""
        calls = []

        def release(run, name, with_features):
            calls.append((name, with_features))

        monkeypatch.setattr(queue, "release", release)
        return calls

    def test_publishes_also_what_the_store_has(self, make_queue, stored, no_training, published):
        make_queue('name = "a"')
        assert cli.main(["train", "--queue", "tiny", "--release"]) == 0
        assert published == [("a-seed0", True)]

    def test_skips_what_is_released(self, make_queue, stored, no_training, published, monkeypatch):
        jobs = make_queue("")
        monkeypatch.setattr(queue, "released_runs", lambda: [stored])
        assert queue.remaining(jobs, publish=True) == []
        assert queue.work(jobs, publish=True) == []
        assert published == []

    def test_released_run_need_not_be_in_the_store(self, make_queue, tiny_run, monkeypatch):
        jobs = make_queue("seeds = 2")
        monkeypatch.setattr(queue, "released_runs", lambda: [tiny_run])
        assert queue.remaining(jobs, publish=False) == jobs[1:]

    def test_measure_that_refuses_is_a_failure(self, make_queue, stored, no_training, monkeypatch):
        def refuse(*_, **__):
            raise ValueError("features are all equal")

        jobs = make_queue('name = "a"')
        monkeypatch.setattr(queue, "release", refuse)
        assert queue.work(jobs, publish=True) == ["a-seed0: features are all equal"]


class TestTimeLeft:
    @pytest.fixture
    def jobs(self, make_queue, stored):
        """Six runs of equal length; the first is in the store."""
        return make_queue("seeds = 4", 'loss = "mse", seeds = 2')

    def pretend(self, run: Run, **made) -> None:
        made = {"seconds": 3600.0, "device": runs.provenance(torch.device("cpu"))["device"]} | made
        (run.folder / "run.json").write_text(json.dumps(run.record | {"provenance": made}))

    def test_proportional_to_what_is_missing(self, jobs, stored):
        self.pretend(stored)  # an hour
        assert queue.time_left(jobs, jobs) == "about 5.0 h"
        assert queue.time_left(jobs, jobs[:1]) == "about 0.0 h"

    def test_unknown_on_another_device(self, jobs, stored):
        self.pretend(stored, device="another")
        assert queue.time_left(jobs, jobs) == "unknown"

    def test_another_network_is_unknown(self, jobs, stored):
        self.pretend(stored)
        wide = queue.Job(9, "wide", recipe_config("digits", **TINY | {"width": 8}), False)
        longer = queue.Job(10, "longer", recipe_config("digits", **TINY | {"epochs": 6}), False)
        assert queue.time_left(jobs, [wide]) == "unknown"
        assert queue.time_left(jobs, [longer, wide]) == "about 2.0 h and 1 runs of unknown length"
