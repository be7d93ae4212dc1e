"""Ranges of objects in pieces as they arrive, by one asynchronous client for each bucket.

`s3://` is read by obstore with the credentials, region and endpoint that boto3 finds by the AWS conventions;
`gs://`, and what obstore can't read, by `records.storage`, a range at once. Retries, and what is done with
the bytes, are `fetch`'s business.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import datetime
import functools
import os
import re
import ssl
import threading
import urllib.parse
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from records import s3_objects, storage
from records.errors import StorageError

_Result = TypeVar("_Result")
_building = threading.Lock()

_PIECE_BYTES = 512 << 10
_CONNECT_TIMEOUT_S = 10
# A whole range on the slowest line; a line that is dead is told by the time without a byte.
_RANGE_TIMEOUT_S = 900
# Asked for anew after this time; boto3 itself renews those that expire before.
_CREDENTIALS_S = 300
_BEYOND_THE_END = "status code: 416"
_AMAZON = (".amazonaws.com", ".amazonaws.com.cn")


async def pieces(
    location: str, start: int, end: int, stall_s: float, within_s: float
) -> AsyncGenerator[tuple[int | None, Any], None]:
    """Yield the bytes of an object from `start` to before `end`, in order.

    Args:
        location: of the object.
        start: first byte.
        end: byte behind the last one; an object that ends before it yields fewer.
        stall_s: seconds without a byte after which the read fails.
        within_s: seconds after which the first bytes must be there, whoever reads them.

    Yields:
        The size of the whole object, None where it wasn't told, and the next bytes.

    Raises:
        FileNotFoundError: there is no such object or bucket.
        StorageError: the store refuses, and asking again wouldn't help.
        Exception: whatever else the client raises; `cause` says it in words.
    """
    # The clients below have patience and retries of their own, which nobody sees or ends.
    store = await _in_thread(within_s, _store_of, location, stall_s)
    if store is None:
        yield await _in_thread(within_s, _read_by_storage, location, start, end)
        return
    import obstore

    key = location.removeprefix("s3://").partition("/")[2]
    with _refusals(location):
        try:
            response = await obstore.get_async(store, key, options={"range": (start, end)})
        except obstore.exceptions.GenericError as error:
            if _BEYOND_THE_END not in str(error):
                raise
            yield (await obstore.head_async(store, key))["size"], b""
            return
        size_bytes = response.meta["size"]
        async for piece in response.stream(min_chunk_size=_PIECE_BYTES):
            yield size_bytes, piece


def cause(error: BaseException) -> str:
    """Say in one line why a read failed, without the client's own view of its innards."""
    text = str(error)
    if code := re.search(r"<Code>(.*?)</Code>", text):
        message = re.search(r"<Message>(.*?)</Message>", text)
        return f"the store answered `{code[1]}`" + (f": {message[1]}" if message else "")
    if status := re.search(r"non-2xx status code: (\d+ [\w ]*\w)", text):
        return f"the store answered `{status[1]}`"
    if "kind: Timeout" in text or isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    if "kind: Connect" in text:
        return "no connection to the store"
    if "IncompleteBody" in text:
        return "the connection broke off"
    return text.partition("\n")[0] or type(error).__name__


@contextlib.contextmanager
def _refusals(location: str) -> Iterator[None]:
    from obstore import exceptions

    final = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, exceptions.InvalidPathError)
    try:
        yield
    except final as error:
        raise StorageError(f"{location}: can't be read: {cause(error)}") from error


