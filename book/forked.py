"""Kernels of a build, forked from a process that has loaded what chapters import.

with forked_kernels():
    ...

Loading torch, scikit-learn and matplotlib takes most of the time of a short chapter. The process that is
forked has one thread and has computed nothing. Where that cannot be, kernels start as they always do.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from nclib.notebook import LONGEST_TEMPORARY

INLINE = "module://matplotlib_inline.backend_inline"  # what a kernel draws with
LOADED = (  # nothing of nclib: an error in its sources is the error of the chapter that imports them
    "ipykernel.kernelapp",
    "matplotlib.pyplot",
    "openTSNE",
    "scipy.stats",
    "seaborn",
    "sklearn.cluster",
    "sklearn.mixture",
    "torch",
)


def can_fork() -> bool:
    """Elsewhere than on Linux libraries may not survive it; its socket's path is that of temporary files."""
    return sys.platform == "linux" and len(tempfile.gettempdir()) <= LONGEST_TEMPORARY


@contextmanager
def forked_kernels() -> Iterator[None]:
    """Kernels that this process starts inside the block are forked, and end with it."""
    if not can_fork():
        yield
        return
    os.environ.setdefault("MPLBACKEND", INLINE)  # matplotlib looks when it is imported
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(list(LOADED))
    first = forking.Process(target=int)  # so that all is loaded before a chapter is timed
    first.start()
    first.join()
    factory = KernelProvisionerFactory.instance()
    before = factory.default_provisioner_name
    factory.provisioners["forked"] = EntryPoint("forked", f"{__name__}:Forked", factory.GROUP_NAME)
    factory.default_provisioner_name = "forked"
    try:
        yield
    finally:
        factory.default_provisioner_name = before
        for kernel in multiprocessing.active_children():
            kernel.kill()


class Forked(LocalProvisioner):
    """Starts kernels by forking; all else is as for kernels that are started from their command."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        self.process = ForkedProcess(cmd, kwargs.get("cwd", "."), kwargs["env"])
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class ForkedProcess:
    """A kernel's process with those methods of ``subprocess.Popen`` that Jupyter calls."""

    stdin = stdout = stderr = None

    def __init__(self, command: list[str], folder: str, environment: dict[str, str]) -> None:
        forking = multiprocessing.get_context("forkserver")
        self.process = forking.Process(target=serve, args=(command, folder, environment))
        self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.process.kill()

    def terminate(self) -> None:
        self.process.terminate()


def serve(command: list[str], folder: str, environment: dict[str, str]) -> None:
    """Be the kernel of a command, ``[python, "-m", "ipykernel_launcher", ...]``."""
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()  # signals to its group then reach what it starts, and nothing else
    os.chdir(folder)
    multiprocessing.set_start_method(None, force=True)  # again what it is by default
    random.seed()  # as Python and numpy do when they are loaded: else all kernels would draw the same
    np.random.seed()
    os.environ.update(environment)
    sys.argv = command[2:]
    threading.Thread(target=_leave_with_build, daemon=True).start()
    parent = f"--IPKernelApp.parent_handle={os.getppid()}"
    IPKernelApp.launch_instance(argv=[*command[3:], parent])


def _leave_with_build() -> None:
    multiprocessing.parent_process().join()
    os.killpg(0, signal.SIGKILL)
