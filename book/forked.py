"""Processes of a build, forked from one that has loaded what chapters and pages import.

with forked_kernels():
    ...                                           # kernels that Jupyter starts
context().Process(target=function).start()        # any other

Loading torch, scikit-learn and matplotlib takes most of the time of a short chapter. The process that is
forked has one thread and has computed nothing. Where there is no fork, processes start as they always do.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

import nclib

INLINE = "module://matplotlib_inline.backend_inline"  # what a kernel draws with
CHAPTERS = (f"nclib.chapters.{path.stem}" for path in Path(nclib.__file__).parent.glob("chapters/[a-z]*.py"))
LOADED = ("ipykernel.kernelapp", "matplotlib.pyplot", "openTSNE", *sorted(CHAPTERS))


def context() -> BaseContext:
    """Of processes that are forked, if this system can."""
    if not can_fork():
        return multiprocessing.get_context()
    os.environ.setdefault("MPLBACKEND", INLINE)  # matplotlib looks when it is imported
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(list(LOADED))
    return forking


def can_fork() -> bool:
    return sys.platform == "linux"  # elsewhere libraries may not survive it


@contextmanager
def forked_kernels() -> Iterator[None]:
    """Kernels that this process starts inside the block are forked."""
    factory = KernelProvisionerFactory.instance()
    before = factory.default_provisioner_name
    if can_fork():
        factory.provisioners["forked"] = EntryPoint("forked", f"{__name__}:Forked", factory.GROUP_NAME)
        factory.default_provisioner_name = "forked"
    try:
        yield
    finally:
        factory.default_provisioner_name = before


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
        self.process = context().Process(target=serve, args=(command, folder, environment), daemon=True)
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
    os.environ.update(environment)
    sys.argv = command[2:]
    threading.Thread(target=_leave_with_build, daemon=True).start()
    parent = f"--IPKernelApp.parent_handle={os.getppid()}"
    IPKernelApp.launch_instance(argv=[*command[3:], parent])


def _leave_with_build() -> None:
    multiprocessing.parent_process().join()
    os.killpg(0, signal.SIGKILL)
