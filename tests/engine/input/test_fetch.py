"""Objects fetched by parallel ranges, and what happens when the store stalls, breaks off or refuses."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import own_certificate
import pytest

from engine.input import fetch, object_ranges
from records import gcs_objects, manifest, s3_objects, storage
from records.errors import ShardError, StorageError

OBJECT_BYTES = 100_000
RANGE_BYTES = 7_000
SLOW_DOWN = (503, b"<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>")
DENIED = (403, b"<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>")


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "RANGE_BYTES", RANGE_BYTES)
    monkeypatch.setattr(object_ranges, "_PIECE_BYTES", 1_000)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[int]:
    """A descriptor of a file of the object's size."""
    descriptor = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    os.truncate(descriptor, OBJECT_BYTES)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def stored(s3: str, proxy) -> tuple[str, manifest.StoredFile, bytes]:
    """An object's location, the manifest's entry for it, and its bytes."""
    data = np.random.default_rng(1).integers(0, 256, OBJECT_BYTES, np.uint8).tobytes()
    location = f"{s3}/some folder/shard é+1.tfrecord"
    storage.write_bytes(location, data)
    return location, manifest.StoredFile("shard", len(data), manifest.crc32c(data)), data


@pytest.fixture
def google_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The bucket `nih` on a server in this process, as Google's client sees it."""
    for package in ("gcp_storage_emulator", "google.cloud.storage"):
        pytest.importorskip(package)
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    try:
        address = server._api._httpd.server_address
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://{}:{}".format(*address))
        # A read that nobody waits for any more would be tried again for a minute, beside other tests.
        monkeypatch.setattr(gcs_objects, "_RETRY_FOR_S", 1.0)
        gcs_objects._client.cache_clear()
        yield gcs_objects.client().create_bucket("nih", project="test")
        gcs_objects.client().close()
        gcs_objects._client.cache_clear()
    finally:
        server.stop()


def forget_clients() -> None:
    s3_objects._client.cache_clear()
    object_ranges._has_own_authority.cache_clear()


def content(descriptor: int) -> bytes:
    return os.pread(descriptor, OBJECT_BYTES + 1, 0)


def test_an_object_is_fetched_by_ranges_that_fill_the_file(impatient, proxy, stored, target) -> None:
    location, file, data = stored
    impatient.start(location, file, target).wait()
    assert content(target) == data
    asked = sorted((int(span.partition("=")[2].partition("-")[0]) for _, span in proxy.gets))
    assert asked == list(range(0, OBJECT_BYTES, RANGE_BYTES))


def test_all_transfers_share_one_pool_of_ranges(proxy, stored, tmp_path) -> None:
    location, file, data = stored
    proxy.delay_s = 0.02
    fetcher = fetch.Fetcher(in_flight=3)
    targets = [os.open(tmp_path / str(number), os.O_RDWR | os.O_CREAT) for number in range(3)]
    transfers = [fetcher.start(location, file, descriptor) for descriptor in targets]
    for transfer, descriptor in zip(transfers, targets, strict=True):
        transfer.wait()
        assert content(descriptor) == data
        os.close(descriptor)
    assert proxy.most_at_once == 3
    fetcher.close()


def test_an_answer_that_breaks_off_is_gone_on_from_where_it_broke(proxy, stored, target) -> None:
    location, file, data = stored
    proxy.break_after_bytes, proxy.breaks = 2_500, 4
    fetcher = fetch.Fetcher()  # a patient one: each request is counted
    fetcher.start(location, file, target).wait()
    fetcher.close()
    assert content(target) == data
    starts = [int(span.partition("=")[2].partition("-")[0]) for _, span in proxy.gets]
    assert len([start for start in starts if start % RANGE_BYTES]) == 4


def test_a_store_that_is_busy_is_asked_again(impatient, proxy, stored, target) -> None:
    location, file, data = stored
    proxy.refusal, proxy.refusals = SLOW_DOWN, 5
    impatient.start(location, file, target).wait()
    assert content(target) == data


