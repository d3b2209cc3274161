"""Check the built pages in Chromium: ``make browser``, after ``make book``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BOOK = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(BOOK))

from browser import chromium  # noqa: E402 -- found by the line above


def main() -> int:
    if chromium.find_or_install() is None:
        print("make browser: SKIPPED, there is no Chromium here (Debian, Ubuntu: apt install chromium)")
        return 0
    pytest = [sys.executable, "-m", "pytest", "--quiet", "--no-header", "-rs"]
    return subprocess.run([*pytest, "book/check_browser.py"], cwd=BOOK.parent).returncode


if __name__ == "__main__":
    sys.exit(main())
