"""Write each notebook's .ipynb from its .md, the reviewed source: ``make notebooks``.

    python notebooks/pair.py            write what is out of step
    python notebooks/pair.py --check    write nothing; exit 1 and name what is out of step

The .ipynb is what papermill, VS Code, Colab and Binder open. It is a function of the .md alone, byte
for byte: no outputs, a fixed kernel, and cell ids that are hashes of the cells (nbformat asks for
ids, and random ones would change every cell at every regeneration).
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import jupytext
import nbformat

FOLDER = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def sources(folder: Path = FOLDER) -> list[Path]:
    """The notebooks' sources, in the order of the chapters."""
    return sorted(folder.glob("[0-9][0-9]_*.md"))


def generate(source: Path) -> str:
    """Text of the .ipynb that belongs to this .md."""
    return written(jupytext.read(source, fmt="md:myst").cells)


def written(cells: list[nbformat.NotebookNode]) -> str:
    """Text of the .ipynb of these cells, which get their ids here."""
    seen: dict[str, int] = {}
    for cell in cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = f"{digest}-{seen[digest]}"
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def stale(folder: Path = FOLDER) -> dict[Path, str]:
    """The .ipynb files that differ from what their sources generate, with the text they should have."""
    wanted = {source.with_suffix(".ipynb"): generate(source) for source in sources(folder)}
    return {
        path: text for path, text in wanted.items() if not path.exists() or path.read_bytes() != text.encode()
    }


def main(arguments: list[str]) -> int:
    found = stale()
    for path, text in found.items():
        if "--check" not in arguments:
            path.write_bytes(text.encode())
        print(path.relative_to(FOLDER.parent))
    if found and "--check" in arguments:
        print("differ from their .md; `make notebooks` writes them", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