async def _in_thread(within_s: float, function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Run a blocking call in a thread of its own, which no end of the process waits for.

    Raises:
        asyncio.TimeoutError: it didn't return in time; the thread goes on.
    """
    loop, outcome = asyncio.get_running_loop(), concurrent.futures.Future[_Result]()

    def run() -> None:
        try:
            outcome.set_result(function(*arguments))
        except BaseException as error:
            outcome.set_exception(error)

    outcome.set_running_or_notify_cancel()  # who stops waiting doesn't stop the call
    threading.Thread(target=run, name="fetch-call", daemon=True).start()
    future = asyncio.wrap_future(outcome, loop=loop)
    try:
        # `wait_for` would lose a cancellation that comes together with the outcome, before Python 3.12.
        done, _ = await asyncio.wait({future}, timeout=within_s)
    finally:
        if not future.done():
            future.cancel()
    if not done:
        raise asyncio.TimeoutError
    return future.result()


def _read_by_storage(location: str, start: int, end: int) -> tuple[int | None, bytes]:
    """Return what `pieces` yields, at once; the object's size is asked for with its first bytes."""
    size_bytes = None if start else storage.size(location)
    try:
        return size_bytes, storage.read_range(location, start, end - start)
    except StorageError:
        size_bytes = storage.size(location)
        if size_bytes >= end:
            raise
        return size_bytes, b""


def _store_of(location: str, stall_s: float) -> Any | None:
    """Return obstore's view of an object's bucket; None: obstore can't read it, as it takes `//` for `/`."""
    with _building:  # credentials and region are looked for once, not by all ranges that come first
        if not location.startswith("s3://") or "//" in location[5:] or _has_own_authority(os.getpid()):
            return None
        return _store(os.getpid(), location[5:].partition("/")[0], stall_s)


@functools.cache
def _has_own_authority(process_id: int) -> bool:  # noqa: ARG001 - not a forked parent's environment
    """Tell whether boto3 is to trust certificates (`AWS_CA_BUNDLE`) that obstore can't be told of."""
    import botocore.session

    bundle = botocore.session.get_session().get_config_variable("ca_bundle")
    if not bundle or s3_objects.client().meta.endpoint_url.startswith("http://"):
        return False
    # What obstore trusts anyway.
    usual = (os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().openssl_cafile)
    return Path(bundle).resolve() not in [Path(path).resolve() for path in usual if path]


@functools.cache
def _store(process_id: int, bucket: str, stall_s: float) -> Any:  # noqa: ARG001 - not a forked parent's
    from obstore.store import S3Store

    endpoint, region, path_style = _place(bucket)
    return S3Store(
        bucket,
        aws_endpoint_url_s3=endpoint,  # the key that no variable of the environment overrides
        region=region,
        virtual_hosted_style_request=not path_style,
        credential_provider=_credentials(bucket),
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": f"{_CONNECT_TIMEOUT_S}s",
            "read_timeout": f"{stall_s}s",
            "timeout": f"{_RANGE_TIMEOUT_S}s",
        },
        # `fetch` asks again by itself, from the byte on that it has come to.
        retry_config={"max_retries": 0, "retry_timeout": datetime.timedelta(seconds=1)},
    )


def _place(bucket: str) -> tuple[str, str, bool]:
    """Return a bucket's endpoint and region, and whether the bucket stands in the path of its addresses."""
    client = s3_objects.client()
    endpoint, region = client.meta.endpoint_url, client.meta.region_name
    if (urllib.parse.urlsplit(endpoint).hostname or "").endswith(_AMAZON):
        endpoint, region = _amazon_place(client, bucket)
    style = (client.meta.config.s3 or {}).get("addressing_style")
    if style != "virtual":
        return endpoint, region, True
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{bucket}.{host}", region, False


def _amazon_place(client: Any, bucket: str) -> tuple[str, str]:
    """Return endpoint and region of a bucket that may lie in another region than the configured one."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = client.head_bucket(Bucket=bucket)
    except ClientError as error:
        answer = error.response  # that names the region even where it refuses
    except BotoCoreError as error:
        raise StorageError(f"s3://{bucket}: the store can't be used: {error}") from error
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or client.meta.region_name
    if region == client.meta.region_name:
        return client.meta.endpoint_url, region
    return boto3.client("s3", region_name=region).meta.endpoint_url, region


def _credentials(bucket: str) -> Any:
    """Return a function that gives obstore the credentials that boto3 finds, renewed when they expire."""
    import boto3

    found = boto3.Session().get_credentials()
    if found is None:
        raise StorageError(f"s3://{bucket}: no credentials; set them by the AWS conventions, as AWS_PROFILE")

    def current() -> dict[str, Any]:
        frozen = found.get_frozen_credentials()
        lifetime = datetime.timedelta(seconds=_CREDENTIALS_S)
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.datetime.now(datetime.timezone.utc) + lifetime,
        }

    return current
