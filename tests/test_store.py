"""The store: whole runs or none, every byte checked, nothing lost when the disk refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import resource
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import rewritten
from test_layout import imported_modules

from nclib import cli
from nclib.config import RunConfig
from nclib.errors import StoreError
from nclib.paths import PACKAGE
from nclib.runs import get
from nclib.runs.run import Run
from nclib.storage import store

KEY = "ab" * 32
FILES = ("run.json", "model.safetensors", "moments.safetensors", "features.safetensors")


RECORD = {
    "key": KEY,
    "config": {"arch": "mlp", "epochs": 1},
    "grouping": {},
    "image_shape": [1, 8, 8],
    "history": [{"epoch": 0, "test_accuracy": 0.1}, {"epoch": 1, "test_accuracy": 0.9}],
    "provenance": {},
}


def write_some(folder: Path, record: dict = RECORD) -> None:
    """All files that a run has; only the record is looked into."""
    (folder / "run.json").write_text(json.dumps(record))
    for name in (*FILES[1:], "weights-00000.safetensors"):
        (folder / name).write_bytes(name.encode() * 10)


@contextmanager
def full_disk(room: int = 200):
    """No file may grow beyond so many bytes: writing more fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class TestAdd:
    def test_manifest_lists_every_file_with_its_sum_and_length(self, home):
        folder = store.add(KEY, write_some)
        listed = json.loads((folder / "manifest.json").read_text())["files"]
        assert listed.keys() == {*FILES, "weights-00000.safetensors"}
        content = b"model.safetensors" * 10
        assert listed["model.safetensors"] == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": 170}
        assert store.verified(KEY) == folder == home / "runs" / KEY

    def test_failing_write_leaves_nothing(self, home):
        def write(folder: Path) -> None:
            write_some(folder)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.add(KEY, write)
        assert files_under(home) == [store.MARKER]
        assert not store.contains(KEY)

    def test_run_is_not_there_before_it_is_whole(self, home):
        seen = []
        store.add(KEY, lambda folder: (write_some(folder), seen.append(store.contains(KEY))))
        assert seen == [False]
        assert store.contains(KEY)

    def test_checkpoint_goes_when_the_run_is_there(self, home):
        store.unfinished_folder(KEY).mkdir(parents=True)
        (store.unfinished_folder(KEY) / "state.safetensors").write_bytes(b"state")
        store.add(KEY, write_some)
        assert not store.unfinished_folder(KEY).exists()


class TestDamage:
    @pytest.mark.parametrize("name", FILES)
    def test_changed_byte_is_named_set_aside_and_recomputed(self, stored, name, monkeypatch, tiny_run):
        path = stored.folder / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(StoreError, match=f"is damaged: {name} has a changed content") as caught:
            get.find_run(tiny_run.config)
        (aside,) = (stored.folder.parents[1] / "damaged").iterdir()
        assert stored.key[:12] in str(caught.value)
        assert str(aside) in str(caught.value)
        assert (aside / name).read_bytes() == content
        again = get.train_run(tiny_run.config)
        assert again.folder == stored.folder
        for part in FILES[1:]:
            assert (again.folder / part).read_bytes() == (tiny_run.folder / part).read_bytes()

    @pytest.mark.parametrize("name", [*FILES, "manifest.json"])
    def test_missing_file_is_named(self, stored, name):
        (stored.folder / name).unlink()
        with pytest.raises(StoreError, match=name):
            store.verified(stored.key)
        assert not store.contains(stored.key)

    def test_truncated_file_is_named(self, stored):
        path = stored.folder / "moments.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(StoreError, match=r"moments\.safetensors has \d+ bytes instead of \d+"):
            store.verified(stored.key)

    def test_run_without_manifest_is_still_listed(self, stored):
        (stored.folder / "manifest.json").unlink()
        assert store.stored_keys() == [stored.key]

    def test_set_aside_twice(self, home):
        for _ in range(2):
            (store.add(KEY, write_some) / "model.safetensors").write_bytes(b"other")
            with pytest.raises(StoreError):
                store.verified(KEY)
        assert len(list((home / "damaged").iterdir())) == 2


