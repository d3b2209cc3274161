"""The house: which folder may import which, and that each module is where the contributor's page says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from nclib.paths import PACKAGE

FLOORS = {  # folder: folders that it may import, besides itself and the modules at the top
    "data": (),
    "networks": ("data",),
    "measures": ("data", "networks"),
    "storage": ("data", "measures"),
    "training": ("data", "networks", "measures", "storage"),
    "runs": ("data", "networks", "measures", "storage", "training"),
    "theory": (),
    "report": ("measures", "storage"),
    "chapters": ("data", "networks", "measures", "storage", "training", "runs", "theory", "report"),
}
GROUND = {"__init__.py", "config.py", "errors.py", "paths.py"}  # what every folder may import
ROOF = {
    "__main__.py",
    "bench.py",
    "cli.py",
    "doctor.py",
    "myst.py",
    "notebook.py",
}  # what may import from every folder
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.glob("*/*.py"))


def imported_modules(path: Path) -> set[Path]:
    """Modules of nclib that a source file imports, wherever it does, relative to the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nclib":
            base = PACKAGE.joinpath(*node.module.split(".")[1:])
            for name in (alias.name for alias in node.names):
                module = next(
                    (m for m in (base / f"{name}.py", base.with_suffix(".py")) if m.is_file()),
                    base / "__init__.py",
                )
                found.add(module.relative_to(PACKAGE))
    return found


def test_every_folder_is_on_a_floor():
    assert {path.parts[0] for path in MODULES} == set(FLOORS)
    assert {path.name for path in PACKAGE.glob("*.py")} == GROUND | ROOF


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_go_down(module):
    folder = module.parts[0]
    for other in imported_modules(PACKAGE / module):
        at_top = len(other.parts) == 1
        lower = other.name in GROUND if at_top else other.parts[0] in (folder, *FLOORS[folder])
        assert lower or (str(module), str(other)) in EXCEPTIONS, f"{module} imports {other}"


EXCEPTIONS = {("runs/cost.py", "bench.py")}  # it estimates how long a run takes by training a few steps


@pytest.mark.parametrize("name", sorted(GROUND - {"__init__.py"}))
def test_the_ground_imports_nothing_above(name):
    assert {str(module) for module in imported_modules(PACKAGE / name)} <= GROUND


def test_no_import_cycle():
    top = [path.relative_to(PACKAGE) for path in PACKAGE.glob("*.py")]
    edges = {module: imported_modules(PACKAGE / module) for module in (*top, *MODULES)}
    while edges:
        free = [module for module, to in edges.items() if not to & set(edges)]
        assert free, f"these import each other: {', '.join(map(str, edges))}"
        for module in free:
            del edges[module]


def test_paths_of_the_contributors_page_exist():
    page = (PACKAGE.parent / "book" / "contributing.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:nclib|notebooks|tests|book)/[\w/.]+)`", page)
    named = [
        path for path in paths if "NN_" not in path and "MODULE" not in path and not path.endswith("/name.py")
    ]
    assert len(named) > 20
    assert [path for path in named if not (PACKAGE.parent / path).exists()] == []
    folders = re.findall(r"^\| `nclib/(\w+)/`", page, flags=re.MULTILINE)
    assert folders == list(FLOORS)


def test_every_chapter_has_its_module_or_needs_none():
    chapters = {path.stem[3:] for path in (PACKAGE.parent / "notebooks").glob("[0-9][0-9]_*.md")}
    modules = {path.stem for path in (PACKAGE / "chapters").glob("*.py")} - {"__init__"}
    shared = {"benchmarks", "conclusions", "exercises", "explorer", "figures", "statistics", "tables"}
    shared |= {"factorial", "sweeps"}
    pages = {"from_laptop_to_cluster", "long_runs", "paper_against_ours", "promises", "training_speed"}
    assert modules - shared - pages == chapters
