"""What the trainings of this machine need of a cache folder at a time: one too many is refused at once.

Each training says so by an empty file in the folder whose name holds the figures and whose `flock` it keeps:
what a killed process left is known by its free lock. Trainings on the same data set share its copies, so
together they need no more than all of its shards. Copies and their room are `cache_folder`'s business.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"\.training-(\d+)-\d+-([0-9a-f]{8})-(\d+)-(\d+)-(\d+)")
_numbers = itertools.count()


@dataclass(frozen=True)
class Need:
    """What one training needs.

    Attributes:
        data_set: eight hexadecimal digits, the same for the same training shards.
        all_bytes: of these shards.
        block_bytes: for the blocks that are held at a time.
        passing_bytes: for passes over other splits meanwhile.
    """

    data_set: str
    all_bytes: int
    block_bytes: int
    passing_bytes: int


def together_bytes(needs: Iterable[Need]) -> int:
    """Return the room that trainings need at the same time."""
    blocks: dict[str, int] = {}
    passing_bytes = 0
    for need in needs:
        known_bytes = blocks.get(need.data_set, 0)
        blocks[need.data_set] = min(known_bytes + need.block_bytes, need.all_bytes)
        passing_bytes += need.passing_bytes
    return sum(blocks.values()) + passing_bytes


@contextlib.contextmanager
def told(folder: Path, need: Need) -> Iterator[None]:
    """Have other processes know of a need inside the block."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = f"{need.data_set}-{need.all_bytes}-{need.block_bytes}-{need.passing_bytes}"
    path = folder / f".training-{os.getpid()}-{next(_numbers)}-{figures}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def of_others(folder: Path) -> list[Need]:
    """Return what other processes need; remove what killed ones have left."""
    needs = []
    for path in folder.glob(".training-*"):
        found = _NAME.fullmatch(path.name)
        if found and int(found[1]) != os.getpid() and _is_kept(path):
            needs.append(Need(found[2], *(int(figure) for figure in found.groups()[2:])))
    return needs


def _is_kept(path: Path) -> bool:
    """Tell whether a living process holds a file's lock; remove the file if none does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)
