"""The ceilings of this machine: what memory, disk and network give when nothing but bytes is moved.

All are told in images of the data set a second, so that they stand beside the stages that they bound. The
network's is `remote_stages`' to measure.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.benchmark.windows import Images, Rate, in_threads

MEMORY, DISK, NETWORK = "memory", "disk", "network"
# More than processors cache, so that batches come from memory as gathered ones do.
_SOURCE_BYTES = 256 << 20
_READ_BYTES = 8 << 20
_PROBES = 8


@dataclass(frozen=True, kw_only=True)
class Ceiling(Rate):
    """What moving bytes alone reaches.

    Attributes:
        bytes_per_s: the median rate in bytes.
        how: what was done, in a few words.
    """

    bytes_per_s: float | None = None
    how: str = ""


def memory_copies(batch: int, image_bytes: int, threads: int) -> Images:
    """Copy whole batches from memory into reused memory, as the best gather would."""
    batch_bytes = batch * image_bytes
    # Written to, or all would be one page of zeros.
    sources = [np.ones(batch_bytes, np.uint8) for _ in range(max(2, _SOURCE_BYTES // batch_bytes))]
    targets = [np.ones(batch_bytes, np.uint8) for _ in range(2 * threads)]

    def copy(number: int) -> float:
        np.copyto(targets[number % len(targets)], sources[number % len(sources)])
        return float(batch)

    yield from in_threads(copy, 0, threads)


def disk_reads(paths: Sequence[Path], records: Sequence[int], first: int, threads: int) -> Images:
    """Read whole shards from their disk, each from its start to its end and dropped from memory before.

    Args:
        paths: of shards, none of them mapped by this process.
        records: that each shard holds.
        first: the shard to begin with; the others follow in turn.
        threads: shards read at once.
    """

    def read(number: int) -> float:
        path = paths[number % len(paths)]
        drop_from_memory(path)
        _read_whole(path)
        return float(records[number % len(paths)])

    yield from in_threads(read, first, threads)


def drop_from_memory(path: Path) -> str:
    """Take a file out of the page cache; return why it isn't out for sure, nothing if it is."""
    if not hasattr(os, "posix_fadvise") or not hasattr(os, "RWF_NOWAIT"):
        return "this system can't take files out of memory"
    with path.open("rb") as file:
        # Pages that are yet to be written stay.
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            is_in_memory = _is_in_memory(file.fileno(), path.stat().st_size)
        except OSError:
            return "their file system doesn't tell what it keeps in memory"
    return "they stay in memory: some process maps them" if is_in_memory else ""


def _is_in_memory(descriptor: int, size_bytes: int) -> bool:
    page = bytearray(1)
    found = 0
    for probe in range(_PROBES):
        try:
            found += os.preadv(descriptor, [page], probe * size_bytes // _PROBES, os.RWF_NOWAIT)
        except BlockingIOError:  # it would have to be read
            continue
    return found > _PROBES // 2


def _read_whole(path: Path) -> None:
    buffer = memoryview(bytearray(_READ_BYTES))
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while file.readinto(buffer):
            pass
