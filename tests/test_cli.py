"""The command line: exit codes, last lines for scripts, and no torch before it is needed."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import signal
import sys
import time
from pathlib import Path

import nbformat
import pytest
import torch
from conftest import TINY

from nclib import __version__, cli, doctor, notebook
from nclib.config import recipe_config
from nclib.runs import evaluation, publish
from nclib.runs.run import Run
from nclib.storage import store

SET = ["--set", *(f"{name}={value}" for name, value in TINY.items())]


def damage(run: Run) -> None:
    path = run.folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


class TestGetAndTrain:
    @pytest.mark.parametrize("command", ["train", "get"])
    def test_last_line_says_where_as_json(self, stored, no_training, capsys, command):
        assert cli.main([command, "digits", *SET, "--json"]) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert json.loads(last) == {"key": stored.key, "folder": str(stored.folder)}

    def test_last_line_says_where_in_words(self, stored, no_training, capsys):
        assert cli.main(["get", "digits", *SET]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == f"{stored.key} {stored.folder}"
        assert f"test {stored.history[-1]['test_accuracy']:.4f}" in lines[1]

    def test_train_trains(self, home, tiny_run, capsys):
        assert cli.main(["train", "digits", *SET, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["key"] == tiny_run.key
        assert Run(home / "runs" / tiny_run.key).history == tiny_run.history

    def test_seeds_are_a_line_each_in_order(self, home, monkeypatch, capsys):
        monkeypatch.setattr("nclib.runs.get.processors", lambda: 1)  # no processes
        assert cli.main(["train", "digits", *SET, "seed=3", "--seeds", "2"]) == 0
        configs = [recipe_config("digits", **TINY, seed=seed) for seed in (3, 4)]
        keys = [store.run_key(config) for config in configs]
        lines = capsys.readouterr().out.splitlines()
        assert lines == [f"{key} {home / 'runs' / key}" for key in keys]
        assert [Run(store.run_folder(key)).config for key in keys] == configs

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [([], "required: RECIPE"), (["digits", "--seeds", "0"], "expected 1 to 1000"),
         (["digits", "--seeds", "100000000"], "1 to 1000"), (["digits", "--seeds", 30 * "9"], "1 to 1000"),
         (["digits", "--seed", "3"], "arguments: --seed 3; fields of a recipe are set by --set seed=VALUE"),
         (["digits", "--sed", "3"], "unrecognized arguments: --sed 3")],
    )  # fmt: skip
    def test_what_does_not_go_together_is_a_usage_error(self, home, capsys, arguments, message):
        with pytest.raises(SystemExit) as left:
            cli.main(["train", *arguments])
        assert left.value.code == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
        assert not home.exists()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [(["digit"], "did you mean 'digits'"), (["digits", "--set", "epoch=3"], "did you mean 'epochs'"),
         (["digits", "--set", "grouping=0,999999999"], "with none left out"),
         (["digits", "--set", "seed=1" + 30 * "0"], "from 0 to 2147483647"),
         (["digits", "--set", "lr=nan"], "from 1e-08 to 100"), (["digits", "--set", "lr"], "field=value")],
    )  # fmt: skip
    def test_bad_input_is_one_line_and_writes_nothing(self, home, capsys, arguments, message):
        assert cli.main(["train", *arguments]) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert err.startswith("nclib: ")
        assert message in err
        assert not home.exists()

    def test_damaged_run_fails_once_and_is_then_recomputed(self, stored, capsys):
        damage(stored)
        assert cli.main(["train", "digits", *SET]) == 1
        assert "model.safetensors has a changed content" in capsys.readouterr().err
        assert cli.main(["train", "digits", *SET]) == 0
        assert store.damage(stored.folder) is None

    def test_interruption_says_that_nothing_is_lost(self, home, capsys, monkeypatch):
        def interrupted(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr("nclib.runs.get.train_run", interrupted)
        assert cli.main(["train", "digits", *SET]) == 130
        assert "goes on from the last checkpoint" in capsys.readouterr().err

    def test_release_of_a_run_that_is_not_there(self, home, released, capsys):
        assert cli.main(["release", "digits", *SET]) == 1
        assert "nclib train" in capsys.readouterr().err
        assert not released.exists()

    def test_a_run_has_one_name_however_it_is_asked_for(self, home, released, tiny_run, capsys, monkeypatch):
        monkeypatch.setattr("nclib.runs.get.find_run", lambda config, released: tiny_run)
        monkeypatch.setattr("nclib.runs.publish.release", lambda run, name: name)
        asked = (
            ["weight_decay=5e-4", "grouping=random5:3", "seed=2"],
            ["seed=2", "grouping=random5:3", "weight_decay=0.0005"],
        )
        for fields in asked:
            assert cli.main(["release", "digits", "--set", *fields]) == 0
        names = capsys.readouterr().out.splitlines()
        assert names == ["digits-grouping-random5-3-weight_decay-0.0005-seed2"] * 2

    def test_a_run_is_not_released_twice(self, stored, released, capsys, monkeypatch):
        monkeypatch.setattr(evaluation, "results", lambda run, methods: {})
        publish.release(stored, "another", with_features=False, with_tsne=False)
        assert cli.main(["release", "digits", *SET]) == 1
        assert "released as another; delete that folder to name it" in capsys.readouterr().err
        assert [path.name for path in released.iterdir()] == ["another"]


class TestLs:
    def test_json_lines(self, stored, released, capsys):
        assert cli.main(["ls", "--json"]) == 0
        assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
            {"key": stored.key, "folder": str(stored.folder), "released": False}
        ]

    def test_in_words(self, stored, released, capsys):
        assert cli.main(["ls"]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(f"{stored.key[:12]}  stored")
        assert f"seed 0: coarse test accuracy {stored.history[-1]['test_accuracy']:.3f}" in line

    def test_what_few_runs_have_is_told(self):
        plain = recipe_config("digits")
        assert cli._unusual(plain) == ""
        unusual = dataclasses.replace(plain, label_noise=0.1, held_out=(7, 8), l2_features=True)
        assert cli._unusual(unusual) == "label noise 0.1, without classes 7 8, features of length one, "

    def test_empty(self, home, released, capsys):
        assert cli.main(["ls"]) == 0
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize("content", [b"{", b'{"config": {"a": 1}}'])
    def test_unreadable_run_is_named_and_does_not_stop_it(self, stored, released, capsys, content):
        (stored.folder / "run.json").write_bytes(content)
        assert cli.main(["ls"]) == 0
        assert f"{stored.key[:12]}  unreadable" in capsys.readouterr().err

    def test_a_changed_digit_is_no_result(self, stored, released, capsys):
        record = stored.folder / "run.json"
        record.write_text(record.read_text().replace('"test_accuracy": 0.', '"test_accuracy": 1.'))
        assert cli.main(["ls"]) == 0
        found = capsys.readouterr()
        assert found.out == "" and f"{stored.key[:12]}  unreadable" in found.err

    def test_a_reader_that_leaves_early(self, stored, start):
        """As `nclib ls | head` does."""
        process = start("-m", "nclib", "ls")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(100) == 128 + signal.SIGPIPE


class TestVerify:
    def test_intact(self, stored, capsys):
        assert cli.main(["verify"]) == 0
        assert capsys.readouterr().out == "1 runs verified, 0 damaged\n"

    @pytest.mark.parametrize("how", ["changed", "no manifest"])
    def test_damaged(self, stored, capsys, how):
        if how == "changed":
            damage(stored)
        else:
            (stored.folder / "manifest.json").unlink()
        assert cli.main(["verify"]) == 1
        out = capsys.readouterr().out
        assert {"changed": "model.safetensors", "no manifest": "manifest.json"}[how] in out
        assert out.endswith("1 runs verified, 1 damaged\n")
        assert not stored.folder.exists()

    def test_by_the_beginning_of_the_key(self, stored, capsys):
        assert cli.main(["verify", stored.key[:8]]) == 0
        assert cli.main(["verify", "nosuchkey"]) == 1
        assert "no run in the store begins with 'nosuchkey'\n" in capsys.readouterr().out


class TestGc:
    @pytest.fixture
    def leftover(self, stored, home):
        path = home / "damaged" / f"{stored.key}-1" / "run.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"1")
        return path

    def test_dry_run_deletes_nothing(self, leftover, capsys):
        assert cli.main(["gc", "--dry-run"]) == 0
        assert capsys.readouterr().out == f"would delete {leftover.parent}\n"
        assert leftover.exists()

    def test_deletes_leftovers_only(self, leftover, stored, capsys):
        assert cli.main(["gc"]) == 0
        assert not leftover.exists()
        assert store.damage(stored.folder) is None
        assert cli.main(["gc"]) == 0
        assert "nothing to delete" in capsys.readouterr().out

    def test_stale_runs_only_when_asked(self, stored, monkeypatch):
        assert cli.main(["gc", "--stale"]) == 0
        assert stored.folder.exists()  # made by this version
        monkeypatch.setattr(store, "source_fingerprint", lambda: "another version")
        assert cli.main(["gc"]) == 0
        assert stored.folder.exists()
        assert cli.main(["gc", "--stale"]) == 0
        assert not stored.folder.exists()

    def test_run_with_fields_of_another_version_is_stale(self, stored):
        record = json.loads((stored.folder / "run.json").read_text())
        record["config"]["depth"] = 3
        (stored.folder / "run.json").write_text(json.dumps(record))
        assert cli.main(["gc", "--stale"]) == 0
        assert not stored.folder.exists()


class TestRunNotebook:
    @pytest.fixture
    def chapter(self, home, tmp_path, monkeypatch):
        """A notebook with two parameters, in the folder where the command runs."""
        code, tag = nbformat.v4.new_code_cell, {"tags": ["parameters"]}
        cells = [code('recipe = "digits"\nk: int = 2', metadata=tag),
                 code("import nclib\nchoice = nclib.notebook.parameters(globals())"),
                 code("print('the answer is', 21 * k)"),
                 nbformat.v4.new_markdown_cell("So $x^2$.")]  # fmt: skip
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        monkeypatch.chdir(tmp_path)
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), tmp_path / "my.ipynb")
        return tmp_path

    def test_interruption_leaves_no_half_notebook_in_the_way(self, chapter, monkeypatch):
        def interrupted(_source, output, _values):
            output.write_text("half")
            raise KeyboardInterrupt

        monkeypatch.setattr("nclib.notebook.execute", interrupted)
        assert cli.main(["run", "my.ipynb"]) == 130
        assert not (chapter / "out_my.ipynb").exists()

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [("kk", "3", "allowed: recipe, k, "), ("epochz", "3", "did you mean 'epochs'"),
         ("k", "0", "from 1 to 1000"), ("k", "three", "whole number"), ("epochs", "0", "from 1 to 100000"),
         ("recipe", "x", "allowed: digits")],
    )  # fmt: skip
    def test_bad_parameter_does_nothing(self, chapter, monkeypatch, capsys, name, value, message):
        before = sorted(chapter.rglob("*"))
        monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("executed"))
        assert cli.main(["run", "my.ipynb", "-p", name, value]) == 1
        assert message in capsys.readouterr().err
        assert sorted(chapter.rglob("*")) == before

    def test_without_papermill_it_says_what_to_install(self, chapter, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "papermill", None)
        assert cli.main(["run", "my.ipynb"]) == 1
        assert "pip install papermill" in capsys.readouterr().err

    def test_an_installed_package_has_no_chapters(self, chapter, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr(notebook, "NOTEBOOKS", tmp_path / "none")
        assert cli.main(["run", "01"]) == 1
        assert "chapters are in the repository" in capsys.readouterr().err

    def test_unknown_notebook(self, chapter, capsys):
        assert cli.main(["run", "99_nothing"]) == 1
        assert "no notebook '99_nothing'" in capsys.readouterr().err

    @pytest.fixture
    def executed(self, monkeypatch):
        """What would be executed, (source, output) as papermill is given them; nothing is."""
        calls = []

        def execute(source, output, **_):
            calls.append((source, output))
            Path(output.format()).touch()

        monkeypatch.setattr("papermill.execute_notebook", execute)
        return calls

    @pytest.mark.parametrize("other", ["my.ipynb", "./my.ipynb", "link.ipynb", "hard.ipynb"])
    @pytest.mark.parametrize("force", [[], ["--force"]])
    def test_the_notebook_itself_is_not_overwritten(self, chapter, executed, capsys, other, force):
        (chapter / "link.ipynb").symlink_to("my.ipynb")
        os.link("my.ipynb", "hard.ipynb")
        for option in ("--output", "--html"):
            assert cli.main(["run", "my.ipynb", option, other, *force]) == 1
            assert "it is read here" in capsys.readouterr().err
        assert executed == []

    def test_one_file_for_both_is_refused(self, chapter, executed, capsys):
        assert cli.main(["run", "my.ipynb", "--output", "X", "--html", f"../{chapter.name}/X"]) == 1
        assert "--output and --html are both X" in capsys.readouterr().err
        assert executed == []

    @pytest.mark.parametrize("arguments", [[], ["--output", "out_my.ipynb"], ["--html", "out_my.ipynb"]])
    def test_overwrites_only_when_told_to(self, chapter, executed, capsys, arguments):
        (chapter / "out_my.ipynb").write_text("mine")
        assert cli.main(["run", "my.ipynb", *arguments]) == 1
        assert "out_my.ipynb is there already" in capsys.readouterr().err
        assert executed == []
        assert (chapter / "out_my.ipynb").read_text() == "mine"
        if "--html" not in arguments:
            assert cli.main(["run", "my.ipynb", *arguments, "--force"]) == 0
            assert len(executed) == 1

    def test_output_that_is_a_folder(self, chapter, executed, capsys):
        assert cli.main(["run", "my.ipynb", "--output", "."]) == 1
        assert "it is a folder" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["-", "a {b} {0}.ipynb", "http:x.ipynb"])
    def test_names_that_mean_something_to_papermill(self, chapter, executed, name):
        assert cli.main(["run", "my.ipynb", "--output", name]) == 0
        ((source, output),) = executed
        assert (source.format(), output.format()) == (str(chapter / "my.ipynb"), str(chapter / name))

    @pytest.mark.parametrize(
        "content",
        [b"", b"junk", b"[]", b"{}", b'{"cells": 3}', b"\xff", b"[" * 9999,
         b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [3]}',
         b'{"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": ['
         b'{"cell_type": "raw", "source": "%x 1", "metadata": {"tags": ["parameters"]}}]}'],
    )  # fmt: skip
    def test_what_is_no_notebook(self, chapter, executed, capsys, content):
        (chapter / "junk.ipynb").write_bytes(content)
        assert cli.main(["run", "junk.ipynb"]) == 1
        assert "junk.ipynb cannot be read as a notebook" in capsys.readouterr().err
        assert executed == []

    @pytest.mark.parametrize("name", ["a\x1b[31m.ipynb", "\udcff\n\x07.ipynb", "<b>.ipynb"])
    def test_hostile_names_are_printed_harmlessly(self, chapter, executed, capsys, name):
        (chapter / "my.ipynb").rename(name)
        assert cli.main(["run", name]) == 0
        assert cli.main(["run", name]) == 1
        assert cli.main(["run", f"no{name}"]) == 1
        for text in capsys.readouterr():
            assert text.replace("\n", "").isprintable()
            assert name.replace("\x1b", "\\x1b").replace("\udcff", "\\udcff").replace("\x07", "\\x07") in text

    @pytest.mark.slow
    def test_executes_into_one_page(self, chapter, start):
        command = ["-m", "nclib.cli", "run", "my.ipynb", "-p", "k", "3", "--html", "out.html"]
        process = start(*command, TQDM_DISABLE="")
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        page = (chapter / "out.html").read_text(encoding="utf-8")
        assert "the answer is 63" in page
        assert notebook.MATHJAX.read_text(encoding="utf-8")[:200] in page
        assert 'src="http' not in page
        assert "Executing" in err  # the progress bar
        assert not (chapter / "out_my.ipynb").exists()

    @pytest.mark.slow
    def test_several_at_once_in_one_folder(self, chapter, start):
        names = [f"{i}.ipynb" for i in range(1, 5)]
        command = ["-m", "nclib.cli", "run", "my.ipynb", "-p", "k"]
        running = [start(*command, name[0], "--output", name) for name in names]
        for process in running:
            _, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
        for i, name in enumerate(names, 1):
            assert f"the answer is {21 * i}" in (chapter / name).read_text(encoding="utf-8")
        assert sorted(path.name for path in chapter.iterdir()) == [*names, "my.ipynb"]

    @pytest.mark.slow
    def test_leaves_no_socket_when_terminated(self, chapter, start):
        changed = nbformat.read("my.ipynb", as_version=4)
        changed.cells[2].source = """
