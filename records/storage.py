"""One small interface over local paths, `s3://` objects and, for reading, `gs://` objects.

A location is a string: a path, `s3://bucket/key` or `gs://bucket/object`. How the stores are spoken to, and
by whose credentials, is the business of `s3_objects` and `gcs_objects`. Whatever is written appears whole or
not at all: a local file by rename, an object by the one request that completes it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, Any, NamedTuple

from records import gcs_objects, s3_objects, silence
from records.errors import StorageError
from records.ranged import RangedReader

# Objects are sent in parts of this size: large enough for few requests, small enough to stay in memory.
PART_BYTES = 16 << 20
# Of a local file that is not published yet; its name begins with a dot.
SCRATCH_SUFFIX = ".cxr-partial"


class Stored(NamedTuple):
    """One file or object, its size, and what changes when it is replaced, where the store says."""

    location: str
    size_bytes: int
    version: str = ""


def is_remote(location: str) -> bool:
    """Tell whether a location lies in a store and not in a folder; refuse schemes that are not served."""
    return _store(location) is not None


def is_s3(location: str) -> bool:
    """Tell whether a location that is written to lies in S3; refuse schemes that are not written to."""
    store = _store(location)
    if store is gcs_objects:
        raise StorageError(f"{location}: `gs://` is read, not written; use a local path or s3://bucket/key")
    return store is s3_objects


def join(base: str, *parts: str) -> str:
    """Put relative parts behind a base location with single slashes."""
    root = "" if base.startswith("/") else "."
    return "/".join([base.rstrip("/") or root, *parts])


def name(location: str) -> str:
    """Return the last part of a location."""
    return location.rstrip("/").rpartition("/")[2]


def parent(location: str) -> str:
    """Return the folder or prefix that a location stands in."""
    folder, separator, _ = location.rstrip("/").rpartition("/")
    return folder if separator else "."


def exists(location: str) -> bool:
    """Tell whether a file or object (not a folder) is there."""
    store = _store(location)
    try:
        with silence.told(location, store.PATIENCE_S) if store else contextlib.nullcontext():
            size(location)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StorageError(f"{location}: can't be read: {_reason(error)}") from error
    return is_remote(location) or Path(location).is_file()


def size(location: str) -> int:
    """Return the size of a file or object in bytes.

    Raises:
        FileNotFoundError: nothing is there.
        StorageError: the store refuses or can't be reached.
    """
    store = _store(location)
    return store.size(location) if store else Path(location).stat().st_size


def read_bytes(location: str) -> bytes:
    """Return a whole file or object.

    Raises:
        StorageError: it is missing or can't be read; the line says which and why.
    """
    try:
        if store := _store(location):
            with silence.told(location, store.PATIENCE_S):
                return store.read(location)
        # Without a buffer: 18 microseconds against 23 for an image that is in memory.
        with open(location, "rb", buffering=0) as file:  # noqa: PTH123
            return file.read()
    except OSError as error:
        raise StorageError(f"{location}: can't be read: {_reason(error)}") from error


def read_range(location: str, offset: int, size_bytes: int) -> bytes:
    """Return `size_bytes` of a file or object, from `offset` on.

    Raises:
        StorageError: it is missing, too short or can't be read; the line says which and why.
    """
    try:
        if store := _store(location):
            data = store.read(location, (offset, size_bytes)) if size_bytes else b""
        else:
            with Path(location).open("rb") as file:
                file.seek(offset)
                data = file.read(size_bytes)
    except OSError as error:
        raise StorageError(f"{location}: can't be read: {_reason(error)}") from error
    if len(data) != size_bytes:
        end = offset + len(data)
        raise StorageError(f"{location}: ends at byte {end:,}; expected {offset + size_bytes:,} at least")
    return data


def open_binary(location: str, buffer_bytes: int) -> IO[bytes]:
    """Open a file or object for reading at any place.

    Args:
        location: of the file or object.
        buffer_bytes: read at once, of an object by one request: large where it is read from end to end.

    Raises:
        StorageError: it is missing or can't be read; later reads may raise it, too.
    """
    try:
        if not is_remote(location):
            return Path(location).open("rb", buffering=buffer_bytes)
        reader = RangedReader(functools.partial(read_range, location), size(location))
        return io.BufferedReader(reader, buffer_bytes)
    except OSError as error:
        raise StorageError(f"{location}: can't be read: {_reason(error)}") from error


def version(location: str) -> str:
    """Return what changes when a file or object is replaced: a file's time in ns, an object's ETag, say.

    Raises:
        StorageError: it is missing or can't be read; the line says which and why.
    """
    try:
        store = _store(location)
        return store.version(location) if store else str(Path(location).stat().st_mtime_ns)
    except OSError as error:
        raise StorageError(f"{location}: can't be read: {_reason(error)}") from error


def write_bytes(location: str, data: bytes) -> None:
    """Write a whole file or object; it appears whole or not at all."""
    with atomic_writer(location) as file:
        file.write(data)


def make_folder(path: str) -> None:
    """Make a local folder and those above it.

    Raises:
        StorageError: it can't be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: can't be written: {_reason(error)}") from error


