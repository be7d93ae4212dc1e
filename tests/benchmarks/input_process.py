"""One candidate of the input benchmark as a process of its own: started once, given orders, watched, ended.

`peers/input_serving.py` is the other end. Memory is what all its processes hold beside the page cache:
anonymous and shared memory by proportional share (`smaps_rollup`), so that what forked workers have in
common counts once. It is looked up every half second and the highest is kept. Linux only.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from records.errors import CxrError

LOOK_EVERY_S = 0.5
# A candidate that takes longer over one order has hung.
LIMIT_S = 120.0
_BESIDE_THE_PAGE_CACHE = ("Pss_Anon:", "Pss_Shmem:")


class CandidateProcess:
    """A running candidate; close it.

    Attributes:
        began: what it said when its first batch stood: seconds and versions.
        peak_bytes: the most memory it was seen to hold.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start it and wait for its first batch.

        Raises:
            CxrError: it ended or hung; the last line that it printed is given.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log, self.peak_bytes = log, 0
        self._unread = b""
        with log.open("w") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        try:
            self.began = self._answer()
        except CxrError:
            self.close()
            raise

    def ask(self, do: str, **arguments: object) -> dict[str, Any]:
        """Give one order and return its answer.

        Raises:
            CxrError: it ended or hung; the last line that it printed is given.
        """
        order = json.dumps({"do": do, **arguments}) + "\n"
        try:
            self._process.stdin.write(order.encode())
            self._process.stdin.flush()
        except OSError as error:
            raise CxrError(f"it can't be reached; {self._last_words()}") from error
        return self._answer()

    def close(self) -> None:
        """End it and all that it started."""
        if self._process.returncode is not None:
            return
        for _ in range(3):  # a process may start another one meanwhile
            for pid in self._members():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()

    def _answer(self) -> dict[str, Any]:
        deadline = time.monotonic() + LIMIT_S
        while b"\n" not in self._unread:
            if select.select([self._process.stdout], [], [], LOOK_EVERY_S)[0]:
                received = os.read(self._process.stdout.fileno(), 1 << 16)
                if not received:
                    raise CxrError(f"it ended; {self._last_words()}")
                self._unread += received
            elif time.monotonic() > deadline:
                raise CxrError(f"no answer within {LIMIT_S:.0f} s; {self._last_words()}")
            else:
                self._look()
        self._look()
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def _look(self) -> None:
        held_kib = 0
        for pid in self._members():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith(_BESIDE_THE_PAGE_CACHE):
                        held_kib += int(line.split()[1])
        self.peak_bytes = max(self.peak_bytes, held_kib * 1024)

    def _members(self) -> list[int]:
        members = []
        for name in os.listdir("/proc"):  # noqa: PTH208
            with contextlib.suppress(OSError, ValueError):
                if os.getsid(int(name)) == self._process.pid:
                    members.append(int(name))
        return members

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines() or ["nothing"]
        return f"it last said: {lines[-1]}; see {self._log}"
