"""Objects in S3 and in any store that speaks its protocol, by boto3; `storage` is what others use.

Credentials, region and endpoint follow the AWS conventions (`AWS_ENDPOINT_URL_S3`, `AWS_PROFILE`, ...). An
object or bucket that isn't there is a FileNotFoundError, any other fault a StorageError of one line. boto3 is
imported when the first location is met.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from typing import IO, Any
from urllib.parse import urlsplit

from records.errors import StorageError

SCHEME = "s3"
_BODY_ATTEMPTS = 4
_ATTEMPTS = 8
_CONNECT_TIMEOUT_S = 10
# For about how long a store that is silent is asked again, with the pauses between.
PATIENCE_S = _ATTEMPTS * _CONNECT_TIMEOUT_S + 15.0


def size(location: str) -> int:
    """Return the size of an object in bytes."""
    return int(_head(location)["ContentLength"])


def version(location: str) -> str:
    """Return what changes when an object's bytes do: its ETag."""
    return str(_head(location)["ETag"]).strip('"')


def read(location: str, span: tuple[int, int] | None = None) -> bytes:
    """Return an object's bytes; a body that breaks off is asked for again, which boto3 itself doesn't do.

    Args:
        location: of the object.
        span: its first byte and how many, at least 1; None: all.
    """
    from botocore.exceptions import HTTPClientError, IncompleteReadError, ResponseStreamingError

    bucket, key = _split(location)
    asked = {"Range": f"bytes={span[0]}-{sum(span) - 1}"} if span else {}
    attempt = 1
    with _errors(location):
        while True:
            try:
                return client().get_object(Bucket=bucket, Key=key, **asked)["Body"].read()
            except (IncompleteReadError, ResponseStreamingError, HTTPClientError):
                if attempt == _BODY_ATTEMPTS:
                    raise
            time.sleep(0.2 * 2**attempt)
            attempt += 1


def copy_into(file: IO[bytes], location: str) -> None:
    """Write a whole object into a file."""
    bucket, key = _split(location)
    with _errors(location):
        client().download_fileobj(bucket, key, file)


def list_objects(prefix: str) -> list[tuple[str, int, str]]:
    """Return location, bytes and ETag of every object below a prefix; the markers of folders are left out."""
    bucket, key = _split(prefix)
    if key and not key.endswith("/"):
        key += "/"
    with _errors(prefix):
        pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        return [
            (f"s3://{bucket}/{entry['Key']}", entry["Size"], str(entry.get("ETag", "")))
            for page in pages
            for entry in page.get("Contents", ())
            if not entry["Key"].endswith("/")
        ]


def upload(path: str, location: str, part_bytes: int) -> None:
    """Send a local file, a large one in parts; the object appears whole or not at all."""
    from boto3.s3.transfer import TransferConfig

    bucket, key = _split(location)
    with _errors(location):
        client().upload_file(path, bucket, key, Config=TransferConfig(multipart_chunksize=part_bytes))


def delete(location: str) -> None:
    """Remove an object if it is there."""
    bucket, key = _split(location)
    with _errors(location):
        client().delete_object(Bucket=bucket, Key=key)


def client() -> Any:
    """Return this process's client; threads share it."""
    return _client(os.getpid())


@functools.cache
def _client(process_id: int) -> Any:  # noqa: ARG001 - a forked child must not share its parent's connections
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "max_attempts": _ATTEMPTS},
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=60,
        max_pool_connections=32,
    )
    try:
        made = boto3.client("s3", config=config)
        _check_endpoint(made.meta.endpoint_url)
    except ValueError as error:  # of an endpoint without its scheme, or with something else for a port
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        # The error itself quotes the endpoint, with any password in it.
        shown = endpoint.rpartition("@")[2]
        raise StorageError(
            f"s3: the endpoint is `{shown}`; expected http://host:port or https://host"
        ) from error
    return made


def _check_endpoint(url: str) -> None:
    """Raise a ValueError for what obstore would panic over."""
    parts = urlsplit(url)
    if not parts.hostname or parts.port == 0:
        raise ValueError("no host, or no port")


def _head(location: str) -> dict[str, Any]:
    bucket, key = _split(location)
    try:
        with _errors(location):
            return dict(client().head_object(Bucket=bucket, Key=key))
    except FileNotFoundError:
        # Asked for its head, a store doesn't say which of the two is missing.
        _check_bucket(os.getpid(), bucket)
        raise


@functools.cache
def _check_bucket(process_id: int, bucket: str) -> None:  # noqa: ARG001 - as the client
    """Raise a StorageError if the store says that there is no such bucket; it may refuse to say so."""
    from botocore.exceptions import ClientError

    try:
        with _errors(f"s3://{bucket}"):
            client().head_bucket(Bucket=bucket)
    except FileNotFoundError:
        raise StorageError(
            f"s3://{bucket}: the store has no such bucket; check its name and AWS_ENDPOINT_URL_S3"
        ) from None
    except StorageError as error:
        if not isinstance(error.__cause__, ClientError):
            raise


def _split(location: str) -> tuple[str, str]:
    bucket, _, key = location.removeprefix(f"{SCHEME}://").partition("/")
    if not bucket:
        raise StorageError(f"{location}: no bucket; expected s3://bucket/key")
    return bucket, key


@contextlib.contextmanager
def _errors(location: str) -> Iterator[None]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in {"404", "NoSuchKey", "NotFound"}:
            raise FileNotFoundError(2, "no such object", location) from error
        hint = "; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_PROFILE" if code == "403" else ""
        raise StorageError(f"{location}: the store answered `{code}`: {error}{hint}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise StorageError(f"{location}: the store can't be used: {error}") from error
