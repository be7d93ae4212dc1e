"""How far work items are: workers leave a number each where a launcher on the same machine sees it."""

from __future__ import annotations

import os
from pathlib import Path

_SUFFIX = ".count"
# A number for each image would cost a file operation for each.
_EVERY = 32


def report(folder: str, item: str, done: int, total: int | None = None) -> None:
    """Leave the number of images of a work item that are done.

    Args:
        folder: of the counters; where it is empty or not on this machine nothing happens.
        item: a name for the work item.
        done: images so far.
        total: images in all, where it is known: the last number is always left.
    """
    if not folder or (done % _EVERY and done != total) or not Path(folder).is_dir():
        return
    counter = Path(folder, item.replace("/", "_") + _SUFFIX)
    # A torn read must not happen: a rename replaces the number at once.
    scratch = counter.with_suffix(f".{os.getpid()}.tmp")
    scratch.write_text(str(done))
    scratch.replace(counter)


def total(folder: str) -> int:
    """Return how many images all work items have done so far."""
    return sum(int(counter.read_text() or 0) for counter in Path(folder).glob(f"*{_SUFFIX}"))