def test_a_store_that_stays_busy_is_an_error_with_object_and_cause(impatient, proxy, stored, target) -> None:
    location, file, _ = stored
    proxy.refusal, proxy.refusals = SLOW_DOWN, 10_000
    with pytest.raises(StorageError) as error:
        impatient.start(location, file, target).wait()
    said = str(error.value)
    assert said.startswith(
        f"{location}: can't be fetched: the store answered `SlowDown`: Reduce your request rate; no byte "
    )
    assert "attempts" in said


def test_a_store_that_stalls_is_an_error_in_bounded_time(impatient, proxy, stored, target) -> None:
    location, file, _ = stored
    proxy.gate.clear()
    begun_s = time.monotonic()
    with pytest.raises(StorageError, match="can't be fetched: no answer in time; no byte from") as error:
        impatient.start(location, file, target).wait()
    assert str(error.value).startswith(location)
    assert time.monotonic() - begun_s < 30


def test_a_store_that_is_silent_is_told_of_once_and_again_after_bytes_came(
    proxy, stored, target, capsys
) -> None:
    location, file, data = stored
    fetcher = fetch.Fetcher(stall_s=0.4, note_after_s=0.2)
    proxy.gate.clear()
    transfer = fetcher.start(location, file, target)
    time.sleep(0.7)
    proxy.gate.set()
    transfer.wait()
    fetcher.close()
    assert content(target) == data
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        rf"note: {re.escape(location)}: nothing has come from the store for 0 s \(no answer yet\); "
        r"it is asked again until \d\d:\d\d:\d\d, for 90 s more",
        line,
    )


def test_a_store_that_answers_slowly_but_steadily_is_not_told_of(proxy, stored, target, capsys) -> None:
    location, file, _ = stored
    proxy.delay_s = 0.1
    fetcher = fetch.Fetcher(in_flight=1, note_after_s=0.8)
    fetcher.start(location, file, target).wait()
    time.sleep(0.9)  # nothing is under way, so nothing is missed
    fetcher.close()
    assert capsys.readouterr().err == ""


def test_a_read_by_another_client_that_stalls_is_given_up_in_time(target, monkeypatch) -> None:
    monkeypatch.setattr(storage, "size", lambda _: time.sleep(20))
    fetcher = fetch.Fetcher(deadline_s=0.5)
    file = manifest.StoredFile("shard", OBJECT_BYTES, "00000000")
    begun_s = time.monotonic()
    with pytest.raises(StorageError, match=r"^gs://nih/shard: can't be fetched: no answer in time; no byte"):
        fetcher.start("gs://nih/shard", file, target).wait()
    assert time.monotonic() - begun_s < 10
    fetcher.close()


def test_a_store_that_is_gone_is_an_error(impatient, stored, target, monkeypatch) -> None:
    location, file, _ = stored
    place = object_ranges._place
    monkeypatch.setattr(object_ranges, "_place", lambda bucket: ("http://127.0.0.1:9", *place(bucket)[1:]))
    with pytest.raises(StorageError, match="can't be fetched: no connection to the store; no byte from"):
        impatient.start(location, file, target).wait()


def test_a_refusal_is_an_error_at_once(impatient, proxy, stored, target) -> None:
    location, file, _ = stored
    proxy.refusal, proxy.refusals = DENIED, 10_000
    with pytest.raises(StorageError) as error:
        impatient.start(location, file, target).wait()
    assert str(error.value) == f"{location}: can't be read: the store answered `AccessDenied`: Access Denied."


def test_missing_credentials_are_an_error(impatient, stored, target, monkeypatch) -> None:
    location, file, _ = stored
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="no credentials; set them by the AWS conventions"):
        impatient.start(location, file, target).wait()


