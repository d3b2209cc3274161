"""The book: its configuration, its notebooks, and what executes them; `make book` checks the built pages."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import re
import shutil
import sys
import tempfile
from pathlib import Path

import chapters
import forked
import nbformat
import pytest
import yaml
from conftest import alive, ends
from jupyter_cache import get_cache
from jupyter_client.provisioning import KernelProvisionerFactory

import nclib.paths
from nclib.runs import released

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))
ALLOWED_IMPORTS = {"nclib", "matplotlib", "seaborn", "IPython", "numpy", "pandas", "scipy", "sklearn"} | {
    "openTSNE",
    "torch",
}


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


pair = load(ROOT / "notebooks" / "pair.py")
execution_cache = load(ROOT / "book" / "_ext" / "execution_cache.py")
house_docstrings = load(ROOT / "book" / "_ext" / "house_docstrings.py")


class TestTableOfContents:
    def test_pages_exist(self):
        assert [page for page in chapters.contents(ROOT) if not (ROOT / f"{page}.md").is_file()] == []

    def test_every_notebook_is_a_chapter(self):
        listed = {page for page in chapters.contents(ROOT) if page.startswith("notebooks/")}
        assert listed == {f"notebooks/{path.stem}" for path in NOTEBOOKS}

    def test_every_prose_page_is_listed(self):
        assert {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")} <= set(chapters.contents(ROOT))


class TestPairs:
    def test_ipynb_in_step(self):
        stale = [path.name for path in pair.stale()]
        assert stale == [], "`make notebooks` writes them"

    def test_no_ipynb_without_source(self):
        sources = {path.stem for path in NOTEBOOKS}
        assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == sources

    def test_same_bytes_every_time(self, tmp_path):
        source = tmp_path / "01_twice.md"
        source.write_text("# Title\n\n```{code-cell}\n1\n```\n\n```{code-cell}\n1\n```\n")
        first = pair.generate(source)
        cells = nbformat.reads(first, as_version=4).cells
        assert pair.generate(source) == first
        assert len({cell.id for cell in cells}) == len(cells) == 3

    def test_edit_is_stale_until_written(self, tmp_path):
        source = tmp_path / "01_edit.md"
        source.write_text("# Title\n")
        (target,) = pair.stale(tmp_path)
        target.write_bytes(pair.stale(tmp_path)[target].encode())
        assert pair.stale(tmp_path) == {}
        source.write_text("# Another title\n")
        assert list(pair.stale(tmp_path)) == [target]


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def code(self, source: Path) -> list:
        notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
        return [cell for cell in notebook.cells if cell.cell_type == "code"]

    def test_committed_without_outputs(self, source):
        assert all(not c.outputs and c.execution_count is None for c in self.code(source))

    def test_one_parameters_cell_of_plain_literals(self, source):
        tagged = [c for c in self.code(source) if "parameters" in c.metadata.get("tags", [])]
        assert len(tagged) == 1
        values = {}
        for statement in ast.parse(tagged[0].source).body:
            target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
            values[target.id] = ast.literal_eval(statement.value)
        assert values["recipe"] == "digits"
        assert values["seed"] == 0
        assert values["seeds"] == 0

    def test_every_cell_compiles(self, source):
        for cell in self.code(source):
            compile(cell.source, f"{source.stem}: {cell.source[:40]}", "exec")

    def test_no_name_of_a_module_is_given_to_something_else(self, source):
        code = "\n".join(cell.source for cell in self.code(source))
        nodes = list(ast.walk(ast.parse(code)))
        imports = (n for n in nodes if isinstance(n, ast.Import | ast.ImportFrom))
        modules = {alias.asname or alias.name for n in imports for alias in n.names}
        assigned = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        assert modules & assigned == set()

    def test_cells_fit_on_a_screen(self, source):
        assert [c.source for c in self.code(source) if len(c.source.splitlines()) > 40] == []

    def story(self, source: Path) -> list:
        """Code cells above the exercises."""
        notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
        titles = [i for i, c in enumerate(notebook.cells) if "## Exercises" in c.source]
        return [cell for cell in notebook.cells[: titles[0]] if cell.cell_type == "code"]

    def test_story_imports_only_what_the_field_uses(self, source):
        imported = set()
        for cell in self.story(source):
            code = "\n".join(li for li in cell.source.splitlines() if not li.startswith(("%", "!")))
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    imported.add(node.module.split(".")[0])
        assert imported <= ALLOWED_IMPORTS


class TestExecutionCache:
    DECIDING = (
        "nclib/a.py",
        "nclib/recipes.toml",
        "nclib/data/digits.npz",
        "book/released/x/run.json",
        "benchmarks/results/measures.json",
    )

    @pytest.fixture
    def repository(self, tmp_path):
        for name in (*self.DECIDING, "book/intro.md"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name)
        return tmp_path

    @pytest.mark.parametrize("name", DECIDING)
    def test_code_and_results_decide(self, repository, name):
        before = execution_cache.fingerprint(repository)
        (repository / name).write_text("changed")
        assert execution_cache.fingerprint(repository) != before

    def test_prose_does_not(self, repository):
        before = execution_cache.fingerprint(repository)
        (repository / "book/intro.md").write_text("changed")
        assert execution_cache.fingerprint(repository) == before

    def test_data_sets_that_are_there_decide(self, repository, tmp_path, monkeypatch):
        """Pages name those that are missing, and leave them out."""
        monkeypatch.setenv("NCLIB_DATA", str(tmp_path / "data"))
        without = execution_cache.state(repository)
        folder = tmp_path / "data" / "cifar-100-python"
        folder.mkdir(parents=True)
        (folder / "train").touch()
        assert execution_cache.state(repository) == without
        for name in ("test", "meta"):
            (folder / name).touch()
        assert execution_cache.state(repository) == f"{without}-cifar100"

    def test_moved_file_decides(self, repository):
        before = execution_cache.fingerprint(repository)
        (repository / "nclib/a.py").rename(repository / "nclib/b.py")
        assert execution_cache.fingerprint(repository) != before


class TestDocstrings:
    def test_item_becomes_bullet_and_formula_stays(self):
        shown = house_docstrings.render(
            ["Mean of ||h - m||^2.", "", "Parameters", "----------", "h : (N, D) with", "    a*b.", ""]
        )
        assert [line for line in shown if line] == [
            r"Mean of \|\|h - m\|\|^2.",
            ".. rubric:: Parameters",
            "* ``h``: (N, D) with",
            r"  a\*b.",
        ]

    def test_literal_block_is_untouched(self):
        lines = ["Use::", "", "    a | b * c", "", "so | so"]
        assert house_docstrings.render(lines)[2:5] == ["    a | b * c", "", r"so \| so"]


BUSY_BUILD = f"""
import sys
sys.path.insert(0, {str(ROOT / "book")!r})
from jupyter_client.manager import start_new_kernel
from forked import forked_kernels