@contextlib.contextmanager
def atomic_writer(location: str) -> Iterator[IO[bytes]]:
    """Open a binary file for writing that is published under `location` when the block ends well.

    When the block raises, nothing is published and what stood at `location` stays.

    Raises:
        StorageError: the folder is not writable, the disk is full, or the store refuses.
    """
    remote = is_s3(location)
    try:
        folder = None if remote else Path(location).parent
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=folder, prefix=f".{name(location)}.", suffix=SCRATCH_SUFFIX, delete=False
        ) as file:
            try:
                yield file
                file.flush()
                s3_objects.upload(file.name, location, PART_BYTES) if remote else _publish(file, location)
            finally:
                Path(file.name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{location}: can't be written: {_reason(error)}") from error


def list_files(prefix: str) -> list[Stored]:
    """List every file below a folder, or every object below a prefix, sorted by location.

    Folders behind symbolic links are followed. Hidden and unpublished files (a leading dot) are left out.

    Raises:
        StorageError: the folder or bucket is not there.
    """
    if store := _store(prefix):
        found = _list_objects(store, prefix)
    elif Path(prefix).is_dir():
        found = [
            stored
            for folder, _, files in os.walk(prefix, followlinks=True, onerror=_raise_unreadable)
            for file in files
            if not file.startswith(".")  # an unpublished file may be gone before its size is asked for
            and (stored := _stored(os.path.join(folder, file)))  # noqa: PTH118
        ]
    else:
        raise StorageError(f"{prefix}: no such folder")
    return sorted(stored for stored in found if not name(stored.location).startswith("."))


def _stored(path: str) -> Stored | None:
    """Return a regular file with its size, None for a pipe or a device."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise StorageError(f"{path}: can't be read: {_reason(error)}") from error
    return Stored(path, status.st_size, str(status.st_mtime_ns)) if stat.S_ISREG(status.st_mode) else None


def _raise_unreadable(error: OSError) -> None:
    raise StorageError(f"{error.filename}: can't be read: {_reason(error)}") from error


def delete(location: str) -> None:
    """Remove a file or object if it is there."""
    if not is_s3(location):
        Path(location).unlink(missing_ok=True)
        return
    s3_objects.delete(location)


def fetch(location: str, path: Path) -> None:
    """Copy a file or object to a local path, atomically.

    Raises:
        StorageError: it is missing or can't be read, or the path can't be written; the line says which.
    """
    with atomic_writer(str(path)) as file:
        try:
            _copy_into(file, location)
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise StorageError(f"{location}: can't be read: {_reason(error)}") from error


def upload(path: Path, location: str) -> None:
    """Send a local file to an object, which appears whole or not at all.

    Raises:
        StorageError: it can't be read, or the store refuses.
    """
    if not is_s3(location):
        raise StorageError(f"{location}: no object; expected s3://bucket/key")
    try:
        s3_objects.upload(str(path), location, PART_BYTES)
    except OSError as error:
        raise StorageError(f"{location}: can't be written: {_reason(error)}") from error


def _copy_into(file: IO[bytes], location: str) -> None:
    if store := _store(location):
        store.copy_into(file, location)
    else:
        with Path(location).open("rb") as source:
            shutil.copyfileobj(source, file, PART_BYTES)


def _list_objects(store: ModuleType, prefix: str) -> list[Stored]:
    try:
        return [Stored(*found) for found in store.list_objects(prefix)]
    except FileNotFoundError as error:
        raise StorageError(f"{prefix}: can't be read: {_reason(error)}") from error


def _store(location: str) -> ModuleType | None:
    """Return the module that reads a location, None for a local path."""
    scheme, separator, _ = location.partition("://")
    if not separator:
        return None
    for store in (s3_objects, gcs_objects):
        if scheme == store.SCHEME:
            return store
    raise StorageError(
        f"{location}: `{scheme}://` is not served; use a local path, s3://bucket/key or gs://bucket/object"
    )


def _publish(file: Any, location: str) -> None:
    os.fsync(file.fileno())
    # A temporary file is private; a published one follows the umask like any other.
    umask = os.umask(0)
    os.umask(umask)
    Path(file.name).chmod(0o666 & ~umask)
    Path(file.name).replace(location)


def _reason(error: OSError) -> str:
    return (error.strerror or " ".join(str(error).split())).lower()
