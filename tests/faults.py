"""What is lost when processes are killed, disks fail and bytes flip? ``make faults``

    python tests/faults.py                      every kind of fault and 4,000 hostile inputs
    python tests/faults.py --quick              a sample of each kind, in two minutes
    python tests/faults.py --seed 7 --only kill flip
    python tests/faults.py --write FILE         keep the table as JSON; other kinds in FILE stay

A fault is injected into a process of its own. Another process then does what a user would: it asks again.
The fault is survived if the first process said what was wrong in a sentence, or died, and the second ends
with the bytes of a run that nothing disturbed, with a store that verifies and with nothing left over.
"""

from __future__ import annotations

import argparse
import builtins
import errno
import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ |= {"TQDM_DISABLE": "1", "NCLIB_DEVICE": "cpu", "NCLIB_PROCESSES": "1", "OMP_NUM_THREADS": "1"}

import hostile
import torch

from nclib import cli
from nclib.config import recipe_config
from nclib.errors import NclibError
from nclib.runs import publish, released
from nclib.runs.get import find_run
from nclib.runs.provenance import provenance
from nclib.runs.run import Run
from nclib.storage import store
from nclib.training import loop

FIELDS = {"arch": "mlp", "width": 16, "epochs": 3, "deterministic": True}
SECONDS = 60  # after which a process hangs
CALLS = ("open", "replace", "rename", "fsync", "mkdir", "unlink", "rmdir", "link")
LOUD = 99  # exit status of a process that ended with a traceback


@dataclass
class Row:
    """One kind of fault."""

    kind: str
    injected: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def note(self, what: str, problem: str | None) -> None:
        self.injected += 1
        if problem:
            self.failures.append(f"{what}: {problem}")


# Processes


@dataclass(frozen=True)
class Outcome:
    status: int  # of the process; -N if signal N ended it
    output: str

    @property
    def problem(self) -> str | None:
        """Why a process may not end like this, whatever was done to it."""
        if "Traceback" in self.output or self.status == LOUD:
            return f"traceback: {self.output.strip().splitlines()[-1][:300]}"
        if self.status == -signal.SIGALRM:
            return "hangs"
        if self.status not in (0, 1, -signal.SIGKILL):
            return f"status {self.status}: {self.output[-300:]}"
        if self.status == 1 and not self.output.strip():
            return "says nothing"
        return None


