"""Do tests and chapters pass where another processor rounds differently? ``make portable``

    python tests/portable.py                              numeric tests and chapters, everywhere: an hour
    python tests/portable.py --quick                      fast numeric tests in the plainest, in a minute
    python tests/portable.py --tests                      no chapters: about 20 minutes
    python tests/portable.py --chapters 04 10 -p seed 3   these chapters, with another parameter; no tests
    python tests/portable.py --in native plain            in these environments

An environment makes the libraries choose other kernels, and other numbers of threads add in another
order. A check's margin is

* bound / worst gap, for a comparison within a tolerance;
* its smallest slack / how much slack varies between environments, for an inequality.

Exit status 1: a check fails, or has a margin under two. ``tests/margins.py`` records the checks.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TESTS = Path(__file__).parent
NOTEBOOKS = TESTS.parent / "notebooks"
ENVIRONMENTS = {
    "native": {"OMP_NUM_THREADS": "1"},
    "plain": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "COMPATIBLE",
        "OMP_NUM_THREADS": "1",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "AVX2",
        "OMP_NUM_THREADS": "2",
    },
    "avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "OMP_NUM_THREADS": "4"},  # and no bf16 instructions
}
LEAST = 2.0


def main() -> int:
    arguments = parsed()
    start, rows, failed = time.perf_counter(), {}, []
    for name in arguments.environments or (["plain"] if arguments.quick else ENVIRONMENTS):
        print(name, *(f"{key}={value}" for key, value in ENVIRONMENTS[name].items()), flush=True)
        with tempfile.TemporaryDirectory() as folder:
            failed += [f"{name}: {what}" for what in run(arguments, ENVIRONMENTS[name], Path(folder))]
            rows[name] = read(Path(folder) / "margins")
            failed += [f"{name}: no check was recorded"] * (not rows[name])
    thin = show(margins(rows))
    for line in failed:
        print("failed in", line)
    print(f"{len(failed)} failures, {thin} margins under {LEAST:g}, {time.perf_counter() - start:.0f} s")
    return int(bool(failed or thin))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tests", action="store_true")
    parser.add_argument("--in", dest="environments", nargs="+", choices=[*ENVIRONMENTS])
    parser.add_argument("--chapters", nargs="*", metavar="NN")
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    parser.add_argument("-p", dest="parameters", **pair)
    return parser.parse_args()


def run(arguments: argparse.Namespace, environment: dict[str, str], folder: Path) -> list[str]:
    """Run tests and chapters, leave their margins in ``folder``, and return the names of what fails."""
    everything = os.environ | environment
    everything |= {
        "MARGINS": str(folder / "margins"),
        "NCLIB_HOME": str(folder / "store"),
        "NCLIB_DEVICE": "cpu",
        "MPLBACKEND": "Agg",
        "TQDM_DISABLE": "1",
        "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONPYCACHEPREFIX": str(folder / "code"),  # tests are compiled to be measured
    }
    failed = []
    if arguments.chapters is None:
        marked = "numeric and not slow" if arguments.quick else "numeric"
        options = ["-q", "-n", "auto", "--maxprocesses", "8", "-p", "margins", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", *options, "-m", marked, str(TESTS)]
        failed += ["tests"] * (subprocess.call(command, env=everything) != 0)
    if not arguments.quick and not arguments.tests:
        of_chapters = chapters(arguments.chapters)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            passed = pool.map(lambda path: passes(path, arguments.parameters, everything), of_chapters)
            failed += [path.stem for path, ok in zip(of_chapters, passed, strict=True) if not ok]
    return failed


def passes(chapter: Path, parameters: list[list[str]], environment: dict[str, str]) -> bool:
    """Execute a chapter in a process of its own, and print its seconds."""
    start = time.perf_counter()
    command = ["-c", f"import portable; portable.execute({str(chapter)!r}, {parameters!r})"]
    status = subprocess.call([sys.executable, *command], env=environment)
    print(f"{chapter.stem}: {time.perf_counter() - start:.0f} s", flush=True)
    return status == 0


def chapters(numbers: list[str] | None) -> list[Path]:
    """The notebooks of these numbers; all without any."""
    found = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    known = {path.name[:2] for path in found}
    if strangers := set(numbers or ()) - known:
        sys.exit(f"no chapter {', '.join(sorted(strangers))}; there are {', '.join(sorted(known))}")
    return [path for path in found if not numbers or path.name[:2] in numbers]


def execute(path: str, parameters: list[list[str]]) -> None:
    """Execute a notebook in this process's environment, its checks recorded."""
    import nbformat
    from nbclient import NotebookClient

    from nclib.notebook import kernel_config, kernel_folder, read_value

    notebook = nbformat.read(path, as_version=4)
    at = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    given = "\n".join(f"{name} = {read_value(name, value)!r}" for name, value in parameters)
    cells = [nbformat.v4.new_code_cell(f"# Parameters\n{given}")] * bool(given)
    watch = f"import margins\nmargins.watch_kernel({Path(path).stem!r})"
    # after the cell that checks the parameters, which sets the number of threads before torch is imported
    notebook.cells[at + 1 : at + 2] = [*cells, notebook.cells[at + 1], nbformat.v4.new_code_cell(watch)]
    resources = {"metadata": {"path": str(NOTEBOOKS)}}
    options = {"timeout": 1200, "startup_timeout": 600}  # seconds, on a busy machine
    with kernel_folder() as folder:
        options["config"] = kernel_config(folder)
        NotebookClient(notebook, kernel_name="python3", resources=resources, **options).execute()


def read(file: Path) -> list[dict]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def margins(rows: dict[str, list[dict]]) -> dict[str, float]:
    """The margin of every check, by test or chapter and line; infinite for one whose slack does not vary."""
    found, slack = {}, defaultdict(lambda: defaultdict(lambda: math.inf))
    for name, of_environment in rows.items():
        for row in of_environment:
            check = f"{row['where']}, line {row['line']}"
            if "ratio" in row:
                found[check] = min(row["ratio"], found.get(check, math.inf))
            else:
                slack[check][name] = min(row["slack"], slack[check][name])
    for check, of_check in slack.items():
        least, spread = min(of_check.values()), max(of_check.values()) - min(of_check.values())
        found[f"{check}, inequality"] = least / spread if spread else math.inf
    return found


def show(found: dict[str, float]) -> int:
    """Print margins, the smallest last, and return how many are too small."""
    for check, margin in sorted(found.items(), key=lambda pair: -pair[1]):
        print(f"{margin:12.3g}  {check}")
    return sum(margin < LEAST for margin in found.values())


if __name__ == "__main__":
    sys.exit(main())
