"""The store: whole runs or none, every byte checked, nothing lost when the disk refuses."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_layout import imported_modules

from nclib.config import RunConfig
from nclib.errors import StoreError
from nclib.paths import PACKAGE
from nclib.runs import get
from nclib.storage import store

KEY = "ab" * 32
FILES = ("run.json", "model.safetensors", "moments.safetensors", "features.safetensors")


def write_some(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"first")
    (folder / "b.bin").write_bytes(b"second" * 100)


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
        assert json.loads((folder / "manifest.json").read_text())["files"] == {
            "a.bin": {"sha256": hashlib.sha256(b"first").hexdigest(), "bytes": 5},
            "b.bin": {"sha256": hashlib.sha256(b"second" * 100).hexdigest(), "bytes": 600},
        }
        assert store.verified(KEY) == folder == home / "runs" / KEY

    def test_failing_write_leaves_nothing(self, home):
        def write(folder: Path) -> None:
            write_some(folder)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.add(KEY, write)
        assert files_under(home) == []
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
            (store.add(KEY, write_some) / "a.bin").write_bytes(b"other")
            with pytest.raises(StoreError):
                store.verified(KEY)
        assert len(list((home / "damaged").iterdir())) == 2

    @pytest.mark.parametrize("content", [b"", b"not safetensors", None])
    def test_damaged_checkpoint_is_named(self, home, tiny_config, content):
        file = store.unfinished_folder(store.run_key(tiny_config)) / "state.safetensors"
        file.parent.mkdir(parents=True)
        file.write_bytes(content if content is not None else b"\xff" * 100)
        with pytest.raises(StoreError, match="Delete it and try again") as caught:
            get.train_run(tiny_config)
        assert str(file) in str(caught.value)


class TestRefusedWrites:
    @pytest.mark.parametrize("where", ["a file", "/proc/nclib", "/dev/null/nclib"])
    def test_home_that_cannot_be_written(self, tmp_path, monkeypatch, no_training, tiny_config, where):
        (tmp_path / "a file").write_text("mine")
        monkeypatch.setenv("NCLIB_HOME", str(tmp_path / where))
        with pytest.raises(StoreError, match=r"cannot write .*set NCLIB_HOME"):
            get.train_run(tiny_config)
        assert (tmp_path / "a file").read_text() == "mine"

    def test_full_disk_stops_with_advice_and_leaves_nothing(self, home, tiny_config):
        with full_disk(), pytest.raises(StoreError, match=r"cannot write .*too large.*set NCLIB_HOME"):
            get.train_run(tiny_config)
        assert [name for name in files_under(home) if not name.startswith("locks")] == []
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
        carriers = {"config.py", "errors.py", "paths.py", "storage/files.py", "data/torchvision_import.py"}
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
        doomed = [f"partial/{KEY}-1/a", f"damaged/{KEY}-2/b", f"checkpoints/{stored.key}/state.safetensors",
                  f"checkpoints/{KEY}/.x.safetensors.7.partial"]  # fmt: skip
        for name in doomed:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_bytes(b"12345")
        assert sum(store.delete(path) for path in store.leftovers()) == 20
        assert not any((home / name).exists() for name in doomed)
        assert store.verified(stored.key) == stored.folder

    def test_what_a_running_process_writes_is_none(self, home):
        with store.writing(KEY):
            folder = home / "partial" / f"{KEY}-{os.getpid()}"
            folder.mkdir(parents=True)
            assert store.leftovers() == []
        assert store.leftovers() == [folder]
