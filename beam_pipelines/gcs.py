"""Reads `gs://bucket/object` through Beam's client of Google Cloud Storage.

Its functions are those of `records.storage` that read. Credentials are Google's usual ones (Application
Default Credentials); without any, public buckets can be read. `STORAGE_EMULATOR_HOST` names another server.
Beam is imported when the first location is met, since that takes seconds.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import IO, Any

from records import storage
from records.errors import StorageError

_SCHEME = "gs://"


def is_gs(location: str) -> bool:
    """Tell whether a location lies in Google Cloud Storage."""
    return location.startswith(_SCHEME)


def exists(location: str) -> bool:
    """Tell whether an object is there."""
    with _gcs_errors(location):
        return bool(_gcsio().exists(location))


def list_files(prefix: str) -> list[storage.Stored]:
    """List every object below a prefix, sorted by location; hidden ones (a leading dot) are left out.

    Raises:
        StorageError: the bucket is not there, or refuses.
    """
    with _gcs_errors(prefix):
        return sorted(
            storage.Stored(location, size_bytes)
            for location, size_bytes in _gcsio().list_files(prefix.rstrip("/") + "/")
            if not location.endswith("/") and not storage.name(location).startswith(".")
        )


def read_bytes(location: str) -> bytes:
    """Return a whole object.

    Raises:
        StorageError: it is missing or can't be read; the line says which and why.
    """
    with _gcs_errors(location), _gcsio().open(location, "rb") as file:
        return bytes(file.read())


def read_range(location: str, offset: int, size_bytes: int) -> bytes:
    """Return `size_bytes` of an object, from `offset` on.

    Raises:
        StorageError: it is missing, too short or can't be read; the line says which and why.
    """
    with open_binary(location, buffer_bytes=1) as file, _gcs_errors(location):
        file.seek(offset)
        data = file.read(size_bytes)
    if len(data) != size_bytes:
        end = offset + len(data)
        raise StorageError(f"{location}: ends at byte {end:,}; expected {offset + size_bytes:,} at least")
    return data


def open_binary(location: str, buffer_bytes: int) -> IO[bytes]:
    """Open an object for reading at any place.

    Args:
        location: of the object.
        buffer_bytes: read by one request: large where it is read from end to end.

    Raises:
        StorageError: it is missing or can't be read.
    """
    with _gcs_errors(location):
        return _gcsio().open(location, "rb", read_buffer_size=buffer_bytes)


def version(location: str) -> str:
    """Return what changes when an object's bytes do: its CRC32C.

    Raises:
        StorageError: it is missing or can't be read; the line says which and why.
    """
    with _gcs_errors(location):
        return str(_gcsio().checksum(location))


@functools.cache
def _client(process_id: int) -> Any:  # noqa: ARG001 - a forked child must not share its parent's connections
    # Kept: `FileSystems.open` would make a client, and with it a new connection, for each image.
    from apache_beam.io.filesystems import FileSystems

    try:
        options = FileSystems.get_filesystem(_SCHEME)._pipeline_options
    except ValueError as error:
        raise StorageError(
            "gs:// needs Google's client; install it by: pip install 'cxr-engine[gcp]'"
        ) from error
    from apache_beam.io.gcp.gcsio import GcsIO, create_storage_client

    if _has_credentials():
        return GcsIO(pipeline_options=options)
    # Said outright, since Beam would look for them again and again, for half a minute.
    return GcsIO(create_storage_client(options, use_credentials=False), pipeline_options=options)


def _has_credentials() -> bool:
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    try:
        google.auth.default()
    except DefaultCredentialsError:
        return False
    return True


def _gcsio() -> Any:
    return _client(os.getpid())


@contextlib.contextmanager
def _gcs_errors(location: str) -> Iterator[None]:
    """Turn what Google's client raises into a line; a missing object has FileNotFoundError as its cause."""
    _gcsio()  # so that a client that isn't installed is told first
    from google.api_core.exceptions import GoogleAPIError, NotFound
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    try:
        yield
    except NotFound:
        missing = FileNotFoundError(2, "no such object or bucket", location)
        raise StorageError(f"{location}: can't be read: {missing.strerror}") from missing
    except (GoogleAPIError, GoogleAuthError, RequestException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise StorageError(f"{location}: the store can't be used: {reason}") from error
