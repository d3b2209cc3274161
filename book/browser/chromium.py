"""The system's Chromium: found, installed where that is possible, and started."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
# No request of the browser's own; the sandbox needs rights that containers lack.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def find() -> str | None:
    """Path of a Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def find_or_install() -> str | None:
    """Path of a Chromium; on Debian and its relatives, as root, it is installed if there is none."""
    if find() is None and shutil.which("apt-get") and os.geteuid() == 0:
        print("installing chromium", flush=True)
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
            done = subprocess.run(["apt-get", *arguments], capture_output=True, text=True)
            if done.returncode != 0:
                print(done.stderr[-500:])
                break
    return find()


async def opened(page: Any, path: Path) -> None:
    """Open a page from its file, with its formulas set."""
    await page.goto(path.as_uri())
    await page.evaluate("() => window.MathJax?.startup?.promise")


async def launch(playwright: Any) -> Any:
    """A started browser of Playwright's asynchronous interface."""
    return await playwright.chromium.launch(executable_path=find(), args=list(ARGUMENTS))
