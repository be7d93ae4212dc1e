"""A progress line with a rate and the time left, for work that other processes do."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_POLL_S = 0.25
# Where no terminal is, a line now and then says as much.
_LINE_EVERY_S = 10.0


@contextlib.contextmanager
def watch(what: str, total: int | None, count: Callable[[], int]) -> Iterator[None]:
    """Show `count()` of `total` while the block runs.

    Args:
        what: is being done, such as `converting`.
        total: images in all, None where nobody knows yet.
        count: returns the images done so far; called a few times a second from another thread.
    """
    with beside(_bar if sys.stderr.isatty() else _lines, what, total, count):
        yield


@contextlib.contextmanager
def beside(show: Callable[..., None], *arguments: object) -> Iterator[None]:
    """Run `show(*arguments, stop)` in a thread while the block runs; `stop` is the event that ends it."""
    stop = threading.Event()
    thread = threading.Thread(target=show, args=(*arguments, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def quiet_workers() -> Iterator[None]:
    """Keep what worker processes say of themselves off the screen while the block runs.

    Beam's local workers write dozens of lines each to the standard error they inherit. What matters of it
    reaches the launcher as an exception, so descriptor 2 leads nowhere meanwhile; this process still
    writes to the real one through `sys.stderr`.
    """
    real, inherited = sys.stderr, os.dup(2)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(inherited, 2)
        os.close(inherited)
        sys.stderr.close()
        sys.stderr = real


def _bar(what: str, total: int | None, count: Callable[[], int], stop: threading.Event) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, rate="")
        start = time.monotonic()
        running = True
        while running:
            running = not stop.wait(_POLL_S)
            done = count()
            bar.update(task, completed=done, rate=f"{done / (time.monotonic() - start):.0f} images/s")


def _lines(what: str, total: int | None, count: Callable[[], int], stop: threading.Event) -> None:
    start = time.monotonic()
    running = True
    while running:
        running = not stop.wait(_LINE_EVERY_S)
        done, elapsed_s = count(), time.monotonic() - start
        rate = done / elapsed_s
        of = "" if total is None else f" of {total:,}"
        left = f", {(total - done) / rate:.0f} s left" if total is not None and running and rate else ""
        print(f"{what}: {done:,}{of} images, {rate:.0f} images/s{left}", file=sys.stderr, flush=True)
