"""Leaving a run on Ctrl-C, SIGTERM, SIGHUP or a notice, without raising inside TensorFlow.

Python calls a signal's handler in its main thread, wherever that happens to be, and not at all while it waits
inside TensorFlow for a batch. An exception raised there while TensorFlow's C++ calls back into Python is
lost, or aborts the process. So a thread of its own takes the signals and only notes the first one; the run
looks at the note between its steps. A second signal, or one before there is a step to wait for, ends the
process.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A person has stopped the run, or the machine that goes down: whatever started it may start it again.
INTERRUPTED_CODE, GOES_ON_CODE = 130, 75
_TWICE_S = 0.5


class Interrupts:
    """What was asked for by signals, or by `ask`, within the `with` block.

    Args:
        leave: writes down that the run was interrupted and returns what to say; called just before the
            process ends at once.

    Attributes:
        exit_code: that the process is to end with when it was asked to leave.
    """

    def __init__(self, leave: Callable[[], str]) -> None:
        self._leave = leave
        self._asked = self._told = False
        self._waits = False
        self.exit_code = INTERRUPTED_CODE
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        # TensorFlow's start has the error output led nowhere for a while.
        self._screen = os.dup(2)
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._thread = threading.Thread(target=self._listen, name="interrupts", daemon=True)
        self._thread.start()
        # Written to by the kernel's call itself, whatever the main thread does; see `signal.set_wakeup_fd`.
        self._wakeup_before = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            # What is ignored, as SIGHUP under `nohup`, stays so.
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        self._write.close()
        self._thread.join()
        self._read.close()
        os.close(self._screen)

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal came; call it between steps, where that is safe."""
        if not self._waits:
            # TensorFlow takes SIGTERM for itself when several workers begin.
            for number in self._before:
                signal.signal(number, lambda *_: None)
        self._waits = True
        if self._asked:
            raise KeyboardInterrupt

    @property
    def asked(self) -> bool:
        """Whether this process was asked to leave."""
        return self._asked

    def ask(self, reason: str) -> None:
        """Have the run leave after its step, to be gone on with elsewhere; from any thread.

        Args:
            reason: one line, that is shown.
        """
        self.exit_code = GOES_ON_CODE
        self._asked = self._told = True
        self._say(f"{reason}; stopping after this step")

    def _listen(self) -> None:
        last, last_s = 0, -math.inf
        while received := self._read.recv(1):
            number, now_s = received[0], time.monotonic()
            # What a group of processes is sent may come twice: by itself, and passed on by a parent.
            twice = number == last and now_s - last_s < _TWICE_S
            last, last_s = number, now_s
            if number in self._before and not twice:
                self._note(GOES_ON_CODE if number == signal.SIGTERM else INTERRUPTED_CODE)

    def _note(self, exit_code: int) -> None:
        # A machine that was said to go down sends a signal, too, while the checkpoint is on its way.
        if (self._asked and not self._told) or not self._waits:
            self._say(self._leave())
            os._exit(exit_code)
        self._told = False
        self.exit_code = exit_code
        self._asked = True
        self._say("stopping after this step; once more: at once")

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._screen, f"{line}\n".encode())