def fork(place: Path, act: Callable[[], Any], prepare: Callable[[], None] = lambda: None) -> tuple[int, Path]:
    """Start ``act`` in a process whose store and released runs lie in ``place``; its number, its output."""
    output = Path(tempfile.mkstemp(dir=place.parent)[1])
    if pid := os.fork():
        return pid, output
    status = LOUD
    try:
        file = os.open(output, os.O_WRONLY | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(file, stream)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        os.environ["NCLIB_HOME"] = str(place / "store")
        publish.RELEASED = released.RELEASED = place / "released"
        prepare()
        status = act() or 0
    except NclibError as error:
        print(f"nclib: {error}")
        status = 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ended(pid: int, output: Path) -> Outcome:
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    text = output.read_text(errors="replace")
    output.unlink()
    return Outcome(status, text)


def run(place: Path, act: Callable[[], Any], prepare: Callable[[], None] = lambda: None) -> Outcome:
    return ended(*fork(place, act, prepare))


# What processes do


def command(name: str, seed: int = 0, *more: str) -> Callable[[], int]:
    """A command line about the tiny run of a seed."""
    settings = [f"{key}={str(value).lower()}" for key, value in (FIELDS | {"seed": seed}).items()]
    return lambda: cli.main([name, "digits", "--set", *settings, *more])


train = command("train")


def publish_it() -> None:
    publish.release(find_run(tiny(), released=False), "tiny", with_tsne=False)


def ask_again(*commands: Callable[[], Any]) -> Callable[[], int]:
    """Repeat each command once if it fails: what was damaged may be set aside and said first."""

    def act() -> int:
        for one in (*commands, lambda: cli.main(["verify"]), lambda: cli.main(["gc"])):
            if one():
                print("--- again")
                if status := one():
                    return status
        return 0

    return act


def tiny(seed: int = 0):
    return recipe_config("digits", **FIELDS, seed=seed)


# What there must be in the end


def content(run: Run) -> str:
    """A digest of everything that a reader of a run can get, but for its provenance."""
    digest = hashlib.sha256(json.dumps([run.record["config"], run.history, run.record["grouping"]]).encode())
    if run.released:
        results = {name: value for name, value in run.results.items() if name != "seconds"}
        digest.update(json.dumps(results).encode())
        tensors = dict(run.snapshots)
    else:
        tensors = run.snapshots | run.model().state_dict() | {f"{s}/h": run.features(s).h for s in SPLITS}
        tensors |= {f"{n}/{k}": t for n in run.measured_epochs for k, t in run.model(n).state_dict().items()}
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


SPLITS = ("train", "test")


def answers(expected: str, seed: int = 0) -> Callable[[], int]:
    """Get the stored run of a seed as a reader does; 2 if it is another one than expected."""

    def act() -> int:
        if status := command("get", seed)():
            return status
        return 0 if content(Run(store.run_folder(store.run_key(tiny(seed))))) == expected else 2

    return act


def is_folder(path: Path) -> bool:
    """Whether this is what the store makes: links and single files are somebody else's."""
    return path.is_dir() and not path.is_symlink()


def left_over(place: Path) -> str | None:
    """A file that should not be there any more."""
    ours = ("partial", "checkpoints", "damaged")
    names = [p for part in ours for p in (place / "store" / part).glob("*") if is_folder(p)]
    names += [p for p in place.rglob(".*") if "partial" in p.name or p.name.startswith(".old")]
    return f"left over: {names[0].relative_to(place)}" if names else None


# Faults in the file layer


def failing(at: int, fault: Callable[[str, bool, tuple], None], place: Path) -> Callable[[], None]:
    """Hand the ``at``-th call of the file layer and all further ones to ``fault``.

    ``fault(name, whether it is the first, arguments)`` kills, raises, or lets the call pass. Calls about
    files outside of ``place`` do not count.
    """
    count = 0

    def watched(name: str, call: Callable) -> Callable:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            if concerns(arguments, options, place):
                count += 1
                if count >= at:
                    fault(name, count == at, arguments)
            return call(*arguments, **options)

        return wrapped

    def prepare() -> None:
        for name in CALLS:
            setattr(os, name, watched(name, getattr(os, name)))
        builtins.open = io.open = watched("open", io.open)

    return prepare


def concerns(arguments: tuple, options: dict, place: Path) -> bool:
    first = arguments[0]
    if isinstance(first, int) or "dir_fd" in options:
        return True
    return str(os.fspath(first)).startswith(str(place))


def kill(name: str, first: bool, arguments: tuple) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def io_error(name: str, first: bool, arguments: tuple) -> None:
    """One call fails, as on a disk that is about to die."""
    if first:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(arguments[0]))


def writes(name: str, arguments: tuple) -> bool:
    if name != "open":
        return True
    mode = arguments[1] if len(arguments) > 1 else "r"
    return bool(mode & (os.O_WRONLY | os.O_RDWR)) if isinstance(mode, int) else not mode.startswith("r")


def full_disk(name: str, first: bool, arguments: tuple) -> None:
    """From here on nothing can be written; deleting works."""
    if writes(name, arguments) and name not in ("unlink", "rmdir"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))


def read_only(name: str, first: bool, arguments: tuple) -> None:
    if writes(name, arguments):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(arguments[0]))