import pathlib, time
from ipykernel.connect import get_connection_file
pathlib.Path("beginning").write_text(get_connection_file())
pathlib.Path("beginning").rename("begun")
time.sleep(600)
"""
        nbformat.write(changed, "my.ipynb")
        process = start("-m", "nclib.cli", "run", "my.ipynb")
        deadline = time.monotonic() + 100
        while not (begun := chapter / "begun").exists() and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        sockets = Path(begun.read_text()).parent
        assert len(list(sockets.glob("kernel-ipc-*"))) == 5
        assert sockets.stat().st_mode & 0o077 == 0  # of this user alone
        process.terminate()
        process.communicate(timeout=100)
        assert process.returncode == 128 + signal.SIGTERM
        assert not sockets.exists()
        assert not list(chapter.glob("kernel-*"))


class TestDoctor:
    def test_all_well(self, home, capsys):
        assert cli.main(["doctor"]) == 0
        out = capsys.readouterr().out
        assert f"[ok] store {home} can be written" in out
        assert "[ok] data sets: digits" in out
        assert out.splitlines()[-1].startswith("Next: nclib run 01")

    def test_leaves_nothing(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setenv("NCLIB_HOME", str(tmp_path / "new" / "store"))
        assert cli.main(["doctor"]) == 0
        assert f"[ok] store {tmp_path / 'new' / 'store'} can be written" in capsys.readouterr().out
        assert not list(tmp_path.iterdir())

    def test_an_installed_package_is_for_features(self, home, capsys, monkeypatch):
        monkeypatch.setattr(doctor, "NOTEBOOKS", home / "none")
        assert cli.main(["doctor"]) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith("Next: work on your own features")

    def test_lacks_come_with_remedies(self, home, capsys, monkeypatch):
        monkeypatch.setenv("NCLIB_DATA", str(home / "none"))
        monkeypatch.setitem(doctor.PACKAGES, "no-such-package", ("nothing", "pip install it"))
        assert cli.main(["doctor"]) == 0  # none of this stops the quick tier
        lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
        assert lines[lines.index("pip install it") - 1].startswith("[--] no-such-package is not installed")
        (data,) = (line for line in lines if "svhn" in line)  # all that are absent, in one line
        assert data.startswith(f"[--] not in {home / 'none'}: fashion, mnist, svhn, cifar10, cifar100; ")
        assert "NCLIB_DATA" in data
        assert lines[-1] == "Next: pip install it    # no-such-package, for nothing"

    @pytest.mark.parametrize(("bf16", "word"), [(True, "has"), (False, "lacks")])
    def test_a_processor_without_bf16(self, bf16, word, home, capsys, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bf16, "avx2": True})
        assert cli.main(["doctor"]) == 0
        out = capsys.readouterr().out
        assert f"the processor {word} instructions for bf16" in out
        assert ("--set precision=fp32" in out) != bf16

    def test_a_device_that_is_none(self, home, capsys, monkeypatch):
        monkeypatch.setenv("NCLIB_DEVICE", "garbage\x1b[31m")
        assert cli.main(["doctor"]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert any(line.startswith("[--] NCLIB_DEVICE='garbage\\x1b[31m': ") for line in lines)
        assert lines[-1] == "Next: unset NCLIB_DEVICE, or set it to cpu"
        assert cli.main(["train", "digits", *SET]) == 1
        assert capsys.readouterr().err.startswith("nclib: NCLIB_DEVICE='garbage")

    @pytest.mark.parametrize("variable", ["NCLIB_HOME", "NCLIB_DATA"])
    def test_a_folder_of_no_user(self, home, capsys, monkeypatch, variable):
        monkeypatch.setenv(variable, "~no-such-user/x")
        assert cli.main(["doctor"]) == (1 if variable == "NCLIB_HOME" else 0)
        assert f"{variable}=~no-such-user/x: Could not determine home" in "".join(capsys.readouterr())

    def test_store_that_cannot_be_written(self, tmp_path, monkeypatch, capsys):
        (tmp_path / "file").touch()
        monkeypatch.setenv("NCLIB_HOME", str(tmp_path / "file"))
        assert cli.main(["doctor"]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert (
            "set NCLIB_HOME" in lines[lines.index(next(li for li in lines if "cannot be written" in li)) + 1]
        )
        assert lines[-1] == "Next: set NCLIB_HOME to a folder that can be written"

    def test_runs_without_torch(self, home, start):
        code = f"""
