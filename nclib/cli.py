"""The command line: nclib train, get, ls, verify, gc, release, run, report, sweep, bench and doctor."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from nclib import __version__, config
from nclib.errors import NclibError, printable

MOST_SEEDS = 1000  # of one command, as of a chapter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, or 1 with the reason on stderr."""
    options = _parser().parse_args(arguments)
    _stop_on_signals()
    try:
        status = options.command(options) or 0
        sys.stdout.flush()
        return status
    except NclibError as error:
        _say(f"nclib: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # as in `nclib ls | head`: no one reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print("nclib: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def _say(text: object, file: Any = None) -> None:
    print(printable(text), file=file, flush=True)


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)  # --seed 3 is no short form of --seeds 3

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: --(\w+)", message)
        if unknown and unknown[1] in config.RunConfig.__dataclass_fields__:
            message += f"; fields of a recipe are set by --set {unknown[1]}=VALUE"
        super().error(printable(message))


def _stop_on_signals() -> None:
    """A polite request to end is answered as Ctrl-C is: workers stop, nothing is half written."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
                signal.signal(number, signal.default_int_handler)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nclib", description="Fine structure under neural collapse.")
    parser.add_argument("--version", action="version", version=f"nclib {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    for name, function, text in (
        ("train", _train, "train a run into the store, resuming an interrupted one"),
        ("get", _get, "show a run: from the store, else released, else trained now"),
        ("release", _release, "publish a run of the store under book/released"),
    ):
        command = _add(commands, name, function, text)
        recipes = ", ".join(config.recipe_names())
        command.add_argument("recipe", metavar="RECIPE", help=recipes)
        command.add_argument(
            "--set", nargs="+", action="extend", default=[], metavar="FIELD=VALUE", help="override fields"
        )
    for name in ("train", "get"):
        commands.choices[name].add_argument("--json", action="store_true", help="print the last line as JSON")

    train = commands.choices["train"]
    train.add_argument("--seeds", type=int, default=1, metavar="N", help="so many seeds, from seed on")
    train.set_defaults(refuse=train.error)

    ls = _add(commands, "ls", _ls, "list the runs in the store and the released ones")
    ls.add_argument("--json", action="store_true", help="one JSON object a line")
    verify = _add(commands, "verify", _verify, "compare every stored file with its checksum")
    verify.add_argument("key", nargs="*", metavar="KEY", help="keys or their beginnings (default: all)")
    gc = _add(commands, "gc", _gc, "delete what interrupted or damaged runs left behind")
    gc.add_argument("--stale", action="store_true", help="also what other versions of the code made")
    gc.add_argument("--dry-run", action="store_true", help="only say what would be deleted")

    run = _add(commands, "run", _run, "execute a chapter with other parameters")
    run.add_argument("notebook", metavar="NOTEBOOK", help="for example 05_label_reconstruction, or 05")
    run.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="for example -p seed 1"
    )
    run.add_argument("--output", type=Path, metavar="FILE", help="where to write the executed .ipynb")
    run.add_argument("--html", type=Path, metavar="FILE", help="where to write it as one HTML page")
    run.add_argument("--force", action="store_true", help="overwrite files that are there")

    report = _add(commands, "report", _report, "show which classes of a feature file hide sub-populations")
    report.add_argument(
        "features", type=Path, metavar="FEATURES", help=".safetensors, .npz, .npy or .parquet"
    )
    report.add_argument(
        "--images", type=Path, metavar="PATH", help="folder of images named by id, or an array"
    )
    report.add_argument(
        "--labels", type=Path, metavar="FILE.npy", help="labels, if FEATURES has none or others"
    )
    report.add_argument(
        "--output", type=Path, metavar="FILE", default=Path("report.html"), help="page (default: report.html)"
    )
    report.add_argument("--level", type=float, default=0.05, metavar="P", help="of false alarms (0.05)")
    report.add_argument("--seed", type=int, default=0, metavar="N", help="of the test and of random samples")
    report.add_argument("--force", action="store_true", help="overwrite files that are there")
    report.set_defaults(refuse=report.error)
    sweep = _add(commands, "sweep", _sweep, "train, measure and report a table of runs, with Snakemake")
    sweep.add_argument("table", type=Path, metavar="FILE", help="for example workflow/grid-digits.yaml")
    sweep.add_argument("--cores", type=int, metavar="N", help="of this machine that may be used")
    sweep.add_argument("--profile", metavar="P", help="where jobs run: slurm, or a folder of your own")
    sweep.add_argument("--output", type=Path, metavar="DIR", help="markers and report (default: sweeps/NAME)")
    sweep.add_argument("--dry-run", action="store_true", help="only say what would run, and what it costs")
    sweep.set_defaults(refuse=sweep.error)

    _add(commands, "bench", _bench, "measure how fast this machine trains")
    _add(commands, "doctor", _doctor, "say what is installed and found, and what to do about each lack")
    return parser


def _add(commands: Any, name: str, function: Any, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(command=function)
    return command


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    return dict(config.parse_override(text) for text in options.set)


def _config(options: argparse.Namespace) -> config.RunConfig:
    return config.recipe_config(options.recipe, **_overrides(options))


def _train(options: argparse.Namespace) -> None:
    if not 1 <= options.seeds <= MOST_SEEDS:
        options.refuse(f"--seeds {options.seeds}: expected 1 to {MOST_SEEDS}")
    first = _config(options).seed  # refuses before torch is loaded
    from nclib.runs.get import get_runs
    from nclib.training import distributed

    with distributed.process_group():
        if distributed.processes() > 1 and options.seeds > 1:
            options.refuse("under torchrun one run is trained: leave out --seeds")
        seeds = range(first, first + options.seeds)
        for run in get_runs(options.recipe, seeds, released=False, **_overrides(options)):
            if distributed.leads():
                _say_where(run, options)


def _get(options: argparse.Namespace) -> None:
    chosen = _config(options)
    from nclib.runs.get import find_run, train_run

    run = find_run(chosen) or train_run(chosen)
    last = run.history[-1]
    _say(run)
    _say(f"coarse accuracy: train {last['train_accuracy']:.4f}, test {last['test_accuracy']:.4f}")
    made = run.provenance
    _say(f"made in {made['seconds']:.0f} s on {made['device']}, commit {made['commit'][:12]}")
    _say_where(run, options)


def _release(options: argparse.Namespace) -> None:
    chosen = _config(options)
    from nclib.runs.get import find_run
    from nclib.runs.publish import release
    from nclib.runs.released import find_released
    from nclib.runs.sweep_table import folder_name

    run = find_run(chosen, released=False)
    if run is None:
        raise NclibError("the store has no such run; `nclib train` makes it")
    given = _overrides(options)
    changed = [name for name in config.field_names() if name in given and name != "seed"]
    told = " ".join([options.recipe, *(f"{name}={getattr(chosen, name)}" for name in changed)])
    name = folder_name(f"{told}, seed {chosen.seed}")
    if (found := find_released(chosen)) and found.folder.name != name:
        raise NclibError(f"this run is released as {found.folder.name}; delete that folder to name it {name}")
    _say(release(run, name))


def _say_where(run: Any, options: argparse.Namespace) -> None:
    where = {"key": run.key, "folder": str(run.folder)}
    _say(json.dumps(where) if options.json else f"{run.key} {run.folder}")


def _ls(options: argparse.Namespace) -> None:
    from nclib.runs.released import released_runs
    from nclib.runs.run import Run
    from nclib.storage import store
    from nclib.storage.files import Damaged
    from nclib.storage.integrity import record_damage

    found = []
    for key in store.stored_keys():
        folder = store.run_folder(key)
        try:
            if problem := record_damage(folder):
                raise Damaged(problem)
            found.append(Run(folder))
        except NclibError as error:  # damaged, or of another version
            _say(f"{key[:12]}  unreadable: {error}", file=sys.stderr)
    for run in [*found, *released_runs()]:
        c, last = run.config, run.history[-1]
        if options.json:
            _say(json.dumps({"key": run.key, "folder": str(run.folder), "released": run.released}))
            continue
        name = f"  {run.folder.name}" if run.released else ""
        kind = "released" if run.released else "stored"
        _say(
            f"{run.key[:12]}  {kind:8}  {c.dataset:8} {c.grouping!s:10} {c.arch} width {c.width}, {c.loss}, "
            f"augment {c.augment}, {c.epochs} epochs, {c.schedule}, lr {c.lr:g}, "
            f"weight decay {c.weight_decay:g}, {_unusual(c)}seed {c.seed}: "
            f"coarse test accuracy {last['test_accuracy']:.3f}{name}"
        )


def _unusual(c: config.RunConfig) -> str:
    """What few runs have, for a line of the list."""
    parts = [f"label noise {c.label_noise:g}"] if c.label_noise else []
    parts += [f"without classes {' '.join(map(str, c.held_out))}"] if c.held_out else []
    parts += ["features of length one"] if c.l2_features else []
    return "".join(f"{part}, " for part in parts)


def _verify(options: argparse.Namespace) -> int:
    from nclib.storage import store

    wanted = tuple(options.key) or ("",)
    keys = [key for key in store.stored_keys() if key.startswith(wanted)]
    failures = 0
    for key in keys:
        try:
            store.verified(key)
        except NclibError as error:
            failures += 1
            _say(error)
    unknown = [beginning for beginning in options.key if not any(key.startswith(beginning) for key in keys)]
    for beginning in unknown:
        _say(f"no run in the store begins with {beginning!r}")
    _say(f"{len(keys)} runs verified, {failures} damaged")
    return 1 if failures or unknown else 0


def _gc(options: argparse.Namespace) -> int:
    from nclib.storage import store

    if foreign := store.strangers():
        _say(
            f"nothing in {foreign[0].parents[1]} is deleted: it is not marked as a store of nclib and holds "
            f"other things, for example {foreign[0]}",
            file=sys.stderr,
        )
        return 1
    doomed = store.leftovers()
    if options.stale:
        doomed += [path for path in store.stale(_stale) if path not in doomed]
    failures = 0
    for path in doomed:
        try:
            if not options.dry_run:
                store.delete(path)
            _say(f"{'would delete' if options.dry_run else 'deleted'} {path}")
        except NclibError as error:
            failures += 1
            _say(f"not deleted: {error}", file=sys.stderr)
    if not doomed:
        _say("nothing to delete")
    return 1 if failures else 0


def _stale(folder: Path) -> bool:
    """Whether another version of the code made a run of the store, finished or not, or it cannot be read."""
    from nclib.runs.run import Run
    from nclib.storage import store
    from nclib.storage.files import Damaged, read_tensors
    from nclib.training.checkpoint import CHECKPOINT

    try:
        if folder.parent.name == "runs":
            chosen = Run(folder).config
        else:
            chosen = config.RunConfig(**json.loads(read_tensors(folder / CHECKPOINT)[1]["config"]))
        return store.run_key(chosen) != folder.name
    except (Damaged, KeyError, ValueError, TypeError):  # damaged, or of another version
        return True


def _run(options: argparse.Namespace) -> None:
    from nclib import notebook

    values = {name: notebook.read_value(name, text) for name, text in options.p}
    source = notebook.find_notebook(options.notebook)
    keep = options.output or (None if options.html else Path(f"out_{source.stem}.ipynb"))
    written = [path for path in (keep, options.html) if path]
    if len({path.resolve() for path in written}) < len(written):
        raise NclibError(f"--output and --html are both {keep}; give each its own file")
    for path in written:
        _require_writable(path, source, options.force)
    with tempfile.TemporaryDirectory() as scratch:
        executed = keep or Path(scratch) / source.name
        try:
            notebook.execute(source, executed, values)
        except KeyboardInterrupt:
            executed.unlink(missing_ok=True)  # so that the same command goes on
            raise
        if options.html:
            notebook.write_html(executed, options.html)
    _say("wrote " + ", ".join(map(str, written)))


def _report(options: argparse.Namespace) -> None:
    from nclib.report import numbers_path

    numbers = numbers_path(options.output)
    for path in (options.output, numbers):
        for source in filter(None, (options.features, options.labels, options.images)):
            _require_writable(path, source, options.force)
    if not 0 < options.level < 1:
        options.refuse(f"--level {options.level}: expected a number between 0 and 1")
    if not 0 <= options.seed < 2**32:
        options.refuse(f"--seed {options.seed}: expected 0 to {2**32 - 1}")
    from nclib.report.page import write_report

    found = write_report(
        options.features,
        options.output,
        images=options.images,
        labels=options.labels,
        level=options.level,
        seed=options.seed,
    )
    _say(found["sentence"])
    _say(f"wrote {options.output}, {numbers}")


def _require_writable(path: Path, source: Path, force: bool) -> None:
    try:
        is_source = path.exists() and source.exists() and path.samefile(source)
    except OSError as error:  # a name that is too long
        raise NclibError(f"cannot write {path}: {error.strerror}; choose another name") from error
    if not path.parent.is_dir():
        raise NclibError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise NclibError(f"cannot write {path}: it is a folder; name a file in it")
    if is_source:
        raise NclibError(f"cannot write {path}: it is read here; choose another name")
    if path.exists() and not force:
        raise NclibError(f"{path} is there already; choose another name, or overwrite it with --force")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise NclibError(f"cannot write {path}: permission denied; choose another folder")


def _sweep(options: argparse.Namespace) -> int:
    if options.cores is not None and options.cores < 1:
        options.refuse(f"--cores {options.cores}: expected 1 or more")
    output = options.output or Path("sweeps") / options.table.stem
    from nclib.runs.sweep_end import REPORT, nothing_missing

    if not options.dry_run and (runs := nothing_missing(options.table, output)):
        _say(f"all {runs} runs are trained and measured", file=sys.stderr)
        _say(output / REPORT)
        return 0
    from nclib.runs import sweep
    from nclib.runs.sweep_table import read_sweep

    table = read_sweep(options.table)
    if options.dry_run:
        _say("\n".join(sweep.listing(table)))
        return 0
    failures = sweep.run_sweep(
        table, output, options.cores, options.profile, tell=lambda line: _say(line, file=sys.stderr)
    )
    if failures:
        _say("\n".join(failures), file=sys.stderr)
        return 1
    _say(output / REPORT)
    return 0


def _bench(options: argparse.Namespace) -> None:
    import torch

    from nclib.bench import training_throughput

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (2048, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.arange(2048) % 5
    speed = training_throughput(images, labels, "resnet18", width=16, batch_size=128)
    _say(f"ResNet-18 of width 16 on 3 x 32 x 32 images, batch 128: {speed:.0f} training images/s")


def _doctor(options: argparse.Namespace) -> int:
    from nclib.doctor import diagnose

    return diagnose()


if __name__ == "__main__":
    sys.exit(main())