def calls_of(place: Path, act: Callable[[], Any]) -> int:
    """How often an action calls the file layer."""
    counter = place.parent / "calls"
    counted = 0

    def count(name: str, first: bool, arguments: tuple) -> None:
        nonlocal counted
        counted += 1

    def counting() -> None:
        act()
        with os.fdopen(os.open(counter, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
            file.write(str(counted))

    outcome = run(place, counting, failing(1, count, place))
    assert outcome.status == 0, outcome.output
    return int(counter.read_text())


# The kinds


class Faults:
    """All kinds of faults, on copies of one store that nothing disturbed."""

    def __init__(self, scratch: Path, seed: int, share: float) -> None:
        self.draw, self.share, self.scratch, self.copies = random.Random(seed), share, scratch, 0
        places = ("empty", "half", "unpublished", "full")
        self.empty, self.half, self.unpublished, self.full = (scratch / name for name in places)
        self.empty.mkdir()
        self.warm(scratch / "warm")
        for place, act, prepare in (
            (self.full, lambda: train() or command("train", 1)() or publish_it(), lambda: None),
            (self.half, train, self.dies_after_epoch(2)),
        ):
            place.mkdir()
            outcome = run(place, act, prepare)
            assert outcome.status in (0, -signal.SIGKILL), outcome.output
        shutil.copytree(self.full, self.unpublished, ignore=shutil.ignore_patterns("released"))
        os.environ["NCLIB_HOME"] = str(self.full / "store")
        self.keys = [store.run_key(tiny(seed)) for seed in (0, 1)]
        self.expected = [content(Run(store.run_folder(key))) for key in self.keys]
        self.expected_release = content(released.ReleasedRun(self.full / "released" / "tiny"))

    @staticmethod
    def warm(place: Path) -> None:
        """Do everything once in this process: what it has imported its children need not import."""
        os.environ["NCLIB_HOME"] = str(place / "store")
        shelf, publish.RELEASED = publish.RELEASED, place / "released"
        with redirect_stdout(io.StringIO()):
            train()
            publish_it()
        publish.RELEASED = shelf

    @staticmethod
    def dies_after_epoch(epoch: int) -> Callable[[], None]:
        """Training that ends by a kill before an epoch after this one, its checkpoint written."""

        def prepare() -> None:
            train_epoch = loop.Training.train_epoch

            def dying(self, number, *arguments):
                if number > epoch:
                    os.kill(os.getpid(), signal.SIGKILL)
                return train_epoch(self, number, *arguments)

            loop.Training.train_epoch = dying

        return prepare

    @contextmanager
    def copy(self, of: Path) -> Iterator[Path]:
        """A copy of a place, deleted in the end."""
        self.copies += 1
        place = self.scratch / f"copy {self.copies}"
        shutil.copytree(of, place, symlinks=True)
        try:
            yield place
        finally:
            shutil.rmtree(place)

    def some(self, everything: list) -> list:
        """As large a sample as this run of the program takes, in order."""
        wanted = max(1, round(self.share * len(everything)))
        return [everything[i] for i in sorted(self.draw.sample(range(len(everything)), wanted))]

    def recovered(self, place: Path, *commands: Callable[[], Any]) -> str | None:
        """What is wrong after asking again for everything; None if all is there."""
        again = run(place, ask_again(*commands, answers(self.expected[0])))
        if again.status == 2:
            return "silently wrong"
        return again.problem or (again.output[-300:] if again.status else left_over(place))

    def at_every_call(self, row: Row, fault: Callable) -> None:
        """Train, publish, publish once more, gc and verify, disturbed at each call of the file layer."""
        for name, of, act, commands in (
            ("train", self.empty, train, (train,)),
            ("resume", self.half, train, (train,)),
            ("release", self.unpublished, publish_it, (publish_it,)),
            ("replace", self.full, publish_it, (publish_it,)),
            ("gc", self.half, lambda: cli.main(["gc", "--stale"]), (train,)),
            ("get", self.full, command("get"), (train,)),
            ("verify", self.full, lambda: cli.main(["verify"]), (train,)),
        ):
            with self.copy(of) as place:
                calls = calls_of(place, act)
            for at in self.some(list(range(1, calls + 1))):
                with self.copy(of) as place:
                    first = run(place, act, failing(at, fault, place))
                    problem = first.problem or self.recovered(place, *commands)
                    if (place / "released").exists() and not problem:
                        problem = self.release_problem(place)
                row.note(f"{name}, call {at} of {calls}", problem)

    def release_problem(self, place: Path, may_lack: bool = False) -> str | None:
        """What is wrong with the released run as a reader gets it."""

        def act() -> int:
            found = released.find_released(tiny())
            if found is None:
                print("no released run")
                return 0 if may_lack else 1
            return 0 if content(found) == self.expected_release else 2

        outcome = run(place, act)
        if outcome.status == 2:
            return "released run silently wrong"
        return outcome.problem or (outcome.output[-300:] if outcome.status and not may_lack else None)

    def kill(self, row: Row) -> None:
        """SIGKILL at every call of the file layer"""
        self.at_every_call(row, kill)

    def error(self, row: Row) -> None:
        """an I/O error at every call"""
        self.at_every_call(row, io_error)

    def full_disk(self, row: Row) -> None:
        """a full disk from every call on"""
        self.at_every_call(row, full_disk)

    def read_only(self, row: Row) -> None:
        """a read-only disk from every call on"""
        self.at_every_call(row, read_only)

    def quota(self, row: Row) -> None:
        """a limit on the length of files, by the operating system"""
        for length in self.some([int(2 ** (k / 4)) for k in range(40, 100)]):  # what it prints fits in
            with self.copy(self.empty) as place:

                def limited(length: int = length) -> None:
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (length, length))

                first = run(place, train, limited)
                row.note(f"{length} bytes", first.problem or self.recovered(place, train))

    def random_kill(self, row: Row) -> None:
        """SIGKILL at a random time, up to three times"""
        start = time.perf_counter()
        with self.copy(self.empty) as place:
            run(place, train)
        lasts = time.perf_counter() - start
        for number in self.some(list(range(60))):
            with self.copy(self.empty) as place:
                problem = None
                for _ in range(self.draw.randint(1, 3)):
                    pid, output = fork(place, train)
                    time.sleep(self.draw.uniform(0, lasts))
                    os.kill(pid, signal.SIGKILL)
                    problem = problem or ended(pid, output).problem
                row.note(f"number {number}", problem or self.recovered(place, train))

    def flip(self, row: Row) -> None:
        """a flipped bit, a cut, emptied, lengthened, exchanged or missing file"""
        for of in (self.full, self.half):
            files = [p.relative_to(of) for p in sorted(of.rglob("*")) if p.is_file()]
            files = [p for p in files if not {"locks", "results"} & set(p.parts)]
            changes = [(file, how) for file in files for how in damages(of / file, self.draw)]
            for file, (how, change) in self.some(changes):
                with self.copy(of) as place:
                    change(place / file)
                    row.note(f"{of.name}/{file}, {how}", self.problem_of_damage(place, of))

    def problem_of_damage(self, place: Path, of: Path) -> str | None:
        first = run(place, answers(self.expected[0]))
        if "nclib-store.json is damaged. Delete it" in first.output:  # all that a reader is asked to do
            (place / "store" / "nclib-store.json").unlink()
        if first.status == 2:
            return "silently wrong"
        problem = first.problem or self.recovered(place, train)
        if of == self.full and not problem:
            other = run(place, ask_again(answers(self.expected[1], seed=1)))
            problem = "seed 1 silently wrong" if other.status == 2 else other.problem
        return problem or (self.release_problem(place, may_lack=True) if of == self.full else None)

    def swap(self, row: Row) -> None:
        """runs, checkpoints or files under the name of another"""
        zero, one = (Path("store/runs") / key for key in self.keys)
        for name in (".", *sorted(p.name for p in (self.full / zero).iterdir())):
            with self.copy(self.full) as place:
                exchange(place / zero / name, place / one / name)
                row.note(f"seeds 0 and 1, {name}", self.problem_of_damage(place, self.full))
        checkpoint = Path("store/checkpoints")
        for fields in (
            {"seed": 1},
            {"lr": 0.01},
            {"epochs": 4},
            {"width": 8},
            {"loss": "mse"},
            {"weight_decay": 0.0},
        ):
            with self.copy(self.half) as place:
                stranger = store.run_key(recipe_config("digits", **FIELDS | fields))
                (place / checkpoint / self.keys[0]).rename(place / checkpoint / stranger)
                settings = [f"{k}={str(v).lower()}" for k, v in (FIELDS | fields).items()]
                settings = ["train", "digits", "--set", *settings]
                first = run(place, ask_again(lambda settings=settings: cli.main(settings)))
                fresh = run(self.full, lambda settings=settings: cli.main(settings))
                assert fresh.status == 0, fresh.output
                problem = first.problem or (first.output[-300:] if first.status else None)
                row.note(f"checkpoint of other {fields}", problem or differ(place, self.full, stranger))

    def crowd(self, row: Row) -> None:
        """eight processes ask for one run; one of them is killed"""
        for number in self.some(list(range(12))):
            with self.copy(self.empty) as place:
                started = [fork(place, train) for _ in range(8)]
                time.sleep(self.draw.uniform(0, 0.6))
                holder = next(iter(holders(place)), started[0][0])
                os.kill(holder, signal.SIGKILL)
                outcomes = [ended(*one) for one in started]
                problems = [o.problem or (o.output if o.status == 1 else None) for o in outcomes]
                problem = next((p for p in problems if p), None)
                row.note(f"number {number}", problem or self.recovered(place, train))

    def gc(self, row: Row) -> None:
        """gc --stale again and again while a run is trained"""
        for number in self.some(list(range(12))):
            with self.copy(self.empty) as place:
                pid, output = fork(place, train)
                problem = None
                while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    problem = problem or run(place, lambda: cli.main(["gc", "--stale"])).problem
                outcome = ended(pid, output)
                problem = problem or outcome.problem or (outcome.output if outcome.status else None)
                row.note(f"number {number}", problem or self.recovered(place, train))

    def reader(self, row: Row) -> None:
        """a released run read while it is replaced"""
        with self.copy(self.full) as place:
            for number in self.some(list(range(40))):
                pid, output = fork(place, publish_it)
                problem = None
                while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    problem = problem or self.release_problem(place)
                row.note(f"number {number}", problem or ended(pid, output).problem)

    def foreign(self, row: Row) -> None:
        """files of others where the store is"""
        names = [
            "model.pt",
            "exp1/weights.bin",
            "x",
            "thesis/chapter.tex",
            "tensorboard1/events",
            ".git/config",
        ]
        names += [f"{'a' * 64}/mine.txt", "a" * 63, f"{self.keys[0]}.bak/run.json"]
        folders = ["", "runs", "checkpoints", "partial", "damaged", "results", "locks"]
        for folder, name in self.some([(folder, name) for folder in folders for name in names]):
            for of in (self.empty, self.half):
                with self.copy(of) as place:
                    file = place / "store" / folder / name
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(b"not yours")
                    first = run(
                        place, ask_again(lambda: cli.main(["ls"]), lambda: cli.main(["gc", "--stale"]))
                    )
                    second = run(place, ask_again(train))
                    kept = file.is_file() and file.read_bytes() == b"not yours"
                    problem = first.problem or second.problem or (None if kept else "deleted or moved")
                    row.note(f"{folder}/{name}, {of.name} store", problem)

    def links(self, row: Row) -> None:
        """dangling links, links elsewhere and folders in the place of files"""
        for folder in ("runs", "checkpoints", "partial", "damaged", "locks", "results"):
            for kind in ("dangling", "elsewhere", "file"):
                with self.copy(self.full) as place:
                    entry = place / "store" / folder / hashlib.sha256(kind.encode()).hexdigest()
                    entry.parent.mkdir(exist_ok=True)
                    treasure = place / "treasure" / "gold"
                    treasure.parent.mkdir()
                    treasure.write_text("mine")
                    if kind == "file":
                        entry.write_text("")
                    else:
                        entry.symlink_to(treasure.parent if kind == "elsewhere" else place / "nowhere")
                    commands = [lambda c=c: cli.main(c) for c in (["ls"], ["gc"], ["gc", "--stale"])]
                    first = run(place, ask_again(*commands))
                    problem = first.problem or (
                        None if treasure.exists() else "deleted what a link pointed to"
                    )
                    row.note(f"{folder}, {kind}", problem or self.recovered(place, train))

    def hostile(self, row: Row) -> None:
        """hostile values for every public function"""
        found = hostile.attack(self.draw.randrange(2**32), round(4000 * self.share))
        row.injected, row.failures = found.tried.total(), found.crashes


def damages(file: Path, draw: random.Random) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Ways to damage a file: in each of its parts, and as a whole."""
    length = file.stat().st_size
    parts = {"": (0, length)}
    if file.suffix == ".safetensors":
        header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
        parts = {"length": (0, 8), "header": (8, header), "data": (header, length)}
    for part, (low, high) in parts.items():
        for _ in range(6 if part in ("", "header") else 2):
            at, bit = draw.randrange(low, high), draw.randrange(8)
            yield (
                f"bit {bit} of byte {at} ({part or 'anywhere'})",
                lambda path, at=at, bit=bit: flip(path, at, bit),
            )
    cut = draw.randrange(length)
    yield f"cut to {cut} bytes", lambda path: os.truncate(path, cut)
    yield "emptied", lambda path: os.truncate(path, 0)
    yield "lengthened", lambda path: path.write_bytes(path.read_bytes() + b"\0")
    yield "missing", lambda path: path.unlink()
    if file.suffix == ".json":
        yield "another JSON", lambda path: path.write_text('{"files": {}}')


def flip(path: Path, at: int, bit: int) -> None:
    whole = bytearray(path.read_bytes())
    whole[at] ^= 1 << bit
    path.unlink()  # the file may have a second name
    path.write_bytes(whole)


def exchange(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def differ(place: Path, reference: Path, key: str) -> str | None:
    """Whether two places hold different bytes of a run."""
    one, other = (where / "store" / "runs" / key for where in (place, reference))
    for path in sorted(other.glob("*.safetensors")):
        if (one / path.name).read_bytes() != path.read_bytes():
            return f"silently wrong: {path.name}"
    return None


def holders(place: Path) -> list[int]:
    """Processes that hold a lock in a store, as Linux lists them."""
    inodes = {path.stat().st_ino for path in (place / "store" / "locks").glob("*")}
    held = []
    for line in Path("/proc/locks").read_text().splitlines() if Path("/proc/locks").exists() else []:
        fields = line.split()
        if "->" not in fields and int(fields[5].rsplit(":")[-1]) in inodes:
            held.append(int(fields[4]))
    return held


KINDS = ["kill", "error", "full_disk", "read_only", "quota", "random_kill", "flip", "swap", "crowd", "gc"]
KINDS += ["reader", "foreign", "links", "hostile"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS, metavar="KIND")
    parser.add_argument("--write", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    loop.CHECKPOINT_SECONDS = 0  # a checkpoint after every epoch
    with tempfile.TemporaryDirectory(prefix="nclib faults ") as scratch:
        faults = Faults(Path(scratch), arguments.seed, 0.06 if arguments.quick else 1.0)
        rows = [injected(faults, kind) for kind in arguments.only]
    lost = sum(len(row.failures) for row in rows)
    print(f"{sum(row.injected for row in rows)} faults, {lost} not survived")
    if arguments.write:
        keep(rows, arguments.seed, arguments.write)
    return int(lost > 0)


def keep(rows: list[Row], seed: int, file: Path) -> None:
    """Write the table, with rows of other kinds that are there already, each with seed and provenance."""
    made = {"seed": seed, "provenance": provenance(torch.device("cpu"))}
    new = {row.kind: vars(row) | {"failures": len(row.failures)} | made for row in rows}
    old = json.loads(file.read_text())["rows"] if file.exists() else []
    table = {row["kind"]: row for row in old} | new
    file.write_text(json.dumps({"rows": list(table.values())}, indent=1) + "\n")


def injected(faults: Faults, kind: str) -> Row:
    """The faults of one kind; failures are printed as they are found."""
    inject = getattr(faults, kind)
    row, start = Row(inject.__doc__), time.perf_counter()
    inject(row)
    row.seconds = round(time.perf_counter() - start, 1)
    for failure in row.failures:
        print("  not survived:", failure)
    print(f"{row.injected:5} {len(row.failures):4} lost {row.seconds:7.1f} s  {row.kind}", flush=True)
    return row


if __name__ == "__main__":
    sys.exit(main())
