"""How far a download is, in bytes: a bar for each file on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from beam_pipelines.progress import beside

_POLL_S = 0.25
# Where no terminal is, a line now and then says as much.
_LINE_EVERY_S = 10.0


class ByteProgress:
    """The bytes of each file that are here, and of how many; told by many threads."""

    def __init__(self, sizes: dict[str, int | None]) -> None:
        """Begin with the sizes in bytes by name, None where one isn't known yet."""
        self._lock = threading.Lock()
        self._totals = dict(sizes)
        self._here: dict[str, int] = {}
        self._fetched = 0
        self._console: Console | None = None

    def report(self, name: str, here: int, total: int | None) -> None:
        """Take note of the bytes of a file; those of its first report were there before."""
        with self._lock:
            self._fetched += max(0, here - self._here.get(name, here))
            self._here[name] = here
            self._totals[name] = total or self._totals.get(name)

    def say(self, text: str) -> None:
        """Print a line on standard error, above the bars if there are any."""
        if self._console:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the progress while the block runs."""
        with beside(self._bars if sys.stderr.isatty() else self._lines):
            yield

    def line(self, elapsed_s: float) -> str:
        """Say in one line how far all files together are."""
        with self._lock:
            here, fetched = sum(self._here.values()), self._fetched
            totals = list(self._totals.values())
        rate = fetched / max(elapsed_s, 1e-9)
        if None in totals:
            return f"downloading: {here / 1e9:.2f} GB, {rate / 1e6:.1f} MB/s"
        total = sum(size or 0 for size in totals)
        left = f", {(total - here) / rate / 60:.0f} min left" if rate else ""
        return f"downloading: {here / 1e9:.2f} of {total / 1e9:.2f} GB, {rate / 1e6:.1f} MB/s{left}"

    def _lines(self, stop: threading.Event) -> None:
        start = time.monotonic()
        while not stop.wait(_LINE_EVERY_S):
            self.say(self.line(time.monotonic() - start))

    def _bars(self, stop: threading.Event) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bars:
            self._console = bars.console
            tasks: dict[str, TaskID] = {}
            running = True
            while running:
                running = not stop.wait(_POLL_S)
                with self._lock:
                    state = [(name, here, self._totals[name]) for name, here in self._here.items()]
                for name, here, total in state:
                    if name not in tasks:
                        tasks[name] = bars.add_task(name, total=total, completed=here)
                    bars.update(tasks[name], completed=here, total=total)
        self._console = None
