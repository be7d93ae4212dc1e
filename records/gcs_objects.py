"""Objects in Google Cloud Storage, for reading, by Google's own client; `storage` is what others use.

Credentials are Google's usual ones (Application Default Credentials); without any, public buckets can be
read. `STORAGE_EMULATOR_HOST` names another server. An object or bucket that isn't there is a
FileNotFoundError, any other fault a StorageError of one line. The client, an extra of this package, is
imported when the first location is met.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import IO, Any

from records.errors import StorageError

SCHEME = "gs"
# As many ranges as are read at once; a request beyond that would pay for a connection of its own.
_CONNECTIONS = 32
# Seconds to connect, and to wait for the next bytes; what fails for a passing reason is asked for again.
_TIMEOUT_S = (10.0, 60.0)
_RETRY_FOR_S = 60.0
# For about how long a store that is silent is asked again.
PATIENCE_S = _RETRY_FOR_S


def size(location: str) -> int:
    """Return the size of an object in bytes."""
    return int(_known(location).size)


def version(location: str) -> str:
    """Return what changes when an object is replaced: its generation."""
    return str(_known(location).generation)


def read(location: str, span: tuple[int, int] | None = None) -> bytes:
    """Return an object's bytes as they are stored; a body that breaks off is asked for again.

    Args:
        location: of the object.
        span: its first byte and how many, at least 1; None: all, held against the store's checksum.
    """
    start, end = (span[0], sum(span) - 1) if span else (None, None)
    with _errors(location):
        return bytes(
            _object(location).download_as_bytes(
                start=start, end=end, raw_download=True, single_shot_download=True, **_patience()
            )
        )


def copy_into(file: IO[bytes], location: str) -> None:
    """Write a whole object into a file; it is held against the store's checksum."""
    with _errors(location):
        _object(location).download_to_file(file, raw_download=True, **_patience())


def list_objects(prefix: str) -> list[tuple[str, int, str]]:
    """Return location, bytes and generation of every object below a prefix; no markers of folders."""
    bucket, key = _split(prefix)
    if key and not key.endswith("/"):
        key += "/"
    with _errors(prefix):
        return [
            (f"gs://{bucket}/{found.name}", int(found.size), str(found.generation))
            for found in client().list_blobs(bucket, prefix=key or None, **_patience())
            if not found.name.endswith("/")
        ]


def client() -> Any:
    """Return this process's client; threads share it.

    Raises:
        StorageError: Google's client is not installed, or its credentials can't be used.
    """
    return _client(os.getpid())


@functools.cache
def _client(process_id: int) -> Any:  # noqa: ARG001 - a forked child must not share its parent's connections
    try:
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import AuthorizedSession
        from google.cloud import storage
        from requests.adapters import HTTPAdapter
    except ImportError as error:
        raise StorageError(
            "gs:// needs Google's client; install it by: pip install 'cxr-engine[gcs]'"
        ) from error
    try:
        credentials = _credentials()
    except GoogleAuthError as error:
        raise StorageError(f"gs://: the credentials can't be used: {error}") from error
    session = AuthorizedSession(credentials)
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_connections=2, pool_maxsize=_CONNECTIONS, pool_block=True))
    return storage.Client(project=None, credentials=credentials, _http=session)


def _credentials() -> Any:
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import DefaultCredentialsError

    if os.environ.get("STORAGE_EMULATOR_HOST"):
        return AnonymousCredentials()
    try:
        return google.auth.default(scopes=["https://www.googleapis.com/auth/devstorage.read_only"])[0]
    except DefaultCredentialsError:
        # Named but unusable ones are an error; without any there are public buckets.
        if os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
            raise
        return AnonymousCredentials()


def _patience() -> dict[str, Any]:
    from google.cloud.storage.retry import DEFAULT_RETRY

    return {"timeout": _TIMEOUT_S, "retry": DEFAULT_RETRY.with_timeout(_RETRY_FOR_S)}


def _object(location: str) -> Any:
    bucket, key = _split(location)
    return client().bucket(bucket).blob(key)


def _known(location: str) -> Any:
    """Return an object with what the store says of it."""
    found = _object(location)
    with _errors(location):
        found.reload(**_patience())
    return found


def _split(location: str) -> tuple[str, str]:
    bucket, _, key = location.removeprefix(f"{SCHEME}://").partition("/")
    if not bucket:
        raise StorageError(f"{location}: no bucket; expected gs://bucket/object")
    return bucket, key


@contextlib.contextmanager
def _errors(location: str) -> Iterator[None]:
    client()  # so that a client that isn't installed is told first
    from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError, NotFound
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except NotFound as error:
        raise FileNotFoundError(2, "no such object or bucket", location) from error
    except GoogleAPICallError as error:
        raise StorageError(f"{location}: the store answered `{error.code}`: {error.message}") from error
    except (
        GoogleAPIError,
        GoogleAuthError,
        InvalidResponse,
        DataCorruption,
        RequestException,
        HTTPError,
    ) as error:
        raise StorageError(f"{location}: the store can't be used: {error}") from error
