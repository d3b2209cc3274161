"""Released runs: damage is contained, a release appears at once and whole, and its bytes survive git."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import rewritten

from nclib import cli
from nclib.chapters.tables import LARGER, OPENING
from nclib.config import recipe_config
from nclib.errors import StoreError
from nclib.paths import RELEASED, REPOSITORY
from nclib.runs import evaluation, get, publish, sweep
from nclib.runs import released as released_module
from nclib.runs.publish import release
from nclib.runs.released import _early_names, find_released, released_runs
from nclib.runs.run import Run
from nclib.runs.sweep_table import Setting, Sweep
from nclib.storage import store

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def two(released, tiny_run, monkeypatch):
    """``tiny_run`` released as "tiny", and an older run as "digits-tiny-seed0"."""
    shutil.copytree(FIXTURES / "released" / "digits-tiny-seed0", released / "digits-tiny-seed0")
    monkeypatch.setattr(evaluation, "results", lambda run, methods: {"probe": 0.5})
    return release(tiny_run, "tiny", with_tsne=False), released / "digits-tiny-seed0"


def no_manifest(folder):
    (folder / "manifest.json").unlink()


def no_record(folder):
    (folder / "run.json").unlink()


def empty_manifest(folder):
    (folder / "manifest.json").write_text('{"files": {}}')


def manifest_key(folder):
    file = folder / "manifest.json"
    file.write_text(file.read_text().replace('"bytes"', '"bytez"', 1))


def no_arrays(folder):
    (folder / "arrays.safetensors").unlink()
    store.write_manifest(folder)


def no_results(folder):
    rewritten(folder, lambda record: record.pop("results"))


def broken_record(folder):
    (folder / "run.json").write_text("{")


def empty_history(folder):
    rewritten(folder, lambda record: record.update(history=[]))


def later(folder):
    rewritten(folder, lambda record: record.update(format=2))


def of_later_fields(folder):
    rewritten(folder, lambda record: record["config"].update(depth=3))


def deep_record(folder):
    (folder / "run.json").write_text("[" * 100_000)


def deep_manifest(folder):
    (folder / "manifest.json").write_text("[" * 100_000)


def other_seed(folder):
    file = folder / "run.json"
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 8', 1))


HARMS = [no_manifest, no_record, empty_manifest, manifest_key, no_arrays, no_results, broken_record,
         empty_history, later, of_later_fields, deep_record, deep_manifest]  # fmt: skip


class TestDamageIsContained:
    @pytest.mark.parametrize("harm", HARMS)
    def test_to_the_run_that_has_it(self, home, two, tiny_config, no_training, capsys, harm):
        whole, harmed = two
        harm(harmed)
        assert [run.folder for run in released_runs()] == [whole]
        assert re.search(f"^left out: .*{harmed} ", capsys.readouterr().err, re.MULTILINE)
        assert get.find_run(tiny_config).folder == whole
        assert get.find_run(recipe_config("digits", seed=77)) is None
        assert cli.main(["ls"]) == 0
        assert f"  {whole.name}\n" in capsys.readouterr().out
        table = Sweep(Path("t.yaml"), (Setting("tiny", {}, (tiny_config,)),), 1, release=True)
        lines = ["tiny, seed 0: 1 of 1 trained, 1 of 1 released", "all 1 runs are trained and released"]
        assert sweep.listing(table) == lines

    def test_the_run_that_is_asked_for_is_not_silently_another(self, two, tiny_config, capsys):
        """A run whose seed is no longer what it was is not found, and would be trained again."""
        whole, _ = two
        other_seed(whole)
        assert find_released(tiny_config) is None
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(
            f"left out: the released run {whole} is damaged: run.json has a changed content"
        )
        assert find_released(recipe_config("digits", seed=77)) is None
        assert line in capsys.readouterr().err

    def test_key_of_another_configuration(self, two, tiny_config):
        whole, _ = two
        rewritten(whole, lambda record: record["config"].update(lr=0.3))
        with pytest.raises(StoreError, match="another configuration than its key"):
            find_released(recipe_config("digits", **{**record_fields(whole), "lr": 0.3}))
        assert find_released(tiny_config) is None

    def test_later_format_is_one_sentence(self, two, capsys):
        later(two[1])
        released_runs()
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith("has format 2, and this nclib reads 1. Update nclib to read it.")


def record_fields(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())["config"]


class TestNames:
    """A folder that has the name of another run is left out where pages choose runs by name."""

    def test_of_what_is_released_now(self, released, tiny_run, monkeypatch, capsys):
        monkeypatch.setattr(evaluation, "results", lambda run, methods: {"probe": 0.5})
        release(tiny_run, "tiny", with_tsne=False).rename(released / "other")
        assert released_runs() == []
        assert "other is damaged: it is tiny, under another name" in capsys.readouterr().err

    def test_of_early_runs(self, released, capsys):
        first, second = "fashion-narrow-mse-seed0", "fashion-narrow-nc-seed0"
        for name, other in ((first, second), (second, first)):
            shutil.copytree(RELEASED / name, released / other)
        assert released_runs() == []
        err = capsys.readouterr().err
        for name, other in ((first, second), (second, first)):
            assert f"{released / name} is damaged: it is {other}, under another name" in err

    def test_without_the_table_of_early_names(self, released, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr("nclib.runs.released.EARLY_NAMES", tmp_path / "names.json")
        shutil.copytree(RELEASED / "fashion-narrow-mse-seed0", released / "fashion-narrow-mse-seed0")
        for content in (None, "{"):
            if content:
                (tmp_path / "names.json").write_text(content)
            _early_names.cache_clear()
            assert released_runs() == []
            assert "names.json cannot be read, take it from the repository" in capsys.readouterr().err
        _early_names.cache_clear()

    def test_early_names_are_those_of_the_folders(self):
        """So that the table cannot rot: it names a folder of this key, or one that was released anew."""
        for key, name in json.loads((RELEASED / "names.json").read_text()).items():
            record = json.loads((RELEASED / name / "run.json").read_text())
            assert record["key"] == key or record["name"] == name


class TestReplacing:
    def test_readers_always_find_one_whole(self, released, tiny_run, tiny_config, monkeypatch):
        """While another thread replaces it again and again: neither is it missing nor mixed."""
        monkeypatch.setattr(evaluation, "results", lambda run, methods: {"probe": 0.5})
        monkeypatch.setattr(publish, "find_spec", lambda name: None)
        release(tiny_run, "tiny", with_tsne=False)
        run = released_runs()[0]
        done, failures = threading.Event(), []

        def replace():
            try:
                for _ in range(60):
                    publish._publish("tiny", run.arrays, run.record)
            finally:
                done.set()

        writer = threading.Thread(target=replace)
        writer.start()
        while not done.is_set():
            try:
                if len(released_runs()) != 1 or find_released(tiny_config) is None:
                    failures.append("none")
            except StoreError as error:
                failures.append(str(error))
        writer.join()
        assert failures == []

    def test_one_that_changes_while_it_is_read_is_read_again(self, two, tiny_config, monkeypatch):
        """The manifest of the older one may meet the record of the newer."""
        whole, _ = two
        record = (whole / "run.json").read_bytes()
        for content in (b"", record.replace(b"0.5", b"0.6")):
            (whole / "run.json").write_bytes(content)
            with monkeypatch.context() as patch:
                patch.setattr(
                    released_module.time, "sleep", lambda _: (whole / "run.json").write_bytes(record)
                )
                assert find_released(tiny_config).folder == whole

    def test_killed_between_the_two_renames(self, two, released, tiny_config, tiny_run):
        """The older one is read from where it lies then, and the next release clears up."""
        whole, _ = two
        whole.rename(released / ".old-tiny")
        assert find_released(tiny_config).results["probe"] == 0.5
        assert len(released_runs("tiny")) == 1
        release(tiny_run, "tiny", with_tsne=False)
        assert sorted(path.name for path in released.iterdir()) == ["digits-tiny-seed0", "tiny"]

    def test_amending_is_killed(self, two, tiny_config, monkeypatch):
        before = find_released(tiny_config)

        def die(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(store, "write_manifest", die)
            publish.amend(before)
        assert find_released(tiny_config).record == before.record


class TestWhatCannotBeReleased:
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    @pytest.mark.parametrize(
        ("fields", "message"),
        [({"width": 1, "epochs": 1}, "its features have one dimension"),
         ({"width": 2, "lr": 1.0, "weight_decay": 1.0, "momentum": 0.0, "schedule": "constant", "epochs": 6},
          "all of its train features are equal")],
        ids=["width 1", "collapsed to a point"],
    )  # fmt: skip
    def test_is_refused_in_one_sentence(self, home, released, capsys, fields, message):
        settings = [f"{name}={value}" for name, value in ({"arch": "mlp"} | fields).items()]
        assert cli.main(["train", "digits", "--set", *settings]) == 0
        assert cli.main(["release", "digits", "--set", *settings]) == 1
        assert message in capsys.readouterr().err.splitlines()[-1]
        assert released_runs() == []

    def test_measure_that_is_not_finite_is_named(self, released, tiny_run, monkeypatch):
        monkeypatch.setattr(evaluation, "results", lambda run, methods: {"probe": [0.5, {"x": float("inf")}]})
        with pytest.raises(StoreError, match="results/probe/1/x is inf"):
            release(tiny_run, "tiny", with_tsne=False)
        assert released_runs() == []

    def test_class_that_is_a_point_has_exact_features(self, tiny_run):
        f = tiny_run.features("test")
        f = dataclasses.replace(f, h=f.h * 0)
        parts, error = released_module.encode_features(f)
        assert error == 0
        assert all(np.isfinite(tensor.float().numpy()).all() for tensor in parts.values())

    def test_moments_are_those_of_the_run_but_for_rounding(self, two, tiny_run, tiny_config):
        run = find_released(tiny_config)
        kept, published = tiny_run.snapshots, run.snapshots
        assert kept.keys() == published.keys()
        assert {t.dtype for name, t in run.arrays.items() if re.match(r"\d.*/means", name)} == {torch.float32}
        for name, tensor in kept.items():
            bound = 2.0**-24 * tensor.abs() if name.endswith("/means") else tensor * 0
            if name.endswith("/projected"):  # above the diagonal: both are one sum, added in another order
                bound = 2.0**-48 * tensor.diagonal().outer(tensor.diagonal()).sqrt().triu(1)
                assert run.arrays[name].ndim == 1
            assert ((published[name] - tensor).abs() <= bound).all(), name
            assert published[name].dtype == tensor.dtype


def test_early_releases_have_whole_covariances():
    whole = torch.arange(9.0).reshape(3, 3)
    assert released_module.decode_moments({"0/test/projected": whole})["0/test/projected"] is whole


class TestAddingFeatures:
    @pytest.fixture
    def bare(self, released, tiny_run, tiny_config, monkeypatch):
        monkeypatch.setattr(evaluation, "results", lambda run, methods: {"probe": 0.5})
        release(tiny_run, "tiny", with_features=False, with_tsne=False)
        return find_released(tiny_config)

    def test_leaves_everything_else_as_it_was(self, bare, tiny_run, tiny_config):
        before, arrays = json.dumps(bare.record), dict(bare.arrays)
        publish.add_features(bare, tiny_run)
        run = find_released(tiny_config)
        added = {
            name: run.record["results"].pop(name) for name in ("feature_error", "feature_errors", "amended")
        }
        assert added["feature_error"] == added["feature_errors"]["test"]
        assert added["amended"]["commit"]
        assert json.dumps(run.record) == before
        assert all(torch.equal(run.arrays[name], tensor) for name, tensor in arrays.items())
        assert run.feature_splits == ("train", "test")

    def test_of_another_run_are_refused(self, bare, tiny_run, monkeypatch):
        monkeypatch.setattr(bare, "key", "0" * 64)
        with pytest.raises(StoreError, match="tiny is run 000000000000; its features are not those of"):
            publish.add_features(bare, tiny_run)


class TestBytes:
    def files(self, *folders: Path) -> list[str]:
        listed = ["git", "ls-files", "-z", "--", *map(str, folders)]
        return subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True).stdout.split("\0")[:-1]

    def test_git_translates_none_of_them(self):
        if not (files := self.files(RELEASED, FIXTURES)):
            pytest.skip("no checkout of git")
        asked = ["git", "check-attr", "-z", "text", "--", *files]
        answer = subprocess.run(asked, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
        values = answer.split("\0")[2::3]
        assert len(values) == len(files) > 100
        assert set(values) == {"unset"}

    def test_clone_that_translates_line_endings(self, tmp_path):
        files = self.files(RELEASED / "cifar10-laptop-seed0", FIXTURES)
        if not files:
            pytest.skip("no checkout of git")
        for name in [".gitattributes", *files]:
            (tmp_path / "origin" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, tmp_path / "origin" / name)

        def git(*arguments: str, cwd: str = "origin") -> None:
            author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
            subprocess.run(["git", *author, *arguments], cwd=tmp_path / cwd, check=True, capture_output=True)

        git("init")
        git("add", "-f", ".")
        git("commit", "-m", "all")
        git("clone", "-c", "core.autocrlf=true", "origin", "clone", cwd=".")
        for name in files:
            assert (tmp_path / "clone" / name).read_bytes() == (REPOSITORY / name).read_bytes(), name


def test_chapters_show_runs_on_super_classes():
    shown = released_runs(*LARGER)
    assert OPENING in {run.folder.name for run in shown}
    assert all(max(evaluation.fine_per_coarse(run)) > 1 for run in shown)


@pytest.mark.parametrize("name", ["digits-tiny-seed0", "digits-tiny-1-seed0"])
def test_release_of_an_earlier_version_is_read(released, name):
    """One of before formats were recorded, and one of format 1; features agree with the moments."""
    shutil.copytree(FIXTURES / "released", released)
    (run,) = released_runs(name)
    assert find_released(run.config).folder.parent == released
    assert run.record.get("format") == (1 if "-1-" in name else None)
    f, moments = run.features("test"), run.moments("test")
    assert f.h.shape == (int(moments.counts.sum()), 2)
    for fine in range(2):
        assert f.h[f.fine == fine].double().mean(0).tolist() == pytest.approx(
            moments.means[fine].tolist(), abs=1e-2
        )
    assert isinstance(run, Run) and run.released