class TestRefusedWrites:
    @pytest.mark.parametrize("where", ["/proc/nclib", "/dev/null/nclib", "a file/nclib"])
    def test_home_that_cannot_be_written(self, tmp_path, monkeypatch, no_training, tiny_config, where):
        (tmp_path / "a file").write_text("mine")
        monkeypatch.setenv("NCLIB_HOME", str(tmp_path / where))
        with pytest.raises(StoreError, match=r"cannot write .*set NCLIB_HOME"):
            get.train_run(tiny_config)
        assert (tmp_path / "a file").read_text() == "mine"

    def test_full_disk_stops_with_advice_and_leaves_nothing(self, home, tiny_config):
        with full_disk(), pytest.raises(StoreError, match=r"cannot write .*too large.*set NCLIB_HOME"):
            get.train_run(tiny_config)
        assert [name for name in files_under(home) if not name.startswith("locks")] == [store.MARKER]
        assert get.train_run(tiny_config).key == store.run_key(tiny_config)

    def test_disk_that_is_full_only_at_the_end(self, home, tiny_config, monkeypatch):
        def refuse(*_):
            raise OSError(28, "No space left")

        monkeypatch.setattr(get, "write_tensors", refuse)
        with pytest.raises(StoreError, match="No space left"):
            get.train_run(tiny_config)
        assert store.unfinished_folder(store.run_key(tiny_config)).exists()  # the work is not lost
        assert not list((home / "partial").iterdir())

    def test_stored_run_is_read_from_a_full_disk(self, stored, no_training, tiny_config):
        with full_disk():
            run = get.find_run(tiny_config)
        assert run.history == stored.history


class TestKey:
    @pytest.fixture
    def package(self, tmp_path, monkeypatch):
        """A copy of the package, whose sources keys are then made from."""
        copy = Path(shutil.copytree(PACKAGE, tmp_path / "nclib"))
        monkeypatch.setattr(store, "PACKAGE", copy)
        store.source_fingerprint.cache_clear()
        yield copy
        store.source_fingerprint.cache_clear()

    def key_after(self, path: Path, config: RunConfig) -> str:
        with path.open("a") as file:
            file.write("# edited\n")
        store.source_fingerprint.cache_clear()
        return store.run_key(config)

    @pytest.mark.parametrize(
        "name", ["training/loop.py", "networks/models.py", "measures/moments.py", "data/datasets.py"]
    )
    def test_training_source_changes_it(self, package, tiny_config, name):
        before = store.run_key(tiny_config)
        assert self.key_after(package / name, tiny_config) != before

    @pytest.mark.parametrize(
        "name", ["chapters/figures.py", "runs/evaluation.py", "cli.py", "measures/probe.py"]
    )
    def test_other_source_does_not(self, package, tiny_config, name):
        before = store.run_key(tiny_config)
        assert self.key_after(package / name, tiny_config) == before

    def test_every_module_that_training_imports_decides_it(self):
        seen, todo = set(), {"training/loop.py", "training/stacked_seeds.py"}
        while todo:
            name = todo.pop()
            seen.add(name)
            todo |= set(map(str, imported_modules(PACKAGE / name))) - seen
        # the configuration and the data are in the key themselves; these only carry and name things
        carriers = {"config.py", "errors.py", "paths.py", "data/torchvision_import.py"}
        carriers |= {f"storage/{name}.py" for name in ("files", "integrity", "layout")}
        assert seen - carriers == set(store.TRAINING_SOURCES)

    def test_configuration_and_data_decide_it(self):
        keys = {store.run_key(RunConfig(**c)) for c in ({}, {"seed": 1}, {"dataset": "mnist"}, {"lr": 0.2})}
        assert len(keys) == 4
        assert all(len(key) == 64 and int(key, 16) for key in keys)

    def test_checksums_of_the_data_decide_it(self, monkeypatch):
        before = store.run_key(RunConfig(dataset="mnist"))
        monkeypatch.setattr(store.datasets, "fingerprint", lambda _: "other")
        assert store.run_key(RunConfig(dataset="mnist")) != before


