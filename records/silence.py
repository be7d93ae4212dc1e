"""Says that a store is silent while its client still asks again, which the client itself doesn't tell."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

AFTER_S = 10.0


@contextlib.contextmanager
def told(location: str, patience_s: float, *, after_s: float = AFTER_S) -> Iterator[None]:
    """Print one line if what is asked of a store takes long.

    Args:
        location: that is read.
        patience_s: after which the client gives up, about.
        after_s: of silence before the line.
    """
    ends = time.strftime("%H:%M:%S", time.localtime(time.time() + patience_s))
    silent = f"no answer from the store for {after_s:g} s; it is asked again until about {ends}"
    said = f"note: {location}: {silent}"
    timer = threading.Timer(after_s, print, (said,), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
