"""Leaving a run on Ctrl-C, SIGTERM or SIGHUP without raising inside TensorFlow.

Python calls a signal's handler wherever its main thread happens to be. An exception raised there while
TensorFlow's C++ calls back into Python is lost, or aborts the process. So the handler only takes a note, at
which the run looks between its steps; a second signal, or one before there is a step to wait for, ends the
process there and then.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXIT_CODE = 130


class Interrupts:
    """What was asked for by signals within the `with` block.

    Args:
        leave: writes down that the run was interrupted; called just before the process ends at once.
    """

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self._asked = False
        self._waits = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal came; call it between steps, where that is safe."""
        self._waits = True
        if self._asked:
            raise KeyboardInterrupt

    def _note(self, signal_number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signal's form
        if self._asked or not self._waits:
            self._leave()
            sys.stderr.flush()
            os._exit(EXIT_CODE)
        self._asked = True
        # The handler may have interrupted a print: `os.write` has no lock to wait for.
        os.write(2, b"stopping after this step; once more: at once\n")
