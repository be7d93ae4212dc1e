"""Paths of a data set's files: a local one's own files, and copies of a remote one's."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.input import cache
from engine.input.shard_cache import CacheFullError, CacheSettings
from records import storage
from records.errors import ShardError, StorageError


@pytest.fixture
def settings(tmp_path: Path) -> CacheSettings:
    """A cache for all shards of the data sets below."""
    return CacheSettings(tmp_path / "cache", 1 << 20)


def test_a_local_file_is_its_own_copy(data_set, settings) -> None:
    shard = data_set.splits["train"].shards[1]
    assert cache.local_path(data_set, shard, settings) == Path(data_set.locate(shard))
    with cache.held_path(data_set, shard, settings) as path:
        assert path == Path(data_set.locate(shard))
    path.unlink()
    with pytest.raises(ShardError, match="missing, but the manifest names it"):
        cache.local_path(data_set, shard, settings)
    assert not settings.folder.exists()


def test_a_copy_that_was_asked_for_stays_while_the_process_lives(s3, write_data_set, tmp_path) -> None:
    data_set = write_data_set(s3)
    first, second, third = data_set.splits["train"].shards
    settings = CacheSettings(tmp_path / "cache", first.size_bytes + second.size_bytes)
    path = cache.local_path(data_set, first, settings)
    assert path.read_bytes() == storage.read_bytes(data_set.locate(first))
    assert cache.local_path(data_set, first, settings) == path
    for shard in (second, third):
        with cache.held_path(data_set, shard, settings) as held:
            assert held.read_bytes() == storage.read_bytes(data_set.locate(shard))
    assert path.exists()
    assert not cache.ShardCache(settings).folder.copy_path(second).exists(), "nobody had it in use"


def test_copies_that_are_all_kept_must_fit(s3, write_data_set, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("engine.input.shard_cache.WAIT_S", 0.1)
    data_set = write_data_set(s3)
    first, second, _ = data_set.splits["train"].shards
    settings = CacheSettings(tmp_path / "cache", first.size_bytes + 1)
    cache.local_path(data_set, first, settings)
    with pytest.raises(CacheFullError, match=r"raise input\.cache_bytes"):
        cache.local_path(data_set, second, settings)


def test_an_object_that_is_not_the_manifests_is_never_kept(s3, write_data_set, settings) -> None:
    data_set = write_data_set(s3)
    shard = data_set.splits["train"].shards[0]
    data = storage.read_bytes(data_set.locate(shard))
    storage.write_bytes(data_set.locate(shard), data[:-1] + b"?")
    with pytest.raises(ShardError, match=r"^s3://.*: CRC32C"):
        cache.local_path(data_set, shard, settings)
    storage.write_bytes(data_set.locate(shard), data[:-1])
    with pytest.raises(ShardError, match=rf"^s3://.*: {len(data) - 1} bytes, the manifest says {len(data)}"):
        cache.local_path(data_set, shard, settings)
    storage.delete(data_set.locate(shard))
    with pytest.raises(ShardError, match=r"^s3://.*: missing, but the manifest names it"):
        cache.local_path(data_set, shard, settings)
    assert [path.name for path in settings.folder.iterdir()] == [".lock"]


def test_a_cache_folder_that_cannot_be_made_is_named(s3, tmp_path, write_data_set) -> None:
    data_set = write_data_set(s3)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="can't be cached there: not a directory"):
        cache.local_path(
            data_set, data_set.splits["train"].shards[0], CacheSettings(tmp_path / "file", 1 << 20)
        )


def test_the_cache_folder_follows_the_users_setting(monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert cache.default_folder() == Path("/some/where/cxr-engine")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.default_folder() == Path.home() / ".cache" / "cxr-engine"
    assert cache.default_settings() == CacheSettings(cache.default_folder(), cache.DEFAULT_SIZE_BYTES)