with forked_kernels():
    manager, client = start_new_kernel()
    print(manager.provisioner.pid, flush=True)
    client.execute("while True: pass", reply=True)
"""


TINY_CHAPTERS = {
    "01_good": [
        "import os, sys\nassert sys.platform != 'linux' or 'torch' in sys.modules\nprint(os.getcwd())"
    ],
    "02_bad": ["print('so far')", 'x = "no"\n{}[x]', "print('never')"],
    "03_dies": ["import os", "os._exit(1)"],
}


@pytest.fixture(scope="module")
def tiny_book(tmp_path_factory) -> Path:
    """A book of three chapters, and a page without code."""
    root = tmp_path_factory.mktemp("a book")
    (root / "notebooks").mkdir()
    (root / "intro.md").write_text("# Title\n")
    front = (ROOT / "notebooks" / "01_neural_collapse.md").read_text("utf-8").split("---")[1]
    for name, cells in TINY_CHAPTERS.items():
        text = "\n".join(f"```{{code-cell}}\n:tags: [x]\n\n{cell}\n```\n" for cell in cells)
        (root / "notebooks" / f"{name}.md").write_text(f"---{front}---\n\n# Title\n\n{text}")
    parts = [{"chapters": [{"file": f"notebooks/{name}"} for name in TINY_CHAPTERS]}]
    (root / "_toc.yml").write_text(yaml.safe_dump({"root": "intro", "parts": parts}))
    (root / "_config.yml").write_text((ROOT / "_config.yml").read_text("utf-8"))
    return root


@pytest.fixture(scope="module")
def first(tiny_book) -> tuple[list, str]:
    """The chapters that fail, and what is printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        failed = chapters.execute_all(chapters.chapters(tiny_book), tiny_book / "cache", timeout=100)
    return failed, printed.getvalue()


