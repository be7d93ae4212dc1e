"""What is named on the command line -> the files and objects to read, in the order of their naming."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from engine.prediction.pictures import MAX_FILE_BYTES
from records import storage
from records.errors import CxrError, ImageError, StorageError


class Named(NamedTuple):
    """One file to read, or why there is none.

    Attributes:
        location: a path, `s3://bucket/key` or `gs://bucket/object`.
        size_bytes: where a listing told it.
        fault: why nothing can be read there, or empty.
    """

    location: str
    size_bytes: int | None = None
    fault: str = ""


def expand(images: Sequence[str]) -> list[Named]:
    """Put in place of each folder or prefix what lies below it, sorted; hidden files are left out.

    Args:
        images: files, folders, objects or prefixes. A file's name doesn't matter, so each file counts.
    """
    return [named for location in images for named in _expand(location)]


def read(named: Named) -> bytes:
    """Return the bytes of one file.

    Raises:
        CxrError: it can't be read, or is too large for an image.
        OSError: it isn't there.
    """
    if named.fault:
        raise StorageError(named.fault)
    size_bytes = storage.size(named.location) if named.size_bytes is None else named.size_bytes
    if size_bytes > MAX_FILE_BYTES:
        raise ImageError(f"{size_bytes:,} bytes; expected an image of at most {MAX_FILE_BYTES:,}")
    return storage.read_bytes(named.location)


def reason(location: str, error: CxrError | OSError) -> str:
    """Say in one line why a location can't be read, without naming it again."""
    if isinstance(error, CxrError):
        return str(error).removeprefix(f"{CxrError(location)}: ")
    return f"can't be read: {error.strerror or type(error).__name__}"


def _expand(location: str) -> list[Named]:
    try:
        if storage.exists(location):
            return [Named(location)]
        if not storage.is_remote(location) and not Path(location).is_dir():
            return [Named(location, fault="no such file or folder")]
        found = storage.list_files(location)
    except CxrError as error:
        return [Named(location, fault=reason(location, error))]
    return [Named(file.location, file.size_bytes) for file in found] or [
        Named(location, fault="no file below it")
    ]
