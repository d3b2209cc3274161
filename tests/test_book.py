"""The book: its configuration, its notebook pairs, and a build of its prose."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))
ALLOWED_IMPORTS = {"nclib", "matplotlib", "seaborn", "IPython"}
LOADED_TAGS = r"<(?:script|img|iframe|source|embed|object|link)\b[^>]*?\b(?:src|href|data)=[\"']([^\"']*)"


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pair = load(ROOT / "notebooks" / "pair.py")
execution_cache = load(ROOT / "book" / "_ext" / "execution_cache.py")
house_docstrings = load(ROOT / "book" / "_ext" / "house_docstrings.py")


def toc_pages() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]


class TestTableOfContents:
    def test_pages_exist(self):
        assert [page for page in toc_pages() if not (ROOT / f"{page}.md").is_file()] == []

    def test_every_notebook_is_a_chapter(self):
        chapters = {page for page in toc_pages() if page.startswith("notebooks/")}
        assert chapters == {f"notebooks/{path.stem}" for path in NOTEBOOKS}

    def test_every_prose_page_is_listed(self):
        assert {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")} <= set(toc_pages())


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

    def test_cells_fit_on_a_screen(self, source):
        assert [c.source for c in self.code(source) if len(c.source.splitlines()) > 40] == []

    def story(self, source: Path) -> list:
        """Code cells above the exercises: there readers compute by hand, with whatever it takes."""
        notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
        titles = [i for i, c in enumerate(notebook.cells) if "## Exercises" in c.source]
        return [cell for cell in notebook.cells[: titles[0]] if cell.cell_type == "code"]

    def test_story_imports_only_nclib_and_plotting(self, source):
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


@pytest.fixture(scope="module")
def prose(tmp_path_factory) -> Path:
    """HTML of the whole book, built by its own configuration, with the notebooks not executed."""
    root = tmp_path_factory.mktemp("a book")
    for name in ("_config.yml", "_toc.yml", "book", "notebooks", "requirements.lock"):
        origin = ROOT / name
        copy = shutil.copytree if origin.is_dir() else shutil.copy
        copy(origin, root / name)
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    config["execute"]["execute_notebooks"] = "off"
    (root / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    main = "from jupyter_book.cli.main import main; main()"
    build = subprocess.run(
        [sys.executable, "-c", main, "build", ".", "--warningiserror", "--keep-going"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert build.returncode == 0, build.stdout[-4000:] + build.stderr[-4000:]
    return root / "_build" / "html"


@pytest.mark.slow
class TestPages:
    def pages(self, html: Path) -> dict[str, str]:
        return {str(p.relative_to(html)): p.read_text("utf-8") for p in html.rglob("*.html")}

    def test_every_page_of_the_contents_is_built(self, prose):
        assert {f"{page}.html" for page in toc_pages()} <= set(self.pages(prose))

    def test_nothing_is_loaded_from_elsewhere(self, prose):
        loaded = {
            (page, address)
            for page, text in self.pages(prose).items()
            for address in re.findall(LOADED_TAGS, text)
            if re.match(r"(https?:)?//", address)
        }
        assert loaded == set()

    def test_no_script_in_a_page_names_a_cdn(self, prose):
        for page, text in self.pages(prose).items():
            for script in re.findall(r"<script\b.*?</script>", text, re.DOTALL):
                assert not re.search(r"https?://", script), f"{page}: {script[:200]}"

    def test_styles_load_nothing_from_elsewhere(self, prose):
        for path in prose.rglob("*.css"):
            assert not re.search(r"(url\(['\"]?|@import\s+['\"])(https?:)?//", path.read_text("utf-8"))

    def test_everything_loaded_is_there(self, prose):
        for page, text in self.pages(prose).items():
            for address in re.findall(LOADED_TAGS, text):
                local = address.split("?")[0].split("#")[0]
                if local.endswith((".js", ".css", ".svg", ".png", ".woff2")):
                    assert ((prose / page).parent / local).resolve().is_file(), f"{page}: {address}"

    def test_mathjax_is_local(self, prose):
        page = (prose / "book" / "intro.html").read_text("utf-8")
        assert 'src="../_static/mathjax/tex-svg-full.js' in page
        assert (prose / "_static" / "mathjax" / "LICENSE").is_file()

    def test_no_raw_directives(self, prose):
        for page, text in self.pages(prose).items():
            body = re.sub(r"<(pre|script|style|code)\b.*?</\1>", "", text, flags=re.DOTALL)
            assert not re.search(r"(```|:::)\{|\{(cite|math|ref|term|doc)[:}]", body), page
