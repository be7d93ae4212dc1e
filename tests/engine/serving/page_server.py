"""A real server process and a real browser, for the tests and the screenshots of the page.

As a program it serves: run directory, manifest and box list are its arguments; the port is any that is free.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOP_S = 20.0


def chromium() -> str | None:
    """Return where the system's Chromium is, if there is one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM_BINARY") or next(filter(None, map(shutil.which, names)), None)


@contextmanager
def browser() -> Iterator[Any]:
    """Start the system's Chromium, without a window."""
    from playwright.sync_api import sync_playwright

    # Chromium's own sandbox needs rights that containers don't have; it opens nothing but our own page.
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def serving(run_dir: str, data: str, boxes: str = "") -> Iterator[str]:
    """Serve a run in a process of its own; yields the address.

    Args:
        run_dir: of the run or ensemble.
        data: location of the manifest of its data set.
        boxes: location of the box list; empty: none.

    Raises:
        RuntimeError: it didn't start, or didn't stop as asked.
    """
    command = [sys.executable, __file__, run_dir, data, boxes]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stdout or ())
            address = next((line.split()[0] for line in lines if line.startswith("http://")), None)
            if address is None:
                raise RuntimeError(f"the server of {run_dir} ended with {process.wait(STOP_S)} at its start")
            yield address
        finally:
            process.terminate()
            status = process.wait(STOP_S)
    if status:
        raise RuntimeError(f"the server of {run_dir} ended with {status} when it was told to stop")


def asked(address: str) -> Any:
    """Return what the API says under an address."""
    with urllib.request.urlopen(address, timeout=60) as answer:
        return json.load(answer)


if __name__ == "__main__":
    from engine.serving import serve

    sys.exit(serve.run(sys.argv[1], data=sys.argv[2], boxes=sys.argv[3] or None, port=0))
