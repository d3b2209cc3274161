"""Work in processes of its own, several at once, which end with the process that started them.

    worker = Worker("nclib.runs.get:train_listed", [asdict(config) for config in configs])
    failure = worker.failure()

A worker is told its work on its standard input, which then stays open: when it closes, because the parent
has stopped or was killed, the worker leaves at once. What it was writing is either whole or not there.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from nclib.errors import NclibError
from nclib.paths import REPOSITORY


class Worker:
    """A process that calls one function, with one thread.

    Parameters
    ----------
    function : "module:name" of a function of one argument.
    argument : what it gets; anything that JSON can carry.
    """

    def __init__(self, function: str, argument: Any) -> None:
        self._errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe could fill and block
        path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            # -P: a torch.py in the working folder is not torch
            [sys.executable, "-P", "-m", "nclib.runs.workers", function],
            env=os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            self.process.stdin.write(json.dumps(argument) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:  # it ended before it read: what it says is its reason
            pass

    def failure(self) -> str | None:
        """Wait until it has ended. Why it failed, in one line; None if it did not."""
        code = self.process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines()
        if code == 0:
            return None
        if code < 0:
            return f"it was ended by signal {-code}" + (", for want of memory?" if code == -9 else "")
        return said[-1] if said else f"it ended with status {code}"

    def stop(self) -> None:
        """End it now, if it has not ended."""
        self.process.kill()
        self.process.wait()
        with suppress(BrokenPipeError):  # what it did not read is written once more
            self.process.stdin.close()
        self._errors.close()


@contextmanager
def stopping(workers: list[Worker]) -> Iterator[None]:
    """Whatever happens inside, no worker of the list outlives the block."""
    try:
        yield
    finally:
        for worker in workers:
            worker.stop()


def main() -> int:
    """What a worker does."""
    content = b""
    while not content.endswith(b"\n"):
        part = os.read(0, 1 << 16)
        if not part:
            return 1
        content += part
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    module, _, name = sys.argv[1].partition(":")
    try:
        getattr(importlib.import_module(module), name)(json.loads(content))
    except NclibError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


def _leave_with_parent() -> None:
    while os.read(0, 1):  # the raw file: a thread that waits in sys.stdin would crash the interpreter's end
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