@pytest.mark.slow
class TestChapters:
    def test_a_line_a_chapter(self, first):
        lines = sorted(re.sub(r"\d+ s; \d", "N s; N", line) for line in first[1].splitlines())
        assert lines == [
            "chapter 1 of 3, 01_good: N s; N remain",
            "chapter 2 of 3, 02_bad: FAILED after N s; N remain",
            "chapter 3 of 3, 03_dies: FAILED after N s; N remain",
        ]
        assert [line.split()[-2] for line in first[1].splitlines()] == ["2", "1", "0"]

    def test_the_end_says_what_failed_and_how_to_go_on(self, first, tiny_book):
        lines = chapters.report(first[0], 3, tiny_book).splitlines()
        begin = (tiny_book / "notebooks" / "02_bad.md").read_text().splitlines().index('x = "no"')
        assert lines[:7] == [
            f"Chapter 2, 02_bad, failed in code cell 2 (notebooks/02_bad.md, line {begin - 2}):",
            "",
            '    x = "no"',
            "    {}[x]",
            "",
            "    KeyError: 'no'",
            "",
        ]
        assert "Chapter 3, 03_dies, failed in code cell 2" in "\n".join(lines)
        assert lines[-4] == "2 of 3 chapters failed: 02_bad, 03_dies."
        assert "`make book` again" in lines[-3]
        assert lines[-2].endswith("nclib run 02")
        assert "KeyError" in (tiny_book / "_build" / "failed" / "02_bad.txt").read_text()

    def test_it_works_where_it_lies(self, first, tiny_book):
        cache, good = get_cache(str(tiny_book / "cache")), chapters.chapters(tiny_book)[0]
        executed = cache.get_cache_bundle(cache.match_cache_notebook(good.notebook).pk).nb
        assert executed.cells[-1].outputs[0].text.strip() == str(tiny_book / "notebooks")

    @pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux which processes run")
    def test_no_kernel_outlives_a_build_that_is_killed(self, start):
        """Not even one that is busy, and sees no request to shut down."""
        build = start("-c", BUSY_BUILD)
        pid = int(build.stdout.readline())
        assert alive(pid)
        build.kill()
        build.wait()
        assert ends(pid)

    def test_where_the_path_of_a_socket_would_be_too_long_none_is_forked(self, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", "/" + 90 * "a")
        factory = KernelProvisionerFactory.instance()
        with forked.forked_kernels():
            assert factory.default_provisioner_name == "local-provisioner"

    def test_the_good_one_is_not_executed_again(self, first, tiny_book, capsys):
        found = chapters.chapters(tiny_book)
        chapters.execute_all(found[:1], tiny_book / "cache", timeout=100)
        assert capsys.readouterr().out == "1 of 1 chapters are unchanged\n"
        assert [chapters.is_cached(get_cache(str(tiny_book / "cache")), c) for c in found] == [
            True,
            False,
            False,
        ]


@pytest.mark.slow
def test_a_page_has_one_record_whatever_it_was(tmp_path, tiny_book):
    """Tables of all pages would show what it said before an edit was taken back."""
    root = shutil.copytree(tiny_book, tmp_path / "book", ignore=shutil.ignore_patterns("cache", "_build"))
    source, cache = root / "notebooks" / "01_good.md", get_cache(str(tmp_path / "cache"))
    text = source.read_text("utf-8")
    for now in (text, text.replace("import os", "import os, re"), text):
        source.write_text(now, "utf-8")
        (good,) = (chapter for chapter in chapters.chapters(root) if chapter.name == "01_good")
        assert not chapters.execute_all([good], tmp_path / "cache", timeout=100)
        assert len(cache.list_cache_records()) == 1 and chapters.is_cached(cache, good)


class TestBuild:
    @pytest.fixture
    def build(self, tiny_book, monkeypatch):
        """``make book`` of the tiny book."""
        monkeypatch.syspath_prepend(ROOT / "book")
        module = load(ROOT / "book" / "build.py")
        monkeypatch.setenv("BOOK_EXECUTION_CACHE", "")  # so that the end of the test restores what was there
        html = tiny_book / "_build" / "html"
        for name, path in {
            "ROOT": tiny_book,
            "BUILD": html.parent,
            "HTML": html,
            "STATE": html / "s",
        }.items():
            monkeypatch.setattr(module, name, path)
        return module

    @pytest.mark.slow
    def test_a_failing_chapter_fails_it_before_pages_are_made(self, build, monkeypatch, capsys):
        monkeypatch.setattr(build, "rendered", lambda: pytest.fail("rendered"))
        assert build.main() == 1
        out, err = capsys.readouterr()
        assert "chapter 1 of 3, 01_good" in out
        assert err.splitlines()[-1].endswith("nclib run 03")
        assert "KeyError: 'no'" in err

    def test_nothing_is_done_twice_for_one_state(self, build, monkeypatch, capsys):
        done = []
        for step in ("executed", "rendered", "checked"):
            monkeypatch.setattr(build, step, lambda *_, step=step: not done.append(step))
        build.HTML.mkdir(parents=True, exist_ok=True)
        assert build.main() == build.main() == 0
        assert done == ["executed", "rendered", "checked"]
        assert "Nothing has changed" in capsys.readouterr().out
        (build.ROOT / "notebooks" / "04_new.md").write_text("# New\n")
        assert build.main() == 0
        assert len(done) == 6

    def test_a_damaged_release_fails_it(self, build, monkeypatch, tmp_path, capsys):
        """Else pages leave the run out and say less, without a word."""
        names = ("fashion-narrow-nc-seed0", "fashion-narrow-nc-seed1")
        for name in (*names, "names.json"):
            source = ROOT / "book" / "released" / name
            shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path)
        for module in (nclib.paths, released):
            monkeypatch.setattr(module, "RELEASED", tmp_path)
        assert build.intact()
        arrays = tmp_path / names[1] / "arrays.safetensors"
        arrays.write_bytes(arrays.read_bytes()[:-1])
        monkeypatch.setattr(build, "executed", lambda cache: pytest.fail("executed"))
        build.STATE.unlink(missing_ok=True)
        assert build.main() == 1
        assert f"without {names[1]} pages would be wrong" in capsys.readouterr().err

    def test_checks_that_fail_leave_it_undone(self, build, monkeypatch):
        monkeypatch.setattr(build, "executed", lambda cache: True)
        monkeypatch.setattr(build, "rendered", lambda: build.HTML.mkdir(parents=True, exist_ok=True) or True)
        monkeypatch.setattr(build, "checked", lambda: False)
        build.STATE.unlink(missing_ok=True)
        assert build.main() == 1
        assert not build.STATE.exists()


def test_pages_with_code_are_chapters():
    found = [chapter.path for chapter in chapters.chapters(ROOT)]
    assert set(NOTEBOOKS) < set(found)
    assert {path.parent.name for path in found} == {"notebooks", "book"}  # some prose has tables of results
