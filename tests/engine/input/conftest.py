"""A remote data set behind a server that counts and spoils, and a pool of ranges that soon loses patience."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_proxy import StoreProxy

from engine.input import fetch
from records import manifest, s3_objects

STALL_S, DEADLINE_S = 0.4, 1.2


@pytest.fixture
def proxy(s3_server: dict[str, str], s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreProxy]:
    """A server between every client, also in child processes, and the bucket of `s3`."""
    server = StoreProxy(s3_server["AWS_ENDPOINT_URL_S3"])
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    s3_objects._client.cache_clear()
    yield server
    s3_objects._client.cache_clear()
    server.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[fetch.Fetcher]:
    """The process's pool of ranges, which gives up after a second without a byte."""
    fetcher = fetch.Fetcher(stall_s=STALL_S, deadline_s=DEADLINE_S)
    monkeypatch.setattr(fetch, "shared", lambda: fetcher)
    yield fetcher
    fetcher.close()


@pytest.fixture
def remote_set(
    proxy: StoreProxy, s3: str, write_data_set: Callable[..., manifest.Manifest]
) -> manifest.Manifest:
    """A data set in the bucket: 8 training shards of 6 records of about 8 kB, and 4 of 5 for validation."""
    data_set = write_data_set(
        f"{s3}/nih", sizes={"train": (6,) * 8, "validation": (5,) * 4, "test": (4,)}, side_px=32
    )
    proxy.gets.clear()
    return data_set


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cache folder that isn't there yet."""
    return tmp_path / "cache"
