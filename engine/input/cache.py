"""Local copies of a data set's files: tf.data and memory maps read local files only.

A file of a local data set is its own copy. A remote one is downloaded once, checked against the manifest and
then published in the cache folder, so a file in there is always whole. The name in the cache carries the
checksum: another version of a data set never meets an older one's files. Nothing is evicted; the folder may
be removed whenever no process reads from it.
"""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

import google_crc32c
import numpy as np

from records import storage
from records.errors import ShardError, StorageError
from records.manifest import Manifest, StoredFile

# Small enough that other threads get their turn: the checksum holds the interpreter's lock.
_CHECK_BYTES = 1 << 20

_checked: set[tuple[str, int, int, str]] = set()
_check_locks: dict[str, threading.Lock] = {}


def default_folder() -> Path:
    """Return `$XDG_CACHE_HOME/cxr-engine`, by default `~/.cache/cxr-engine`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cxr-engine"


def local_path(manifest: Manifest, file: StoredFile, cache_folder: str | Path | None = None) -> Path:
    """Return a local path of one of the data set's files; download it first if it is remote.

    Args:
        manifest: of the data set.
        file: one of its shards or indexes.
        cache_folder: where downloads are kept; None: `default_folder()`.

    Raises:
        ShardError: missing, or its size or (when it is downloaded) its CRC32C isn't the manifest's.
        StorageError: the store can't be reached, or the cache folder can't be written.
    """
    location = manifest.locate(file)
    if not storage.is_s3(location):
        path = Path(location)
        _check_size(path.stat().st_size if path.is_file() else None, file, location)
        return path
    folder = Path(cache_folder) if cache_folder else default_folder()
    path = folder / f"{file.crc32c}-{storage.name(file.path)}"
    if not (path.is_file() and path.stat().st_size == file.size_bytes):
        _download(location, file, path)
    return path


def check(path: Path, file: StoredFile) -> None:
    """Read a local file whole and compare its size and CRC32C with the manifest's.

    Raises:
        ShardError: they differ, or it can't be read.
    """
    try:
        size_bytes, crc32c = path.stat().st_size, _crc32c(path)
    except OSError as error:
        raise ShardError(f"{path}: can't be read: {(error.strerror or str(error)).lower()}") from error
    _check_size(size_bytes, file, str(path))
    if crc32c != file.crc32c:
        raise ShardError(
            f"{path}: CRC32C {crc32c}, the manifest says {file.crc32c}; the file is damaged or stale: "
            "run the conversion again with --resume, or remove it if it is a cached copy"
        )


def check_once(path: Path, file: StoredFile) -> None:
    """Do as `check`, unless this process has checked this very file before.

    Raises:
        ShardError: as in `check`.
    """
    with _check_locks.setdefault(str(path), threading.Lock()):
        stat = path.stat()
        marks = (str(path.resolve()), stat.st_size, stat.st_mtime_ns, file.crc32c)
        if marks not in _checked:
            check(path, file)
            _checked.add(marks)


def _download(location: str, file: StoredFile, path: Path) -> None:
    try:
        _check_size(storage.size(location), file, location)
    except FileNotFoundError:
        _check_size(None, file, location)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another process may download the same file: each has its own, and the last one published stays.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
            unchecked = Path(folder) / path.name
            storage.fetch(location, unchecked)
            check(unchecked, file)
            unchecked.replace(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageError(f"{path}: {location} can't be cached there: {reason}") from error


def _check_size(size_bytes: int | None, file: StoredFile, where: str) -> None:
    if size_bytes is None:
        raise ShardError(
            f"{where}: missing, but the manifest names it: run the conversion again with --resume"
        )
    if size_bytes != file.size_bytes:
        raise ShardError(
            f"{where}: {size_bytes} bytes, the manifest says {file.size_bytes}; "
            "the file is truncated or stale: run the conversion again with --resume"
        )


def _crc32c(path: Path) -> str:
    crc = 0
    # The library takes read-only memory, which a view of a reused buffer isn't unless it says so.
    buffer = np.empty(_CHECK_BYTES, np.uint8)
    frozen = buffer.view()
    frozen.setflags(write=False)
    with path.open("rb", buffering=0) as source:
        while count := source.readinto(buffer.data):
            crc = google_crc32c.extend(crc, frozen[:count])
    return f"{crc:08x}"