class TestLock:
    def test_lock_of_a_dead_process_does_not_block(self, home, start, capsys):
        code = f"from nclib.storage import store\nwith store.writing({KEY!r}): print(1, flush=True); input()"
        process = start("-c", code, stdin=subprocess.PIPE)
        assert process.stdout.readline() == "1\n"
        process.kill()
        process.wait()
        with store.writing(KEY):
            assert (home / "locks" / KEY).exists()
        assert "waiting" not in capsys.readouterr().err

    def test_released_after_a_failure(self, home, capsys):
        with pytest.raises(RuntimeError), store.writing(KEY):
            raise RuntimeError
        with store.writing(KEY):
            pass
        assert "waiting" not in capsys.readouterr().err


class TestLeftovers:
    def test_finished_runs_and_live_checkpoints_are_none(self, stored, home):
        store.unfinished_folder(KEY).mkdir(parents=True)
        (store.unfinished_folder(KEY) / "state.safetensors").write_bytes(b"state of an unfinished run")
        assert store.leftovers() == []

    def test_what_is_left_over(self, stored, home):
        doomed = [f"partial/{KEY}-1/run.json", f"damaged/{KEY}-2/model.safetensors",
                  f"checkpoints/{stored.key}/state.safetensors",
                  f"checkpoints/{KEY}/.state.safetensors.7.partial"]  # fmt: skip
        for name in doomed:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_bytes(b"12345")
        for path in store.leftovers():
            store.delete(path)
        assert not any((home / name).exists() for name in doomed)
        assert store.verified(stored.key) == stored.folder

    def test_what_a_running_process_writes_is_none(self, home):
        with store.writing(KEY):
            folder = home / "partial" / f"{KEY}-{os.getpid()}"
            folder.mkdir(parents=True)
            assert store.leftovers() == []
        assert store.leftovers() == [folder]


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that lies under a folder, and every file's content."""
    paths = sorted(path for path in folder.rglob("*") if "locks" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


class TestForeign:
    """NCLIB_HOME is a folder that holds other things: none of them is listed, moved or deleted."""

    HASH = "cd" * 32  # other programs call folders by hashes too
    OTHERS = (
        "thesis.tex", "checkpoints/model.pt", "checkpoints/exp1/state.safetensors", "partial/x",
        "damaged/thesis/run.json", "runs/tensorboard1/run.json", "results/mine-x.json",
        f"runs/{HASH}/events.out", f"runs/{HASH.upper()}/run.json", f"checkpoints/{HASH}/model.safetensors",
        f"results/{HASH}/table.csv", f"damaged/{HASH}-1/notes.txt", f"partial/{HASH}-x/run.json",
    )  # fmt: skip

    @pytest.fixture
    def others(self, home):
        for name in self.OTHERS:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_bytes(name.encode())
        return tree(home)

    @pytest.mark.parametrize("command", [["ls"], ["verify"], ["gc"], ["gc", "--stale"], ["gc", "--dry-run"]])
    def test_nothing_is_touched_in_a_folder_without_marker(self, others, home, released, command):
        cli.main(command)
        assert tree(home) == others
        assert store.stored_keys() == [] and store.unfinished() == [] and store.leftovers() == []

    def test_gc_says_why_it_deletes_nothing(self, others, home, capsys):
        leftover = home / "damaged" / f"{KEY}-1"
        leftover.mkdir()
        assert cli.main(["gc"]) == 1
        assert f"nothing in {home} is deleted: it is not marked as a store" in capsys.readouterr().err
        assert leftover.exists()

    def test_runs_are_stored_beside_it(self, others, home, tiny_config, monkeypatch):
        run = get.train_run(tiny_config)
        assert store.stored_keys() == [run.key]
        monkeypatch.setattr(store, "source_fingerprint", lambda: "another version")
        for command in (["verify"], ["gc"], ["gc", "--stale"]):
            assert cli.main(command) == 0
        assert not run.folder.exists()
        assert {name: content for name, content in tree(home).items() if name in others} == others

    def test_file_in_a_run_that_is_not_its_own(self, stored, home, tiny_config, capsys):
        """The run can be read; it is neither set aside when damaged nor deleted when stale."""
        (stored.folder / "notes.txt").write_text("mine")
        assert get.find_run(tiny_config).history == stored.history
        assert store.stored_keys() == [stored.key]
        (stored.folder / "model.safetensors").write_bytes(b"")
        with pytest.raises(
            StoreError, match=r"It stays at .* it holds notes\.txt, which nclib did not write"
        ):
            store.verified(stored.key)
        assert cli.main(["gc", "--stale"]) == 0
        assert (stored.folder / "notes.txt").read_text() == "mine"

    def test_link_in_the_place_of_a_run(self, home, tmp_path, released, no_training, tiny_config, capsys):
        (home / "runs").mkdir(parents=True)
        link = store.run_folder(store.run_key(tiny_config))
        link.symlink_to(tmp_path / "nowhere")
        for command in (["ls"], ["verify"], ["gc", "--stale"]):
            cli.main(command)
        assert "Traceback" not in capsys.readouterr().err
        with pytest.raises(StoreError, match=r"is damaged.*It stays at .*move that away"):
            get.find_run(tiny_config)
        assert link.is_symlink()

    def test_run_that_was_moved_elsewhere_and_linked(self, stored, tmp_path, tiny_config, no_training):
        stored.folder.rename(tmp_path / "elsewhere")
        stored.folder.symlink_to(tmp_path / "elsewhere")
        assert get.find_run(tiny_config).history == stored.history
        assert store.stale(lambda folder: True) == []


class TestMarker:
    def test_is_written_with_the_first_run(self, home, tiny_config):
        assert store.stored_keys() == []
        assert not home.exists()
        get.train_run(tiny_config)
        assert json.loads((home / store.MARKER).read_text()) == {"format": 1}

    def test_store_of_before_is_adopted(self, stored, home, tiny_config, no_training):
        """It has none, and holds nothing but a store's own."""
        (home / "data" / "cifar").mkdir(parents=True)
        leftover = home / "damaged" / f"{KEY}-1"
        leftover.mkdir(parents=True)
        assert get.find_run(tiny_config).history == stored.history
        assert store.leftovers() == [leftover]
        with store.writing(KEY):
            assert (home / store.MARKER).exists()
        assert store.stored_keys() == [stored.key]

    @pytest.mark.parametrize(
        ("content", "message"),
        [('{"format": 2}', "has format 2, and this nclib reads 1. Update nclib"),
         ("{", "is damaged. Delete it"),
         ("[]", "is damaged. Delete it"), ('{"format": "1"}', "is damaged. Delete it")],
    )  # fmt: skip
    def test_of_a_later_version_or_damaged(
        self, stored, home, released, tiny_config, capsys, content, message
    ):
        (home / store.MARKER).write_text(content)
        before = tree(home)
        commands = [["ls"], ["verify"], ["gc", "--stale"], ["train", "digits"], ["get", "digits"]]
        for command in commands:
            assert cli.main(command) == 1
            out, err = capsys.readouterr()
            assert (out, err.count("\n")) == ("", 1)
            assert message in err
        assert tree(home) == before


class TestIdentity:
    def test_two_runs_in_each_others_place(self, stored, home, tiny_config):
        other = get.train_run(dataclasses.replace(tiny_config, seed=1))
        between = home / "between"
        for source, target in ((stored, between), (other, stored.folder), (between, other.folder)):
            getattr(source, "folder", source).rename(target)
        for run in (stored, other):
            with pytest.raises(StoreError, match=r"is damaged: run\.json is that of run"):
                store.verified(run.key)
        assert cli.main(["verify"]) == 0  # both were set aside
        assert store.stored_keys() == []

    @pytest.mark.parametrize(("name", "value"), [("config", {"seed": 2}), ("code", "0" * 64), ("data", "x")])
    def test_key_that_is_not_of_the_configuration(self, stored, name, value):
        def change(record):
            record[name] = record[name] | value if isinstance(value, dict) else value

        rewritten(stored.folder, change)
        with pytest.raises(StoreError, match="another configuration than its key is made from"):
            store.verified(stored.key)

    @pytest.mark.parametrize("name", [*FILES, "weights-00001.safetensors"])
    def test_manifest_that_does_not_list_a_file(self, stored, name):
        (stored.folder / name).unlink()
        store.write_manifest(stored.folder)
        with pytest.raises(StoreError, match=f"manifest.json does not list {name}"):
            store.verified(stored.key)

    def test_manifest_that_lists_nothing(self, stored):
        (stored.folder / "manifest.json").write_text('{"files": {}}')
        with pytest.raises(StoreError, match=r"manifest\.json does not list run\.json"):
            store.verified(stored.key)

    def test_manifest_that_lists_more(self, stored):
        (stored.folder / "weights-00077.safetensors").write_bytes(b"")
        store.write_manifest(stored.folder)
        with pytest.raises(StoreError, match=r"manifest\.json lists weights-00077\.safetensors"):
            store.verified(stored.key)

    @pytest.mark.parametrize(
        "fields",
        [{"history": []}, {"history": [{"epoch": 0}]}, {"history": None}, {"key": 3}, {"config": []},
         {"config": {"arch": "mlp"}}, {"config": {"arch": "mlp", "epochs": -1}, "history": []},
         {"config": {"arch": "mlp", "epochs": 10**12}}, {"grouping": None}, {"provenance": 1},
         {"format": "x"}, {"format": 0}],
    )  # fmt: skip
    def test_record_of_no_run(self, stored, released, capsys, fields):
        rewritten(stored.folder, lambda record: record.update(fields))
        assert cli.main(["ls"]) == 0
        out, err = capsys.readouterr()
        assert out == "" and "unreadable: run.json is no record of a run" in err
        with pytest.raises(StoreError, match=r"is damaged: run\.json is no record of a run"):
            store.verified(stored.key)
        assert not stored.folder.exists()

    def test_run_of_a_later_format_is_refused_and_stays(self, stored):
        rewritten(stored.folder, lambda record: record.__setitem__("format", 2))
        with pytest.raises(StoreError, match=r"has format 2, and this nclib reads 1\. Update nclib"):
            store.verified(stored.key)
        assert stored.folder.exists()


class TestMalformed:
    def test_every_flip_in_a_manifest_is_damage(self, stored, home):
        file = stored.folder / "manifest.json"
        content = file.read_bytes()
        for place in range(len(content)):
            file.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            problem = store.damage(stored.folder)
            assert problem or json.loads(file.read_bytes()) == json.loads(content)

    @pytest.mark.parametrize("word", ["sha256", "bytes", "files"])
    def test_verify_sets_it_aside_and_goes_on(self, stored, home, tiny_config, capsys, word):
        other = get.train_run(dataclasses.replace(tiny_config, seed=1))
        file = stored.folder / "manifest.json"
        file.write_text(file.read_text().replace(f'"{word}"', f'"{word[:-1]}x"', 1))
        assert cli.main(["verify"]) == 1
        out = capsys.readouterr().out
        assert "manifest.json is malformed" in out
        assert out.endswith("2 runs verified, 1 damaged\n")
        assert store.stored_keys() == [other.key]
        assert get.train_run(tiny_config).history == stored.history

    @pytest.mark.parametrize("content", ["[]", "3", "null", '{"files": []}', '{"files": {"../x": {}}}'])
    def test_other_json(self, stored, content):
        (stored.folder / "manifest.json").write_text(content)
        with pytest.raises(StoreError, match=r"manifest\.json is malformed.*set aside"):
            store.verified(stored.key)


class TestTwoProcessesAndOneDamagedRun:
    def test_the_second_finds_it_gone(self, stored, monkeypatch):
        (stored.folder / "model.safetensors").write_bytes(b"")
        locked = store.writing

        @contextmanager
        def writing(key):
            stored.folder.rename(stored.folder.parent / "by another process")
            with locked(key):
                yield

        monkeypatch.setattr(store, "writing", writing)
        with pytest.raises(StoreError, match="Another process set it aside; ask for the run again"):
            store.verified(stored.key)

    def test_the_second_finds_it_replaced(self, stored, tiny_run, monkeypatch):
        """What the other has trained again by then is not set aside."""
        (stored.folder / "model.safetensors").write_bytes(b"")
        locked = store.writing

        @contextmanager
        def writing(key):
            shutil.rmtree(stored.folder)
            shutil.copytree(tiny_run.folder, stored.folder)
            with locked(key):
                yield

        monkeypatch.setattr(store, "writing", writing)
        assert store.verified(stored.key) == stored.folder
        assert store.damage(stored.folder) is None


class TestDeleting:
    @pytest.fixture
    def leftover(self, home):
        folder = home / "damaged" / f"{KEY}-1"
        folder.mkdir(parents=True)
        return folder

    def test_refusal_is_named_and_nothing_is_said_to_be_deleted(self, leftover, home, monkeypatch, capsys):
        other = home / "damaged" / f"{'cd' * 32}-1"
        other.mkdir()
        real = shutil.rmtree

        def rmtree(path):
            if path == leftover:
                raise OSError(30, "Read-only file system")
            real(path)

        monkeypatch.setattr(store.shutil, "rmtree", rmtree)
        assert cli.main(["gc"]) == 1
        out, err = capsys.readouterr()
        assert out == f"deleted {other}\n"
        assert f"not deleted: cannot delete {leftover}: Read-only file system" in err

    def test_what_a_process_works_on_stays(self, stored, home, monkeypatch, capsys):
        """Runs, checkpoints and leftovers, also if it begins only after they were listed."""
        checkpoint = home / "checkpoints" / KEY / "state.safetensors"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_bytes(b"of another version")
        monkeypatch.setattr(store, "source_fingerprint", lambda: "another version")
        with store.writing(KEY), store.writing(stored.key):
            assert cli.main(["gc", "--stale"]) == 0
            assert capsys.readouterr().out == "nothing to delete\n"
            for path in (checkpoint.parent, stored.folder):
                with pytest.raises(StoreError, match="a process works on run"):
                    store.delete(path)
        assert checkpoint.exists() and stored.folder.exists()
        assert cli.main(["gc", "--stale"]) == 0
        assert not checkpoint.exists() and not stored.folder.exists()

    def test_lock_of_another_user_counts_as_held(self, leftover, home, monkeypatch):
        (home / "locks").mkdir()
        (home / "locks" / KEY).touch()

        def refuse(path, flags, *mode, open=os.open):
            if Path(path).parent.name == "locks":
                raise PermissionError(13, "Permission denied")
            return open(path, flags, *mode)

        monkeypatch.setattr(store.os, "open", refuse)
        assert store.is_busy(KEY)
        assert store.leftovers() == []

    def test_asking_whether_a_lock_is_held_writes_nothing(self, home):
        (home / "locks").mkdir(parents=True)
        assert not store.is_busy(KEY)
        assert list((home / "locks").iterdir()) == []


class TestHome:
    @pytest.mark.parametrize(
        ("chosen", "reason"),
        [
            ("x" * 5000, "File name too long"),
            ("~nobody-of-this-name/store", "home directory"),
            ("a file", "a file"),
        ],
        ids=["too long", "unknown user", "a file"],
    )
    @pytest.mark.parametrize("variable", ["NCLIB_HOME", "NCLIB_DATA"])
    def test_that_is_no_folder(self, home, tmp_path, monkeypatch, released, capsys, variable, chosen, reason):
        (tmp_path / "a file").touch()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv(variable, chosen)
        for command in [["ls"], ["verify"], ["gc"], ["train", "digits"]] if variable == "NCLIB_HOME" else []:
            assert cli.main(command) == 1
            out, err = capsys.readouterr()
            assert (out, err.count("\n")) == ("", 1)
            assert f"cannot use {variable}=" in err and reason in err and f"Set {variable}" in err
            assert len(err) < 400
        assert cli.main(["doctor"]) == (1 if variable == "NCLIB_HOME" else 0)
        assert f"cannot use {variable}=" in capsys.readouterr().out


class TestStoreOfBeforeFormats:
    """tests/fixtures/store-before-formats: a run of a perceptron of width 2 on two digits, with no marker."""

    FIXTURE = Path(__file__).parent / "fixtures" / "store-before-formats"
    OLD = "02da5f309356826e545379d5dcaf8a42a4fef7e44b5ce18513449170a3b28c9a"

    @pytest.fixture
    def old(self, home):
        shutil.copytree(self.FIXTURE, home)
        return home / "runs" / self.OLD

    def test_is_read(self, old, released, capsys):
        assert cli.main(["verify"]) == 0
        assert cli.main(["ls"]) == 0
        out = capsys.readouterr().out
        assert out.startswith("1 runs verified, 0 damaged\n02da5f309356  stored ")
        assert out.split()[7:9] == ["digits", "mod2"]
        run = Run(store.verified(self.OLD))
        f = run.features("test")
        decided = (f.h @ f.weight.T + f.bias).argmax(1)
        assert float((decided == f.coarse).double().mean()) == pytest.approx(run.history[-1]["test_accuracy"])
        assert torch.equal(run.model().head.weight, f.weight)
        assert torch.equal(run.model(1).head.weight, run.head(1)[0])
        assert cli.main(["gc"]) == 0
        assert store.stored_keys() == [self.OLD]

    def test_is_no_run_of_this_version(self, old):
        """Nobody can tell that today's sources would give the same."""
        assert get.find_run(Run(old).config, released=False) is None

    def test_under_another_key_is_never_that_run(self, old, tiny_config):
        old.rename(store.run_folder(store.run_key(tiny_config)))
        with pytest.raises(StoreError, match=r"run\.json is that of run 02da5f309356"):
            get.find_run(tiny_config)

    def test_that_kept_nothing_of_the_way(self, old):
        for path in old.glob("weights-*"):
            path.unlink()
        store.write_manifest(old)
        assert store.damage(old) is None


class TestStoreOfFormat1:
    """tests/fixtures/store-1: the same run, trained into a store with a marker."""

    def test_is_read(self, home, released, capsys):
        shutil.copytree(Path(__file__).parent / "fixtures" / "store-1", home)
        assert cli.main(["verify"]) == 0
        assert capsys.readouterr().out == "1 runs verified, 0 damaged\n"
        (key,) = store.stored_keys()
        run = Run(store.verified(key))
        assert run.record["format"] == 1
        f = run.features("test")
        decided = (f.h @ f.weight.T + f.bias).argmax(1)
        assert float((decided == f.coarse).double().mean()) == pytest.approx(run.history[-1]["test_accuracy"])
