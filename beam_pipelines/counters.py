"""How far work items are: workers leave a number each where a launcher on the same machine sees it.

The number is the size of an empty file: it is changed at once, and costs no block of the disk.
"""

from __future__ import annotations

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
    with counter.open("ab", buffering=0) as file:
        file.truncate(done)


def total(folder: str) -> int:
    """Return how many images all work items have done so far."""
    return sum(counter.stat().st_size for counter in Path(folder).glob(f"*{_SUFFIX}"))
