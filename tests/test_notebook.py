"""What notebooks lean on: parameters that are checked, chapters that are found, readable copies."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest

from nclib import notebook
from nclib.config import field_names
from nclib.errors import ConfigError, NclibError
from nclib.notebook import find_notebook, parameters, read_value, write_html

DECLARED = 'recipe = "digits"  # which experiment\nseed: int = 0\nk: int = 2\n'


def namespace(injected: str = "", **changed) -> dict:
    """A notebook's globals when its check runs: the parameters cell first, then what was injected."""
    cells = ["", DECLARED, *([f"# Parameters\n{injected}\n"] if injected else []), "import nclib"]
    return {"In": cells, "recipe": "digits", "seed": 0, "k": 2} | changed


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # so that the end of the test restores what was there
    monkeypatch.delenv("OMP_NUM_THREADS")


class TestThreads:
    def test_one_on_the_quick_tier(self):
        parameters(namespace())
        assert os.environ["OMP_NUM_THREADS"] == "1"

    def test_those_of_the_reader_stay(self, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        parameters(namespace())
        assert os.environ["OMP_NUM_THREADS"] == "3"

    def test_all_on_other_tiers(self):
        parameters(namespace(recipe="fashion-laptop"))
        assert "OMP_NUM_THREADS" not in os.environ


class TestParameters:
    def test_returns_what_chooses_the_run(self):
        assert parameters(namespace()) == {"recipe": "digits", "seed": 0}

    def test_injected_field_that_the_notebook_does_not_declare(self):
        choice = parameters(namespace("seed = 3\nepochs = 2", seed=3, epochs=2))
        assert choice == {"recipe": "digits", "seed": 3, "epochs": 2}

    def test_injected_parameter_of_its_own(self):
        assert "k" not in parameters(namespace("k = 3", k=3))

    def test_unknown_name_lists_all(self):
        with pytest.raises(ConfigError, match=r"unknown parameter 'sed' \(did you mean 'seed'\?\)") as caught:
            parameters(namespace("sed = 3", sed=3))
        assert all(name in str(caught.value) for name in ("recipe", "k", *field_names()))

    @pytest.mark.parametrize(
        ("name", "value"),
        [("recipe", "digit"), ("recipe", 3), ("seed", -1), ("seed", "0"), ("epochs", 0), ("lr", float("nan")),
         ("k", -1), ("k", 1001), ("k", 2.0), ("k", True), ("k", None)],
    )  # fmt: skip
    def test_bad_value_is_named(self, name, value):
        with pytest.raises(ConfigError, match=name):
            parameters(namespace(**{name: value}))

    def test_none_means_as_in_the_recipe(self):
        assert parameters(namespace(epochs=None)) == {"recipe": "digits", "seed": 0, "epochs": None}

    def test_outside_of_a_notebook(self):
        assert parameters({"recipe": "digits", "x": 3}) == {"recipe": "digits"}


class TestFindNotebook:
    @pytest.fixture(autouse=True)
    def chapters(self, tmp_path, monkeypatch):
        for name in ("02_coarse_labels.ipynb", "05_label_reconstruction.ipynb", "scratch.ipynb"):
            (tmp_path / name).touch()
        monkeypatch.setattr(notebook, "NOTEBOOKS", tmp_path)
        return tmp_path

    @pytest.mark.parametrize("name", ["05", "5", "05_label_reconstruction", "05_label_reconstruction.ipynb",
                                      "05_label_reconstruction.md"])  # fmt: skip
    def test_by_number_or_name(self, chapters, name):
        assert find_notebook(name) == chapters / "05_label_reconstruction.ipynb"

    def test_by_path(self, chapters):
        assert find_notebook(str(chapters / "scratch.ipynb")) == chapters / "scratch.ipynb"

    def test_a_file_of_that_name_comes_before_a_chapter(self, chapters, tmp_path_factory, monkeypatch):
        here = tmp_path_factory.mktemp("here")
        monkeypatch.chdir(here)
        for name in ("05.ipynb", "05_label_reconstruction.ipynb"):
            assert find_notebook(name) == chapters / "05_label_reconstruction.ipynb"
            (here / name).touch()
            assert find_notebook(name) == Path(name)
        assert find_notebook("05") == chapters / "05_label_reconstruction.ipynb"

    @pytest.mark.parametrize("name", ["5x", "", "_", "scratch", "label_reconstruction", "a" * 300 + ".ipynb"])
    def test_unknown_lists_the_chapters(self, name):
        with pytest.raises(NclibError, match=r"chapters: 02_coarse_labels, 05_label_reconstruction$"):
            find_notebook(name)


class TestReadValue:
    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("epochs", "3", 3),
            ("lr", "1", 1.0),
            ("k", "4", 4),
            ("k", "-4", -4),
            ("recipe", "x", "x"),
            ("features", "5", "5"),
        ],
    )
    def test_as_the_parameter_wants(self, name, text, value):
        read = read_value(name, text)
        assert (read, type(read)) == (value, type(value))

    def test_bad_field(self):
        with pytest.raises(ConfigError, match="epochs=x: expected a whole number"):
            read_value("epochs", "x")

    @pytest.mark.parametrize("text", ["9" * 5000, "x" * 10**6])
    def test_of_any_length(self, text):
        with pytest.raises(ConfigError, match=r"k=.*1000 characters at most"):
            read_value("k", text)
        with pytest.raises(ConfigError, match=r"epochs=.*expected a whole number"):
            read_value("epochs", text)


def test_a_page_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "x.ipynb")
    (tmp_path / "x.html").write_text("before")

    def full(_file: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NclibError, match="the disk is full"):
        write_html(tmp_path / "x.ipynb", tmp_path / "x.html")
    assert (tmp_path / "x.html").read_text() == "before"
    assert sorted(os.listdir(tmp_path)) == ["x.html", "x.ipynb"]


def test_a_page_has_words_for_links_and_folds_answers(tmp_path):
    text = "See {cite:t}`papyan2020prevalence`.\n\n:::{quiz}\nWhy?\n\n- A\n  - Wrong. *No*.\n:::"
    cells = [nbformat.v4.new_markdown_cell(text)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "x.ipynb")
    write_html(tmp_path / "x.ipynb", tmp_path / "x.html")
    page = (tmp_path / "x.html").read_text("utf-8")
    assert "See Papyan et al. (2020)." in page
    assert re.search(r"<details><summary>[^<]*</summary>\s*<p>Wrong. <em>No</em>.</p>\s*</details>", page)


def test_a_page_folds_and_leaves_out_what_the_book_does(tmp_path):
    cells = [
        nbformat.v4.new_code_cell("shown = 1"),
        nbformat.v4.new_code_cell("plumbing = 2", metadata={"tags": ["hide-input"]}),
        nbformat.v4.new_code_cell("wrong = 3", metadata={"tags": ["remove-cell", "wrong-answers"]}),
    ]
    cells[1].outputs = [nbformat.v4.new_output("stream", text="result of plumbing")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "x.ipynb")
    write_html(tmp_path / "x.ipynb", tmp_path / "x.html")
    page = re.sub(r"</?(span|pre)[^>]*>", "", (tmp_path / "x.html").read_text("utf-8").partition("<body")[2])
    folded = re.findall(r"<details>.*?</details>", page, re.DOTALL)
    assert ["plumbing = 2" in part for part in folded] == [True]
    assert not any(words in folded[0] for words in ("shown = 1", "result of plumbing"))
    assert page.count("shown = 1") == page.count("plumbing = 2") == page.count("result of plumbing") == 1
    assert "wrong = 3" not in page
