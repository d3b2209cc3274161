"""Every notebook runs from top to bottom; here with two seeds, in the book with as many as it asks for."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """One store for all notebooks: each run is trained once, as for a reader."""
    return tmp_path_factory.mktemp("store")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path, home, monkeypatch):
    monkeypatch.setenv("NCLIB_HOME", str(home))
    notebook = nbformat.read(path, as_version=4)
    parameters = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    assert "seeds = 0 " in parameters.source
    parameters.source = parameters.source.replace("seeds = 0 ", "seeds = 2 ")
    client = NotebookClient(
        notebook,
        timeout=600,  # seconds per cell, as in _config.yml
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output.get("data", {}).get("text/html", "") for output in outputs]
    assert any("<figure" in html for html in shown), "no figure was drawn"
