"""Looking at what other threads and processes do to a cache folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def bytes_in(folder: Path) -> int:
    """Return the size of all files in a folder, from which others may go meanwhile."""
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Return when something has come about; fail when it hasn't in time."""
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, "it never came to that"
        time.sleep(0.005)