import sys, importlib.metadata as m
sys.modules["torch"] = None
found = m.version
def version(name):
    if name == "torch":
        raise m.PackageNotFoundError(name)
    return found(name)
m.version = version
sys.path.insert(0, {str(cli.__file__.rpartition("/nclib/")[0])!r})
from nclib.cli import main
sys.exit(main(["doctor"]))
"""
        out, err = (process := start("-c", code)).communicate(timeout=100)
        assert process.returncode == 1, err
        assert "torch is not installed" in out
        assert out.splitlines()[-1] == "Next: pip install .    # torch, for everything"


def test_nothing_heavy_before_it_is_needed(home, start):
    code = """
import sys, nclib, nclib.cli
from nclib.errors import NclibError
for words in (["--help"], ["--version"], ["train", "digit"], ["get", "digits", "--set", "lr=-1"],
              ["run", "99"], ["run", "05", "-p", "epochs", "x"], ["nonsense"]):
    try:
        nclib.cli.main(words)
    except SystemExit:
        pass
try:
    nclib.notebook.parameters({"recipe": "digit"})
except NclibError as error:
    assert "did you mean" in str(error)
else:
    raise AssertionError
print(*{"torch", "numpy", "sklearn", "matplotlib", "papermill", "IPython"} & set(sys.modules))
"""
    out, err = (process := start("-c", code)).communicate(timeout=100)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == ""
    assert all(word in out for word in ("train", "doctor", __version__))
    assert not home.exists()


def test_version_is_the_packages():
    assert importlib.metadata.version("nclib") == __version__
