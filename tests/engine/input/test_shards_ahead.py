"""Shards that a pass over a remote split will need, fetched while it is busy with those before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from watching import bytes_in, wait_until

from engine.input import fetch, shards_ahead
from engine.input.order import Part
from engine.input.pipeline import evaluation_batches, padded_evaluation_batches
from engine.input.reader import ShardReader
from engine.input.shard_cache import CacheSettings, ShardCache
from records import manifest
from records.errors import StorageError

SHARDS, RECORDS_A_SHARD = 8, 6
NOTHING: dict[str, tuple[int, ...]] = {"validation": (), "test": ()}


@pytest.fixture
def open_reader(remote_set: manifest.Manifest, folder: Path) -> Iterator[Callable[[int], ShardReader]]:
    """A function that opens the training split through a cache of so many shards."""
    readers = []

    def open_one(cache_shards: int = SHARDS + 2) -> ShardReader:
        readers.append(
            ShardReader(remote_set, "train", cache_settings=settings(remote_set, folder, cache_shards))
        )
        return readers[-1]

    yield open_one
    for reader in readers:
        reader.close()


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process's pool of ranges asks for one after the other, so that the server sees their order."""
    fetcher = fetch.Fetcher(in_flight=1)
    monkeypatch.setattr(fetch, "shared", lambda: fetcher)
    yield
    fetcher.close()


def settings(data_set: manifest.Manifest, folder: Path, shards: int) -> CacheSettings:
    return CacheSettings(folder, shards * max(shard.size_bytes for shard in train(data_set)))


def train(data_set: manifest.Manifest) -> tuple[manifest.Shard, ...]:
    return data_set.splits["train"].shards


def rows_of(*shards: int) -> np.ndarray:
    return np.concatenate([np.arange(RECORDS_A_SHARD) + RECORDS_A_SHARD * shard for shard in shards])


def asked(proxy) -> list[int]:
    """Return the numbers of the shards that were asked for, in that order."""
    return [int(path.partition("train-")[2][:5]) for path, _ in proxy.gets if path.endswith(".tfrecord")]


@pytest.mark.parametrize("padded", [False, True])
def test_an_evaluation_asks_for_its_shards_in_order_while_it_is_busy(
    open_reader, proxy, one_at_a_time, padded: bool
) -> None:
    reader = open_reader()
    batches = (padded_evaluation_batches if padded else evaluation_batches)(
        reader, RECORDS_A_SHARD, prefetch=1
    )
    rest = iter(batches)
    next(rest)
    wait_until(lambda: len(asked(proxy)) == SHARDS)
    assert len(list(rest)) == SHARDS - 1
    assert len(list(batches)) == SHARDS
    assert asked(proxy) == list(range(SHARDS))


def test_no_more_shards_are_fetched_than_are_looked_ahead(open_reader, proxy, monkeypatch) -> None:
    monkeypatch.setattr(shards_ahead, "SHARDS_AHEAD", 2)
    reader = open_reader()
    order = [5, 1, 4, 0, 7]
    reader.fetch_ahead(rows_of(*order))
    for number, shard in enumerate(order):
        reader.gather(rows_of(shard))
        wait_until(lambda wanted=order[: number + 3]: sorted(asked(proxy)) == sorted(wanted))
        time.sleep(0.05)
    assert sorted(asked(proxy)) == sorted(order)


def test_a_part_of_an_evaluation_fetches_the_shards_of_its_own_records(open_reader, proxy) -> None:
    batches = padded_evaluation_batches(open_reader(), 2 * RECORDS_A_SHARD, Part(1, 2))
    assert len(list(batches)) == SHARDS // 2
    assert sorted(asked(proxy)) == [1, 3, 5, 7]


def test_a_shard_that_came_ahead_is_there_for_other_processes(open_reader, remote_set, folder) -> None:
    reader = open_reader()
    reader.fetch_ahead(rows_of(*range(4)))
    copy = ShardCache(settings(remote_set, folder, 1)).folder.copy_path(train(remote_set)[3])
    wait_until(copy.exists)


@pytest.mark.parametrize("cache_shards", [2, 3, 5])
@pytest.mark.parametrize("threads", [1, 4])
def test_a_pass_through_a_small_cache_gives_each_record_once(
    open_reader, remote_set, folder, tmp_path, write_data_set, cache_shards: int, threads: int
) -> None:
    local_set = write_data_set(tmp_path / "local", sizes={**NOTHING, "train": (RECORDS_A_SHARD,) * SHARDS})
    reader, most = open_reader(cache_shards), 0
    with ShardReader(local_set, "train") as local:
        wanted = local.gather(np.arange(len(local)))[0]
    found = []
    for images, _ in evaluation_batches(reader, 10, threads=threads):
        found.append(images.numpy())
        most = max(most, bytes_in(folder))
    assert np.array_equal(np.concatenate(found), wanted)
    assert most <= settings(remote_set, folder, cache_shards).size_bytes


def test_a_stalled_store_fails_the_pass_after_one_deadline(open_reader, proxy, impatient) -> None:
    proxy.gate.clear()
    reader = open_reader()
    reader.fetch_ahead(rows_of(*range(SHARDS)))
    with pytest.raises(StorageError, match=r"can't be fetched: no answer in time"):
        reader.gather(rows_of(0))
    asked_before = len(asked(proxy))
    with pytest.raises(StorageError, match=r"train-00001.*can't be fetched: no answer in time"):
        reader.gather(rows_of(1))
    assert len(asked(proxy)) == asked_before, "its own fetch had failed already"


@pytest.mark.parametrize("ahead", [False, True])
def test_closing_ends_a_pass_that_waits_for_a_stalled_fetch_at_once(
    open_reader, proxy, folder, ahead: bool
) -> None:
    proxy.gate.clear()
    reader = open_reader()
    if ahead:
        reader.fetch_ahead(rows_of(*range(SHARDS)))
    failed: list[BaseException] = []

    def gather() -> None:
        try:
            reader.gather(rows_of(0))
        except StorageError as error:
            failed.append(error)

    waiting = threading.Thread(target=gather)
    waiting.start()
    wait_until(lambda: bool(asked(proxy)))
    reader.close()
    waiting.join(10)
    # A request is given up after 20 s without a byte, a range after 90.
    assert isinstance(failed[0], fetch.FetchStoppedError)
    wait_until(lambda: [path.name for path in folder.iterdir()] == [".lock"])


def test_a_pass_that_waits_for_room_ends_when_the_reader_closes(open_reader, remote_set, folder) -> None:
    other = ShardCache(settings(remote_set, folder, 2))
    held = [other.open(remote_set.locate(shard), shard) for shard in train(remote_set)[:2]]
    reader = open_reader(2)
    failed: list[BaseException] = []

    def gather() -> None:
        try:
            reader.gather(rows_of(5))
        except StorageError as error:
            failed.append(error)

    waiting = threading.Thread(target=gather)
    waiting.start()
    time.sleep(0.1)
    reader.close()
    waiting.join(10)
    assert isinstance(failed[0], fetch.FetchStoppedError)
    assert len(held) == 2


def test_a_pass_that_is_given_up_leaves_nothing_in_use(open_reader, remote_set, folder) -> None:
    reader = open_reader()
    reader.fetch_ahead(rows_of(*range(SHARDS)))
    reader.gather(rows_of(0))
    reader.close()
    other = ShardCache(settings(remote_set, folder, 1))
    # Room for the one shard is there only when no other is in use.
    wait_until(lambda: other.folder._make_room(other.folder.limit_bytes))