@pytest.mark.parametrize("size_bytes", [0, 10, OBJECT_BYTES - 1, OBJECT_BYTES + 1])
def test_an_object_of_another_size_is_refused(impatient, stored, target, size_bytes: int) -> None:
    location, file, data = stored
    storage.write_bytes(location, (data + b"?")[:size_bytes])
    with pytest.raises(ShardError) as error:
        impatient.start(location, file, target).wait()
    assert str(error.value).startswith(f"{location}: {size_bytes} bytes, the manifest says {OBJECT_BYTES}")


def test_a_missing_object_or_bucket_is_named(impatient, stored, target) -> None:
    location, file, _ = stored
    storage.delete(location)
    for missing in (location, f"{location.replace('cxr-test', 'cxr-none')}"):
        with pytest.raises(ShardError) as error:
            impatient.start(missing, file, target).wait()
        assert str(error.value).startswith(f"{missing}: missing, but the manifest names it")


def test_a_transfer_that_is_stopped_ends_at_once_and_writes_nothing_more(proxy, stored, target) -> None:
    location, file, _ = stored
    fetcher = fetch.Fetcher()
    proxy.gate.clear()
    transfer = fetcher.start(location, file, target)
    threading.Timer(0.2, transfer.stop).start()
    with pytest.raises(fetch.FetchStoppedError, match="the fetch was stopped"):
        transfer.wait()
    proxy.gate.set()
    before = content(target)
    time.sleep(0.2)
    assert content(target) == before
    transfer.stop()  # once more is allowed
    fetcher.close()


def test_closing_the_pool_ends_its_transfers(proxy, stored, target) -> None:
    location, file, _ = stored
    fetcher = fetch.Fetcher()
    proxy.gate.clear()
    transfer = fetcher.start(location, file, target)
    fetcher.close()
    with pytest.raises(fetch.FetchStoppedError):
        transfer.wait()
    fetcher.close()


def test_a_file_that_cannot_be_written_is_an_error(impatient, stored, tmp_path) -> None:
    location, file, _ = stored
    read_only = os.open(tmp_path / "read-only", os.O_RDONLY | os.O_CREAT)
    with pytest.raises(StorageError, match="its local copy can't be written: bad file descriptor"):
        impatient.start(location, file, read_only).wait()
    os.close(read_only)


def test_a_store_with_a_certificate_of_ones_own_is_read(
    impatient, proxy, stored, target, tmp_path, monkeypatch
) -> None:
    location, file, data = stored
    context, authority = own_certificate.make(tmp_path)
    proxy.socket = context.wrap_socket(proxy.socket, server_side=True)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url.replace("http:", "https:"))
    forget_clients()
    impatient.start(location, file, target).wait()
    assert content(target) == data
    forget_clients()


def test_objects_of_google_are_fetched_and_faults_are_named(impatient, target, google_bucket) -> None:
    data = np.random.default_rng(1).integers(0, 256, OBJECT_BYTES, np.uint8).tobytes()
    file = manifest.StoredFile("shard", len(data), manifest.crc32c(data))
    google_bucket.blob("set/shard").upload_from_string(data)
    google_bucket.blob("set/short").upload_from_string(data[:-1])
    impatient.start("gs://nih/set/shard", file, target).wait()
    assert content(target) == data
    with pytest.raises(ShardError, match=r"^gs://nih/set/none: missing, but the manifest names it"):
        impatient.start("gs://nih/set/none", file, target).wait()
    with pytest.raises(
        ShardError, match=rf"^gs://nih/set/short: {OBJECT_BYTES - 1} bytes, the manifest says"
    ):
        impatient.start("gs://nih/set/short", file, target).wait()


def test_a_bucket_in_another_region_of_amazon_is_asked_there(monkeypatch) -> None:
    from moto import mock_aws

    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3_objects._client.cache_clear()
    with mock_aws():
        s3_objects.client().create_bucket(
            Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "eu-west-3"}
        )
        endpoint, region, path_style = object_ranges._place("far-away")
    s3_objects._client.cache_clear()
    assert (endpoint, region, path_style) == ("https://s3.eu-west-3.amazonaws.com", "eu-west-3", True)
