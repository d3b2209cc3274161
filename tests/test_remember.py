"""What was computed from a run is used again as long as all that decides it is the same."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from nclib.errors import StoreError
from nclib.runs import evaluation, sources
from nclib.runs.remember import remembered
from nclib.storage import store
from nclib.storage.layout import MANIFEST


@pytest.fixture
def calls(monkeypatch) -> list:
    monkeypatch.setenv("NCLIB_REMEMBER", "1")
    return []


@pytest.fixture
def compute(calls):
    def length(run, *arguments):
        calls.append(arguments)
        return {"seed": run.config.seed, "third": 1 / 3, "nan": float("nan"), "n": len(arguments)}

    return length


def test_is_computed_once_for_each_run_and_arguments(stored, calls, compute):
    first = remembered(stored, compute, (2, 2), "kmeans")
    again = remembered(stored, compute, (2, 2), "kmeans")
    assert str(first) == str(again)  # to the last digit, and nan
    assert remembered(stored, compute, (2, 3), "kmeans")["n"] == 2
    assert calls == [((2, 2), "kmeans"), ((2, 3), "kmeans")]


@pytest.mark.parametrize("what", ["source", "package", "damage", "digit", "run"])
def test_is_computed_again_when_something_changed(stored, home, calls, compute, monkeypatch, tmp_path, what):
    remembered(stored, compute)
    (file,) = (home / "results" / stored.key).iterdir()
    if what == "damage":
        file.write_text("{")
    elif what == "digit":
        value = json.loads(file.read_text())
        value["value"]["n"] += 1
        file.write_text(json.dumps(value))
    elif what == "run":  # trained once more, after it was lost
        (stored.folder / MANIFEST).write_text("{}")
    else:
        sources.fingerprint.cache_clear()
        if what == "source":
            (tmp_path / "a.py").write_text("x = 1")
            monkeypatch.setattr(sources, "PACKAGE", tmp_path)
        else:
            monkeypatch.setattr(sources, "_version", lambda name: "0")
    remembered(stored, compute)
    remembered(stored, compute)
    assert len(calls) == 2
    assert list((home / "results" / stored.key).iterdir()) == [file]
    sources.fingerprint.cache_clear()


def test_not_of_other_runs_than_the_stores(stored, home, calls, compute):
    released = SimpleNamespace(key=stored.key, folder=home / "elsewhere", config=stored.config)
    for _ in range(2):
        remembered(released, compute)
    assert len(calls) == 2
    assert not (home / "results").exists()


def test_not_where_it_is_switched_off(stored, home, calls, compute, monkeypatch):
    monkeypatch.setenv("NCLIB_REMEMBER", "0")
    remembered(stored, compute)
    assert not (home / "results").exists()


def test_a_store_that_cannot_be_written(stored, home, calls, compute, monkeypatch):
    def full(*_):
        raise StoreError("no space")

    monkeypatch.setattr("nclib.runs.remember.write_bytes", full)
    with pytest.warns(UserWarning, match="length will be computed again next time: no space"):
        assert remembered(stored, compute)["n"] == 0


def test_results_are_the_same_from_the_store(stored, monkeypatch):
    computed = evaluation.results(stored, methods=("kmeans",))
    monkeypatch.setenv("NCLIB_REMEMBER", "1")
    for _ in range(2):
        assert evaluation.results(stored, methods=("kmeans",)) | {"seconds": 0} == computed | {"seconds": 0}


def test_go_with_their_run(stored, home, calls, compute):
    remembered(stored, compute)
    assert store.leftovers() == []
    store.delete(stored.folder)
    assert store.leftovers() == [home / "results" / stored.key]
