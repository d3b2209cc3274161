"""A file is whole or absent, whoever else writes it and whatever stops its writer."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from nclib.errors import StoreError
from nclib.storage import layout
from nclib.storage.files import json_bytes, write_bytes

NAME = "state.safetensors"


def test_two_threads_write_one_file(tmp_path, monkeypatch):
    """The second writes all of it while the first has written half."""
    path, sync = tmp_path / NAME, os.fsync

    def meanwhile(file: int) -> None:
        monkeypatch.setattr(os, "fsync", sync)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(write_bytes, path, b"second").result()
        assert path.read_bytes() == b"second"
        sync(file)

    monkeypatch.setattr(os, "fsync", meanwhile)
    write_bytes(path, b"the first")
    assert path.read_bytes() == b"the first"
    assert os.listdir(tmp_path) == [NAME]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_nothing_is_left_behind(tmp_path, monkeypatch, error):
    def stop(_file: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(error):
        write_bytes(tmp_path / NAME, b"half")
    assert os.listdir(tmp_path) == []


def test_what_a_killed_writer_leaves_is_known_as_the_stores_own(tmp_path, monkeypatch):
    folder = tmp_path / "checkpoints" / ("0" * 64)
    partial = []
    monkeypatch.setattr(os, "replace", lambda source, _target: partial.append(source))
    write_bytes(folder / NAME, b"half")
    assert partial[0].read_bytes() == b"half" and layout.foreign(folder) is None


def test_advice_is_that_of_the_reason(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for name, advice in (
        ("folder", r"Is a directory\. It is a folder: name a file in it\.$"),
        ("a" * 300, r"File name too long\. Choose a shorter name\.$"),
        ("file/x", "another place, or for the store set NCLIB_HOME"),
    ):
        with pytest.raises(StoreError, match=advice):
            write_bytes(tmp_path / name, b"")


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5e-300, None, True], "b": []},
        [[[1, 2], [3]], [], [{}], ["x"]],
        ["[\n 1,\n 2\n]", "a ] b", 'quote " [', "{"],
        {"[\n": "\n]", "rows": [{"a": [1]}, {"a": ["\n", "[", "]"]}]},
        [],
        "text",
    ],
)
def test_json_reads_back_as_it_was_written(value):
    assert json.loads(json_bytes(value)) == value


def test_plain_lists_stand_on_one_line():
    rows = {"classes": ["a", "b"], "rows": [{"k": [1, 2, 3]}, [4, [5, 6]]]}
    lines = [line.strip() for line in json_bytes(rows).decode().splitlines()]
    assert '"classes": ["a", "b"],' in lines and '"k": [1, 2, 3]' in lines and "[5, 6]" in lines


def test_numbers_that_json_cannot_hold_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        json_bytes({"a": [float("nan")]})
