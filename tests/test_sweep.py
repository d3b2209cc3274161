"""Sweeps: tables that are refused and why, plans and markers, jobs; with Snakemake a sweep as a whole."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import threading
import time
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY
from filelock import FileLock

from nclib import cli
from nclib.chapters import sweeps
from nclib.chapters.statistics import interval
from nclib.config import parse_override, recipe_config
from nclib.data.grouping import task
from nclib.errors import ConfigError, NclibError, StoreError
from nclib.paths import WORKFLOW
from nclib.runs import cost, sweep, sweep_end, sweep_features, sweep_job, sweep_release
from nclib.runs.sweep_table import folder_name, read_sweep
from nclib.storage import store
from nclib.storage.feature_files import load_features
from nclib.storage.files import write_tensors

GRID = WORKFLOW / "grid-digits.yaml"
TABLE = f"""
runs:
  - recipe: digits
    seeds: [0, 1]
    set: {json.dumps(TINY)}
    vary: {{lr: [0.1, 1e-2]}}
runs_a_job: 3
"""


@pytest.fixture
def write(tmp_path):
    """Write a table."""

    def write(text: str):
        file = tmp_path / "table.yaml"
        file.write_text(text)
        return file

    return write


class TestReading:
    def test_the_grid_of_the_paper(self):
        found = [config for _, config in read_sweep(GRID).runs]
        settings = product((0.1, 0.01, 0.001), (5e-3, 5e-4, 5e-5), range(3))
        assert found == [
            recipe_config("digits", lr=lr, weight_decay=decay, seed=seed) for lr, decay, seed in settings
        ]

    def test_set_and_vary(self, write):
        found = read_sweep(write(TABLE))
        assert [config for _, config in found.runs] == [
            recipe_config("digits", **TINY, lr=lr, seed=seed) for lr in (0.1, 0.01) for seed in (0, 1)
        ]
        assert [len(job) for job in found.jobs.values()] == [3, 1]

    @pytest.mark.parametrize(
        "text, reason",
        [
            ("[1, 2", "is no YAML table"),
            ("", "expected runs, runs_a_job"),
            ("runs: []", "runs: expected a list with at least one entry"),
            ("run: [{recipe: digits}]", "unknown key 'run' (did you mean 'runs'?)"),
            ("runs: [{recipe: digits}]\nruns: [{recipe: digits}]", "'runs' stands twice"),
            ("runs: [{recipe: digits}]\nruns_a_job: 0", "runs_a_job=0: expected a whole number from 1"),
            ("runs: [{recipe: digits}]\nruns_a_job: true", "runs_a_job=True"),
            ("runs: [7]", "entry 1: expected recipe, name, seeds, set, vary; got 7"),
            ("runs: [{seeds: 2}]", "entry 1: unknown recipe None"),
            ("runs: [{recipe: digit}]", "entry 1: unknown recipe 'digit' (did you mean 'digits'?)"),
            ("runs: [{recipe: digits}, {recipe: digits, sed: 1}]", "entry 2: unknown key 'sed'"),
            ("runs: [{recipe: digits, seeds: 0}]", "entry 1: seeds=0"),
            ("runs: [{recipe: digits, seeds: []}]", "entry 1: seeds=[]"),
            ("runs: [{recipe: digits, seeds: [1, 1]}]", "one of them stands twice"),
            ("runs: [{recipe: digits, seeds: [1.5]}]", "entry 1: seeds=[1.5]"),
            ("runs: [{recipe: digits, seeds: [-1]}]", "entry 1: seed=-1: expected a whole number from 0"),
            ("runs: [{recipe: digits, seeds: 20000}]", "entry 1: more than 10000 runs"),
            ("runs: [{recipe: digits, set: {seed: 1}}]", "entry 1, set: unknown key 'seed'"),
            (
                "runs: [{recipe: digits, set: {lrr: 1}}]",
                "entry 1, set: unknown key 'lrr' (did you mean 'lr'?)",
            ),
            ("runs: [{recipe: digits, set: {lr: -1}}]", "entry 1: lr=-1.0: expected a number from"),
            ("runs: [{recipe: digits, set: {lr: }}]", "entry 1: lr: expected a value"),
            ("runs: [{recipe: digits, set: {lr: .nan}}]", "entry 1: lr=nan: expected a number from"),
            ("runs: [{recipe: digits, vary: {lr: []}}]", "entry 1: vary lr=[]"),
            ("runs: [{recipe: digits, vary: {lr: [0.1, 1e-1]}}]", "entry 1: vary lr: 0.1 stands twice"),
            ("runs: [{recipe: digits, set: {lr: 1}, vary: {lr: [2]}}]", "lr is both in set and in vary"),
            (
                "runs: [{recipe: digits}, {recipe: digits, seeds: 2}]",
                "entry 2: digits, seed 0 is in entry 1 too",
            ),
            ("runs: [{recipe: digits}]\nfeatures: test", "features: expected a list; got 'test'"),
            ("runs: [{recipe: digits}]\nfeatures: [{split: all}]", "features: split='all': expected train"),
            (
                "runs: [{recipe: digits}]\nfeatures: [{split: test, epoch: 7000}]",
                "digits is measured at 0, 1",
            ),
            (
                "runs: [{recipe: digits}]\nfeatures: [{split: test, epoch: true}]",
                "epoch=True: expected",
            ),
            ("runs: [{recipe: digits}]\nchapters: [05]", "no chapter '05'; chapters: 01_neural_collapse, 02"),
            (
                "runs: [{recipe: digits, seeds: [0, 2]}]\nchapters: [04_tsne]",
                "chapters: the seeds of digits must follow each other: [0, 2]",
            ),
            ("runs: [{recipe: digits}]\nrelease: 1", "release=1: expected true or false"),
            ("runs: [{recipe: digits}]\nrelease: true\nfeatures: []", "features with release"),
            ("runs: [{recipe: digits}]\nrelease: true\nchapters: [04_tsne]", "chapters with release"),
            (f"runs: [{{recipe: digits, name: {'a' * 199}}}]\nrelease: true", "expected a shorter name"),
            (
                "runs: [{recipe: digits, name: a}, {recipe: digits, name: A, seeds: [0], set: {lr: 1}}]\n"
                "release: true",
                "a, seed 0 and A, seed 0 would be released under one name",
            ),
            ("runs: [{recipe: digits, name: a/b}]", "entry 1: name='a/b': expected letters"),
            ("runs: [{recipe: digits, name: }]", "entry 1: name=None"),
            (
                "runs: [{recipe: digits, name: a, set: {lr: 1}}, {recipe: digits, name: a}]",
                "entry 2: a is the name of other runs already",
            ),
            ("runs: &a [{recipe: digits}]\nruns_a_job: *a", "*a: write the value out"),
            ("runs: !!bool foo", "is no YAML table"),
            ("runs: !!int ''", "runs: expected a list"),
            ("runs: !!timestamp foo", "is no YAML table"),
            ("runs: !!float foo", "is no YAML table"),
            ("runs: [{recipe: digits, seeds: 0x" + "f" * 5000 + "}]", "entry 1: seeds='0xfff"),
            ("runs: [{recipe: digits, seeds: " + "9" * 5000 + "}]", "entry 1: seeds='999"),
            ("runs: [{recipe: digits, seeds: [010]}]", "entry 1: seeds=['010']"),
            ("runs: [{recipe: digits, seeds: 1:30}]", "entry 1: seeds='1:30'"),
            ("runs: [{recipe: digits, set: {lr: 0:0.1}}]", "entry 1: lr=0:0.1: expected a number"),
            ("runs: [{recipe: digits, set: {epochs: 1:30}}]", "entry 1: epochs=1:30: expected a whole"),
            ("runs: !!python/object/apply:os.system ['false']", "is no YAML table"),
        ],
    )
    def test_refused(self, write, text, reason):
        with pytest.raises(ConfigError) as error:
            read_sweep(write(text))
        assert reason in str(error.value)
        assert "table.yaml" in str(error.value)

    @pytest.mark.parametrize("text", ["010", "+10", "1_0"])
    def test_whole_numbers_are_decimal(self, write, text):
        (_, config), *_ = read_sweep(write(f"runs: [{{recipe: digits, set: {{epochs: {text}}}}}]")).runs
        assert config.epochs == 10

    @pytest.mark.parametrize("grouping", ["mod5", "mod11", "superclass", "none", "0,1,0"])
    @pytest.mark.parametrize("held_out", [[], [9], [100], [1, 2, 3, 4, 6, 7, 8, 9], list(range(10))])
    def test_what_training_refuses_is_refused(self, write, grouping, held_out):
        entry = {"recipe": "digits", "set": {"grouping": grouping, "held_out": held_out}}
        file = write(json.dumps({"runs": [entry]}))
        try:
            task(recipe_config("digits", **dict([parse_override(f"grouping={grouping}")]), held_out=held_out))
        except ConfigError:
            with pytest.raises(ConfigError, match=r"entry 1: (grouping|held_out)"):
                read_sweep(file)
        else:
            assert len(read_sweep(file).runs) == 1

    def test_the_groups_of_cifar100_are_allowed(self, write):
        table = read_sweep(write("runs: [{recipe: cifar100-laptop, set: {held_out: [99]}}]"))
        assert table.runs[0][1].held_out == (99,)

    def test_no_such_file(self, tmp_path):
        with pytest.raises(ConfigError, match="No such file"):
            read_sweep(tmp_path / "none.yaml")


class TestNames:
    def test_of_settings_and_of_released_folders(self, write):
        more = "set: {epochs: 4}, vary: {lr: [0.1, 1e-5]}"
        file = write(
            f"runs: [{{recipe: digits, {more}}}, {{recipe: digits, name: a.b-c, seeds: [7], {more}}}]"
        )
        assert [(name, folder_name(name)) for name, _ in read_sweep(file).runs] == [
            ("digits epochs=4 lr=0.1, seed 0", "digits-epochs-4-lr-0.1-seed0"),
            ("digits epochs=4 lr=1e-05, seed 0", "digits-epochs-4-lr-1e-05-seed0"),
            ("a.b-c lr=0.1, seed 7", "a.b-c-lr-0.1-seed7"),
            ("a.b-c lr=1e-05, seed 7", "a.b-c-lr-1e-05-seed7"),
        ]

    @pytest.mark.parametrize("held_out", [[7, 8], [9]])
    def test_of_lists_are_folders_too(self, write, held_out):
        file = write(f"runs: [{{recipe: digits, set: {{held_out: {held_out}}}}}]")
        ((name, _),) = read_sweep(file).runs
        assert folder_name(name) == "-".join(["digits-held_out", *map(str, held_out), "seed0"])


class TestOfTheBook:
    """The tables of long runs: what they hold and in which order."""

    runs = read_sweep(WORKFLOW / "paper.yaml").runs

    def position(self, recipe: str, **fields) -> int:
        return [config for _, config in self.runs].index(recipe_config(recipe, **fields))

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

    @pytest.mark.parametrize(
        "name, sets",
        [("paper", ["cifar10", "fashion", "cifar100", "svhn", "mnist"]),
         ("evidence", ["cifar10", "fashion", "cifar100"])],
    )  # fmt: skip
    def test_each_is_released_features_once_for_every_data_set(self, name, sets):
        runs = [run for job in read_sweep(WORKFLOW / f"{name}.yaml").jobs.values() for run in job]
        assert [run["config"]["dataset"] for run in runs if run["with_features"]] == sets
        assert len({run["folder"] for run in runs}) == len(runs) > 90


class TestPlan:
    def test_features_and_chapters_wait_for_the_jobs_of_their_runs(self, write):
        more = "features: [{split: test}, {split: train, epoch: 0}]\nchapters: [04_tsne]"
        table = read_sweep(write(TABLE + more))
        first, second = table.jobs
        keys = [store.run_key(config) for _, config in table.runs]
        assert table.feature_files == {
            f"features/{key}-{which}.safetensors": second if key == keys[3] else first
            for key in keys
            for which in ("test--1", "train-0")
        }
        a, b = table.pages.values()
        assert a["parameters"] == {"recipe": "digits", **TINY, "lr": 0.1, "seed": 0, "seeds": 2}
        assert (a["jobs"], b["jobs"]) == ([first], [first, second])

    def test_a_marker_whose_run_is_gone_is_removed(self, write, home, tmp_path, stored):
        table = read_sweep(write(f"runs: [{{recipe: digits, set: {json.dumps(TINY)}}}]"))
        (job,) = table.jobs
        marker = sweep.marker(tmp_path, job)
        marker.parent.mkdir()
        marker.write_text("[]")
        sweep.plan(table, tmp_path)
        assert marker.exists()
        shutil.rmtree(stored.folder)
        sweep.plan(table, tmp_path)
        assert not marker.exists()

    def test_other_seeds_are_other_jobs(self, write):
        a, b = (read_sweep(write(TABLE.replace("[0, 1]", seeds))).jobs for seeds in ("[0, 1]", "[0, 2]"))
        assert not set(a) & set(b)

    def test_a_job_whose_sources_changed_is_refused(self, write, tmp_path, home, monkeypatch):
        table = read_sweep(write(TABLE))
        file, job = sweep.plan(table, tmp_path), next(iter(table.jobs))
        monkeypatch.setattr(store, "source_fingerprint", lambda: "other")
        with pytest.raises(StoreError, match="sources that train were changed"):
            sweep_job.train_job(file, job, tmp_path / "marker.json")

    def test_what_fails_is_named_and_the_others_are_trained(self, write, tmp_path, home, monkeypatch):
        table = read_sweep(write(TABLE))
        trained = []

        def train(configs):
            if configs[0].lr == 0.1:
                raise NclibError("the loss is\nnot finite")
            trained.extend(configs)

        monkeypatch.setattr(sweep_job, "train_share", train)
        file, job = sweep.plan(table, tmp_path), next(iter(table.jobs))
        with pytest.raises(NclibError) as error:
            sweep_job.train_job(file, job, tmp_path / "marker.json")
        assert str(error.value).endswith("lr=0.1, seed 0: the loss is not finite")
        assert [config.lr for config in trained] == [0.01]
        assert not (tmp_path / "marker.json").exists()


class TestRelease:
    """Sweeps with ``release: true``; ``tiny_run`` is seed 0 of the table."""

    @pytest.fixture
    def table(self, write, home, released):
        return read_sweep(
            write(f"release: true\nruns: [{{recipe: digits, seeds: 2, set: {json.dumps(TINY)}}}]")
        )

    @pytest.fixture
    def first_is_released(self, tiny_run, monkeypatch):
        """Wherever a sweep asks."""
        run = SimpleNamespace(config=tiny_run.config, folder=Path("digits-tiny-seed0"))
        for module in (sweep, sweep_job):
            monkeypatch.setattr(module, "released_runs", lambda: [run])
        monkeypatch.setattr(sweep_release, "find_released", {run.config: run}.get)

    @pytest.fixture
    def published(self, monkeypatch):
        """What is published, instead of measuring it: key, name and whether with features."""
        calls = []

        def release(run, name, with_features):
            if name == "fails":
                raise StoreError("no room\nis left")
            calls.append((run.key, name, with_features))

        monkeypatch.setattr(sweep_release, "release", release)
        return calls

    def test_what_is_released_is_not_trained_again(self, table, first_is_released, tmp_path, monkeypatch):
        trained = []
        monkeypatch.setattr(sweep_job, "train_share", trained.extend)
        file, jobs = sweep.plan(table, tmp_path), list(table.jobs)
        for job in jobs:
            sweep_job.train_job(file, job, sweep.marker(tmp_path, job))
        assert trained == [config for _, config in table.runs[1:]]
        assert sweep._untrained(table, sweep._released(table)) == table.runs[1:]

    def test_what_is_released_counts_only_where_the_table_says_so(self, table, first_is_released):
        assert sweep._released(replace(table, release=False)) == {}

    def test_a_dry_run_says_what_is_to_be_released(self, table, stored, no_training, monkeypatch):
        monkeypatch.setattr(cost, "seconds", lambda config: 1.0)
        name = "digits arch=mlp width=32 epochs=3 deterministic=True"
        first, last = sweep.listing(table)
        assert first == f"{name}, seeds 0, 1: 1 of 2 trained, 0 of 2 released, about 1 s for it"
        assert last.startswith("jobs: 1 to train 1 of 2 runs, 2 to measure, 2 runs to release, 1 to report")
        one = replace(table, settings=(replace(table.settings[0], configs=(stored.config,)),))
        assert sweep.listing(one)[-1].startswith(
            "jobs: 0 to train 0 of 1 runs, 1 to measure, 1 runs to release"
        )
        monkeypatch.setattr(
            sweep, "released_runs", lambda: [SimpleNamespace(config=stored.config, folder=Path("a"))]
        )
        assert sweep.listing(one) == [
            f"{name}, seed 0: 1 of 1 trained, 1 of 1 released",
            "all 1 runs are trained and released",
        ]

    def test_another_runs_place_is_not_taken(self, table, stored, released, published, tmp_path):
        file, (job, _) = sweep.plan(table, tmp_path), table.jobs
        (run,) = table.jobs[job]
        (released / run["folder"]).mkdir(parents=True)
        with pytest.raises(StoreError, match="is another run's, or damaged"):
            sweep.plan(table, tmp_path)
        with pytest.raises(NclibError, match="is another run's, or damaged"):
            sweep_release.release_job(file, job, sweep.release_marker(tmp_path, job))
        assert published == []

    def test_one_process_at_a_time_releases_a_run(self, table, stored, published, tmp_path, start):
        file, (job, _) = sweep.plan(table, tmp_path), table.jobs
        hold = f"with store.writing({stored.key!r}): print('held', flush=True); input()"
        code = f"from nclib.storage import store\n{hold}"
        other = start("-c", code, stdin=subprocess.PIPE)
        assert other.stdout.readline() == "held\n"
        work = threading.Thread(target=sweep_release.release_job, args=(file, job, tmp_path / "marker.json"))
        work.start()
        work.join(timeout=0.5)
        assert work.is_alive() and published == []
        other.communicate("\n")
        work.join()
        assert len(published) == 1

    def test_markers_of_runs_that_are_gone_are_removed(self, table, first_is_released, tmp_path):
        markers = [make(tmp_path, job) for make in (sweep.marker, sweep.release_marker) for job in table.jobs]
        for file in markers:
            file.parent.mkdir(exist_ok=True)
            file.write_text("[]")
        sweep.plan(table, tmp_path)
        assert [file.exists() for file in markers] == [True, False] * 2

    def test_a_job_publishes_what_the_store_has(self, table, stored, no_training, published, tmp_path):
        file, (job, _) = sweep.plan(table, tmp_path), table.jobs
        marker = sweep.release_marker(tmp_path, job)
        sweep_release.release_job(file, job, marker)
        (run,) = table.jobs[job]
        assert published == [(stored.key, run["folder"], True)]
        assert json.loads(marker.read_text()) == [stored.key]

    def test_nothing_is_published_twice(self, table, first_is_released, published, tmp_path):
        file, (job, _) = sweep.plan(table, tmp_path), table.jobs
        sweep_release.release_job(file, job, sweep.release_marker(tmp_path, job))
        assert published == []

    def test_failures_are_named_and_the_others_published(self, table, stored, published, tmp_path):
        absent = {"name": "absent", "key": 64 * "0", "config": asdict(table.runs[1][1]), "folder": "absent"}
        there = {"name": "there", "key": stored.key, "config": asdict(stored.config), "with_features": False}
        runs = [there | {"folder": "fails"}, absent | {"with_features": True}, there | {"folder": "there"}]
        file, marker = tmp_path / "plan.json", tmp_path / "marker.json"
        file.write_text(json.dumps({"jobs": {"a": runs}}))
        with pytest.raises(NclibError) as error:
            sweep_release.release_job(file, "a", marker)
        first, second = str(error.value).splitlines()
        assert first == "there: no room is left"
        assert second == "absent: the store has no such run any more; start the sweep again"
        assert published == [(stored.key, "there", False)]
        assert not marker.exists()

    def test_the_end_names_released_folders(self, table, first_is_released, tmp_path, monkeypatch):
        (second,) = [store.run_key(config) for _, config in table.runs[1:]]
        assert sweep._places(table) == ([second], ["digits-tiny-seed0"])
        monkeypatch.setattr(sweep_end, "RELEASED", tmp_path / "book")
        (store.run_folder(second)).mkdir(parents=True)
        (tmp_path / sweep_end.REPORT).write_text("")
        sweep_end.write_end(table.file, tmp_path, *sweep._places(table), [sweep_end.REPORT])
        assert sweep_end.nothing_missing(table.file, tmp_path) is None
        (tmp_path / "book" / "digits-tiny-seed0").mkdir(parents=True)
        assert sweep_end.nothing_missing(table.file, tmp_path) == 2

    def test_measures_are_those_of_the_released_run(self, table, tiny_run, tmp_path, monkeypatch):
        (job, other) = table.jobs
        plan = json.loads(sweep.plan(table, tmp_path).read_text())
        monkeypatch.setattr(sweeps, "find_run", lambda config, released: tiny_run if released else None)
        (row,) = sweeps.measures(plan, job)
        assert row["key"] == table.jobs[job][0]["key"]
        assert row["seconds"] == tiny_run.provenance["seconds"]
        with pytest.raises(StoreError, match="seed 1: the store has no such run"):
            sweeps.measures(plan | {"release": False}, other)

    def test_two_runs_under_one_name_are_refused(self, write):
        two = "{recipe: digits, name: a-b}, {recipe: digits, name: a, set: {lr: 1}, vary: {loss: [mse]}}"
        read_sweep(write(f"release: true\nruns: [{two}]"))
        two = "{recipe: digits, name: a-lr-1.0}, {recipe: digits, name: a, vary: {lr: [1]}}"
        with pytest.raises(ConfigError, match="released under one name"):
            read_sweep(write(f"release: true\nruns: [{two}]"))
        assert len(read_sweep(write(f"runs: [{two}]")).runs) == 2


@pytest.mark.parametrize("split, epoch", [("train", -1), ("test", 0)])
def test_feature_files_hold_what_the_run_has(tiny_run, tmp_path, split, epoch):
    file, f = tmp_path / "a.safetensors", tiny_run.features(split, epoch)
    sweep_features.write_features(tiny_run, split, epoch, file)
    found = load_features(file)
    assert torch.equal(torch.as_tensor(found.h), f.h)
    assert torch.equal(torch.as_tensor(found.y).long(), f.coarse)
    assert list(found.class_names) == list(tiny_run.grouping.coarse_names)
    if epoch == -1:  # the network's own accuracy
        right = (torch.as_tensor(found.logits).argmax(1) == f.coarse).double().mean()
        assert float(right) == pytest.approx(tiny_run.history[-1][f"{split}_accuracy"], abs=1e-6)


@pytest.mark.parametrize(
    "device, at_once, asked, shared",
    [("cpu", 2, None, (2, 1)), ("cpu", 2, 5, (5, 1)), ("cuda", 1, None, (16, 15)), ("cuda", 4, None, (16, 3)),
     ("cuda", 1, 4, (4, 3)), ("cuda", 1, 1, (1, 1))],
)  # fmt: skip
def test_on_a_gpu_trainings_leave_a_core_to_what_follows(device, at_once, asked, shared, monkeypatch):
    monkeypatch.setattr(sweep, "default_device", lambda: torch.device(device))
    monkeypatch.setattr(sweep, "processes_at_once", lambda configs, device: at_once)
    monkeypatch.setattr(sweep, "processors", lambda: 16)
    assert sweep._shared_out([], asked) == shared


def test_what_a_sweep_starts_can_be_interrupted(start):
    code = """if True:
        import signal, subprocess, sys
        from nclib.runs import sweep
        child = [sys.executable, "-c", "import signal; print(signal.getsignal(signal.SIGINT))"]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with sweep.interruptible():
            subprocess.run(child)
        print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"""
    out, _ = start("-c", code).communicate()
    said, ignored_again = out.splitlines()
    assert "default_int_handler" in said and ignored_again == "True"


def test_two_sweeps_into_one_folder_are_refused(tmp_path):
    with (
        sweep._alone(tmp_path),
        pytest.raises(StoreError, match="another process works"),
        sweep._alone(tmp_path),
    ):
        pass


@pytest.fixture
def ended(write, home, tmp_path, stored):
    """A sweep of one run that ended well: its table and its output folder."""
    table, output = write(f"runs: [{{recipe: digits, set: {json.dumps(TINY)}}}]"), tmp_path / "out"
    output.mkdir()
    (output / sweep_end.REPORT).write_text("")
    sweep_end.write_end(table, output, [stored.key], [], [sweep_end.REPORT])
    return table, output


class TestNothingMissing:
    def test_loads_neither_torch_nor_snakemake(self, ended, start):
        code = f"""if True:
            import sys
            from nclib import cli
            assert cli.main({["sweep", str(ended[0]), "--output", str(ended[1])]!r}) == 0
            print(sorted({{"torch", "snakemake", "yaml"}} & set(sys.modules)))"""
        out, err = start("-c", code).communicate()
        assert (out, err) == (f"{ended[1] / 'report.html'}\n[]\n", "all 1 runs are trained and measured\n")

    @pytest.mark.parametrize("what", ["run", "report", "table", "code", "damage", "end"])
    def test_unless_something_is_gone_or_changed(self, ended, stored, monkeypatch, what):
        table, output = ended
        assert sweep_end.nothing_missing(table, output) == 1
        match what:
            case "run":
                shutil.rmtree(stored.folder)
            case "report":
                (output / sweep_end.REPORT).unlink()
            case "table":
                table.write_text(table.read_text() + "runs_a_job: 2")
            case "code":
                monkeypatch.setattr(sweep_end, "fingerprint", lambda: "other")
            case "damage":
                (output / "ended.json").write_text("[1")
            case "end":
                (output / "ended.json").unlink()
        assert sweep_end.nothing_missing(table, output) is None


SAID = """Error in rule train:
    message: SLURM-job '4' failed, SLURM status is: 'TIMEOUT'. Detailed failure reason unavailable.
    jobid: 5
    output: trained/{job}.json
    log: logs/train-{job}.log, {folder}/4.log (check log file(s) for error details)
