"""A remote data set's first shards as local files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.benchmark.local_view import local_view
from engine.input.reader import ShardReader
from engine.input.shard_cache import CacheSettings
from records import storage
from records.errors import ShardError


@pytest.fixture
def remote(s3: str, write_data_set):
    return write_data_set(f"{s3}/data")


def settings(folder: Path) -> CacheSettings:
    return CacheSettings(folder / "cache", 1 << 20)


def test_a_local_data_set_is_its_own_view(tmp_path: Path, data_set) -> None:
    assert local_view(data_set, "train", tmp_path / "view") is data_set


def test_a_view_has_the_records_of_the_store(tmp_path: Path, data_set, remote) -> None:
    view = local_view(remote, "train", tmp_path / "view", settings(tmp_path))
    assert not storage.is_remote(view.location)
    rows = np.arange(20)
    with ShardReader(view, "train") as reader, ShardReader(data_set, "train") as local:
        for viewed, stored in zip(reader.gather(rows), local.gather(rows), strict=True):
            np.testing.assert_array_equal(viewed, stored)


def test_a_view_ends_before_the_shard_that_is_too_much(tmp_path: Path, remote) -> None:
    shards = remote.splits["train"].shards
    room = shards[0].size_bytes + shards[1].size_bytes
    view = local_view(remote, "train", tmp_path / "two", settings(tmp_path), limit_bytes=room)
    assert view.splits["train"].shards == shards[:2]
    assert view.splits["train"].images == 14
    with ShardReader(view, "train") as reader:
        assert len(reader) == 14
    one = local_view(remote, "train", tmp_path / "one", settings(tmp_path), limit_bytes=1)
    assert one.splits["train"].shards == shards[:1]


def test_a_shard_that_is_not_the_manifests_is_an_error(tmp_path: Path, remote) -> None:
    location = remote.locate(remote.splits["train"].shards[1])
    data = storage.read_bytes(location)
    storage.write_bytes(location, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ShardError, match=r"train-00001-of-00003\.tfrecord: CRC32C"):
        local_view(remote, "train", tmp_path / "view", settings(tmp_path))
