"""Whether a local file is the one that the manifest names: its size, and its CRC32C once in a process."""

from __future__ import annotations

import threading
from pathlib import Path

import google_crc32c
import numpy as np

from records.errors import ShardError
from records.manifest import StoredFile

# Small enough that other threads get their turn: the checksum holds the interpreter's lock.
_PIECE_BYTES = 1 << 20

_checked: set[tuple[str, int, int, str]] = set()
_locks: dict[str, threading.Lock] = {}


def check(path: Path, file: StoredFile, fetched_from: str = "") -> None:
    """Read a local file whole and compare its size and CRC32C with the manifest's.

    Args:
        path: of the file.
        file: what the manifest says of it.
        fetched_from: the object that it was fetched from just now, which is at fault then.

    Raises:
        ShardError: they differ, or it can't be read.
    """
    try:
        size_bytes, crc32c = path.stat().st_size, _crc32c(path)
    except OSError as error:
        raise ShardError(f"{path}: can't be read: {(error.strerror or str(error)).lower()}") from error
    where = fetched_from or str(path)
    check_size(size_bytes, file, where)
    if crc32c != file.crc32c:
        raise ShardError(
            f"{where}: CRC32C {crc32c}, the manifest says {file.crc32c}; "
            "the file is damaged or stale: run the conversion again with --resume"
        )


def check_once(path: Path, file: StoredFile) -> None:
    """Do as `check`, unless this process has checked this very file before.

    Raises:
        ShardError: as in `check`.
    """
    with _locks.setdefault(str(path), threading.Lock()):
        marks = _marks(path, file)
        if marks not in _checked:
            check(path, file)
            _checked.add(marks)


def mark_checked(path: Path, file: StoredFile) -> None:
    """Note that a file was checked already, under another name."""
    _checked.add(_marks(path, file))


def check_size(size_bytes: int | None, file: StoredFile, where: str) -> None:
    """Compare a file's size with the manifest's.

    Raises:
        ShardError: they differ; `size_bytes` is None: there is no such file.
    """
    if size_bytes is None:
        raise ShardError(
            f"{where}: missing, but the manifest names it: run the conversion again with --resume"
        )
    if size_bytes != file.size_bytes:
        raise ShardError(
            f"{where}: {size_bytes} bytes, the manifest says {file.size_bytes}; "
            "the file is truncated or stale: run the conversion again with --resume"
        )


def _marks(path: Path, file: StoredFile) -> tuple[str, int, int, str]:
    stat = path.stat()
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns, file.crc32c


def _crc32c(path: Path) -> str:
    crc = 0
    # The library takes read-only memory, which a view of a reused buffer isn't unless it says so.
    buffer = np.empty(_PIECE_BYTES, np.uint8)
    frozen = buffer.view()
    frozen.setflags(write=False)
    with path.open("rb", buffering=0) as source:
        while count := source.readinto(buffer.data):
            crc = google_crc32c.extend(crc, frozen[:count])
    return f"{crc:08x}"