Error in rule measures:
    message: None
    jobid: 2
    input: trained/{job}.json
    output: measures/{job}-0123456789ab.json
    log: logs/measures-{job}.log (check log file(s) for error details)
"""


def test_each_failure_is_named_with_what_the_scheduler_and_its_log_say(write, tmp_path, home):
    table = read_sweep(write(TABLE))
    job = next(iter(table.jobs))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / f"measures-{job}.log").write_text("no such run\n")
    (tmp_path / "snakemake.log").write_text(SAID.format(job=job, folder=tmp_path))
    (tmp_path / "4.log").write_text(
        "srun: 1\nslurmstepd-n1: error: DUE TO TIME LIMIT\nslurmstepd-n1: error: 2\n"
    )
    assert sweep._failures(table, tmp_path, 0) == []
    train, measure, missing = sweep._failures(table, tmp_path, 1)
    name = table.jobs[job][0]["name"]
    assert train.startswith(f"train trained/{job}.json ({name} and 2 more): ")
    assert train.endswith(" more): SLURM-job '4' failed, SLURM status is: 'TIMEOUT'; DUE TO TIME LIMIT")
    assert measure.endswith(f"({name} and 2 more): no such run")
    assert missing.startswith("4 of 4 runs are missing. Snakemake ended with status 1")


def test_a_dry_run_lists_settings_jobs_and_cost(write, home, stored, monkeypatch):
    monkeypatch.setattr(cost, "seconds", lambda config: 100 * config.lr)
    both = TABLE.replace("[0.1, 1e-2]", f"[{stored.config.lr}, 1e-2]")
    table = read_sweep(write(both))
    first, second = table.jobs
    unfinished = store.unfinished_folder(store.run_key(table.runs[3][1]))
    write_tensors(unfinished / "state.safetensors", {}, {"epoch": "1"})
    name = "digits arch=mlp width=32 epochs=3 deterministic=True"
    first_line, second_line, *others = sweep.listing(table)
    assert first_line == f"{name} lr=0.1, seeds 0, 1: 1 of 2 trained, about 10 s for it"
    begun = "0 of 2 trained, seed 1 at epoch 1 of 3, about 1 s for each missing one"
    assert second_line == f"{name} lr=0.01, seeds 0, 1: {begun}"
    assert others == [
        f"job {first}: 2 to train, about 11 s",
        f"job {second}: 1 to train, about 1 s",
        "jobs: 2 to train 3 of 4 runs, 2 to measure, 1 to report; "
        "on this device about 12 s of training, 12 s with 1 at once",
    ]


def test_without_snakemake_one_sentence_says_how_to_install_it(capsys, home, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main(["sweep", str(GRID), "--output", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == "nclib: a sweep needs Snakemake: pip install 'nclib[workflow]'\n"
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def plan_and_rows():
    table = read_sweep(GRID)
    plan = {"table": str(GRID), "jobs": table.jobs}
    rows = [
        {
            "key": store.run_key(c), "seed": c.seed, "lr": c.lr, "weight_decay": c.weight_decay,
            "accuracy": 0.9,
            "found": 0.5 + c.lr, "explained_variance": 0.1 * c.seed + 30 * c.weight_decay,
            "nc1": 1.0 + c.seed, "seconds": 3.0, "device": "a CPU", "commit": "0" * 40,
        }
        for _, c in table.runs
    ]  # fmt: skip
    return plan, rows[::-1]  # jobs end in any order


class TestReport:
    def test_intervals_are_over_the_seeds_of_a_setting(self, plan_and_rows):
        table = sweeps.settings_table(sweeps.sweep_table(*plan_and_rows))
        assert len(table) == 9
        assert (table["seeds"] == 3).all()
        mean, half = interval([0.15 + 0.1 * seed for seed in range(3)])
        assert (
            table.loc["digits lr=0.1 weight_decay=0.005", "explained variance"] == f"{mean:.3f} ± {half:.2g}"
        )

    def test_page_names_best_and_worst_and_needs_no_other_file(self, plan_and_rows):
        page = sweeps.report(*plan_and_rows)
        assert "most in digits lr=0.1 weight_decay=0.005 (0.600" in page
        assert "least in digits lr=0.001 weight_decay=0.005 (0.501" in page
        assert page.count("<svg") == 1
        assert "src=" not in page and 'href="http' not in page
        assert page.count("<main>") == page.count("<h1>") == 1
        assert page.count('<th scope="row">') == 9 and "<th>" not in page

    def test_a_grid_is_drawn_as_heatmaps_and_anything_else_by_setting(self, plan_and_rows):
        plan, rows = plan_and_rows
        assert sweeps.varied(plan) == {"lr", "weight_decay"}
        drawn = sweeps.sweep_figure(plan, sweeps.sweep_table(plan, rows))
        assert "9 settings" in sweeps.alt_text(drawn)
        first = {"table": "", "jobs": {job: runs[:6] for job, runs in list(plan["jobs"].items())[:1]}}
        assert sweeps.varied(first) == {"weight_decay"}
        assert "by setting" in sweeps.alt_text(sweeps.sweep_figure(first, sweeps.sweep_table(first, rows)))


needs_snakemake = pytest.mark.skipif(
    importlib.util.find_spec("snakemake") is None, reason="needs Snakemake: nclib[workflow]"
)


@pytest.mark.slow
@needs_snakemake
def test_an_interrupted_sweep_leaves_a_checkpoint_and_no_process(write, home, tmp_path, start):
    file = write(f"runs: [{{recipe: digits, set: {json.dumps(TINY | {'epochs': 2000})}}}]")
    ((_, config),) = read_sweep(file).runs
    key = store.run_key(config)
    process = start("-m", "nclib", "sweep", str(file), "--output", str(tmp_path / "out"))
    while not cost.epoch_reached(config):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.terminate()
    assert process.wait() == 130
    assert process.stderr.read().splitlines()[-1].startswith("nclib: interrupted")
    with FileLock(store.home() / "locks" / key, timeout=0):  # nobody trains it any more
        assert 0 < cost.epoch_reached(config) < 2000


@pytest.mark.slow
@needs_snakemake
def test_a_sweep_makes_what_is_missing_and_nothing_else(write, home, tmp_path, capsys):
    output, file = tmp_path / "a sweep", write(TABLE + "features: [{split: test, epoch: 0}]")
    command = ["sweep", str(file), "--output", str(output), "--cores", "1"]
    assert cli.main(command) == 0, capsys.readouterr().err
    keys = [store.run_key(config) for _, config in read_sweep(file).runs]
    assert sorted(store.stored_keys()) == sorted(keys)
    begun = re.findall(r"output: trained/(\w+)\.json", (output / "snakemake.log").read_text())
    assert begun == list(read_sweep(file).jobs)  # in the order of the table
    made = {path: path.stat().st_mtime_ns for path in output.glob("*/*.json")}
    assert len(made) == 4 and (output / "report.html").is_file()
    files = sorted((output / "features").iterdir())
    assert [file.name.partition("-")[0] for file in files] == sorted(keys)

    (output / "ended.json").unlink()  # so that Snakemake has to find out
    assert cli.main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in output.glob("*/*.json")} == made

    shutil.rmtree(store.run_folder(keys[-1]))
    assert cli.main(command) == 0
    assert sorted(store.stored_keys()) == sorted(keys)
    again = {path for path, time in made.items() if path.stat().st_mtime_ns != time}
    assert len(again) == 2  # the marker and the measures of the job of that run
