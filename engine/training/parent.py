"""Hears that the process which started this training is gone, by a pipe whose other end that one holds.

The kernel closes that end however the process ends, so that a training whose parent was killed doesn't go on
by itself beside one that is started anew.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence

VARIABLE = "CXR_PARENT_PIPE"


@contextlib.contextmanager
def started(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command that may hear of this process's end while the block runs."""
    read_end, own_end = os.pipe()
    try:
        with subprocess.Popen(
            command, pass_fds=[read_end], env={**os.environ, VARIABLE: str(read_end)}
        ) as process:
            os.close(read_end)
            yield process
    finally:
        os.close(own_end)


class Watch:
    """Watches for the parent's end within the `with` block, where `started` began this process.

    Args:
        on_end: called once at most, in a thread of the watch's own, with one line.
    """

    def __init__(self, on_end: Callable[[str], None]) -> None:
        self._on_end = on_end
        self._left = threading.Event()

    def __enter__(self) -> Watch:
        # It is told to this process alone, not to those that it starts.
        if (descriptor := os.environ.pop(VARIABLE, "")).isdecimal():
            threading.Thread(target=self._watch, args=(int(descriptor),), name="parent", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()

    def _watch(self, descriptor: int) -> None:
        try:
            gone = not os.read(descriptor, 1)
        except OSError:  # inherited in name only, through another program
            return
        if gone and not self._left.is_set():
            self._on_end("the command that started this training is gone")
