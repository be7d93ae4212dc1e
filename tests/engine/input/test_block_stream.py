"""Blocks of remote shards that are fetched ahead of their batches and let go behind them."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from watching import bytes_in, wait_until

from engine.input import shard_cache
from engine.input.block_stream import BlockStream
from engine.input.reader import ShardReader
from engine.input.shard_cache import CacheFullError, CacheSettings, ShardCache
from records import manifest, storage
from records.errors import ConfigError, ShardError, StorageError

RECORDS_A_SHARD = 6
SHARDS = 8
BLOCK_SHARDS = 2
BATCH = 4
BATCHES_A_BLOCK = BLOCK_SHARDS * RECORDS_A_SHARD // BATCH
BATCHES_AN_EPOCH = SHARDS * RECORDS_A_SHARD // BATCH


@pytest.fixture
def open_reader(remote_set: manifest.Manifest, folder: Path) -> Iterator[Callable[..., ShardReader]]:
    """A function that opens a split through a cache of so many shards."""
    readers = []

    def open_one(cache_shards: int = SHARDS + 2, split: str = "train") -> ShardReader:
        readers.append(
            ShardReader(remote_set, split, cache_settings=settings(remote_set, folder, cache_shards))
        )
        return readers[-1]

    yield open_one
    for reader in readers:
        reader.close()


def settings(data_set: manifest.Manifest, folder: Path, shards: int) -> CacheSettings:
    return CacheSettings(folder, shards * max(shard.size_bytes for shard in data_set.splits["train"].shards))


def blocks(block_shards: int = BLOCK_SHARDS) -> Iterator[tuple[int, ...]]:
    """Yield the shards of block after block, in another order in each epoch, without end."""
    for epoch in itertools.count():
        order = np.random.default_rng(epoch).permutation(SHARDS).tolist()
        for first in range(0, SHARDS, block_shards):
            yield tuple(order[first : first + block_shards])


def span(number: int, block_shards: int = BLOCK_SHARDS) -> tuple[int, int]:
    """Return the first and the last block of a batch."""
    block_records = block_shards * RECORDS_A_SHARD
    return number * BATCH // block_records, ((number + 1) * BATCH - 1) // block_records


def rows(number: int, block_shards: int = BLOCK_SHARDS) -> np.ndarray:
    """Return a batch's rows: those of its blocks' shards, one after the other."""
    first, last = span(number, block_shards)
    shards = np.concatenate(list(itertools.islice(blocks(block_shards), first, last + 1)))
    of_blocks = (shards[:, None] * RECORDS_A_SHARD + np.arange(RECORDS_A_SHARD)).ravel()
    skipped = number * BATCH - first * block_shards * RECORDS_A_SHARD
    return of_blocks[skipped : skipped + BATCH]


def stream_of(reader: ShardReader, **settings: int) -> BlockStream:
    return BlockStream(reader.shards, blocks(), span, **settings)


def mapped(reader: ShardReader) -> set[int]:
    return set(reader.shards._mapped)


def block_sets(count: int) -> list[set[int]]:
    return [set(block) for block in itertools.islice(blocks(), count)]


def test_batches_through_a_small_cache_are_those_of_the_local_set(
    open_reader, remote_set, folder, tmp_path, write_data_set
) -> None:
    sizes = {"train": (RECORDS_A_SHARD,) * SHARDS, "validation": (), "test": ()}
    local_set = write_data_set(tmp_path / "local", sizes=sizes)
    reader = open_reader(2 * BLOCK_SHARDS + 2)
    most = 0
    with ShardReader(local_set, "train") as local, stream_of(reader) as stream:
        for number in range(3 * BATCHES_AN_EPOCH):
            with stream.batch(number):
                images, labels = reader.gather(rows(number))
            wanted_images, wanted_labels = local.gather(rows(number))
            assert np.array_equal(images, wanted_images)
            assert np.array_equal(labels, wanted_labels)
            most = max(most, bytes_in(folder))
    assert most <= settings(remote_set, folder, 2 * BLOCK_SHARDS + 2).size_bytes


def test_threads_that_enter_out_of_turn_get_their_batches(open_reader) -> None:
    reader = open_reader(2 * BLOCK_SHARDS + 2)
    with stream_of(reader) as stream, ThreadPoolExecutor(4) as threads:

        def gather(number: int) -> np.ndarray:
            with stream.batch(number):
                return reader.gather(rows(number))[1]

        numbers = [pair for first in range(0, 40, 2) for pair in (first + 1, first)]
        gathered = dict(zip(numbers, threads.map(gather, numbers), strict=True))
    labels = reader.labels()
    assert all(np.array_equal(gathered[number], labels[rows(number)]) for number in numbers)


def test_at_most_two_blocks_are_fetched_ahead(open_reader, proxy) -> None:
    reader = open_reader()
    expected = block_sets(5)
    with stream_of(reader) as stream:
        wait_until(lambda: mapped(reader) == set.union(*expected[:3]))
        time.sleep(0.1)
        assert len(proxy.shard_gets()) == 3 * BLOCK_SHARDS
        for number in range(BATCHES_A_BLOCK):
            with stream.batch(number):
                pass
        wait_until(lambda: mapped(reader) == set.union(*expected[1:4]))


def test_a_stream_that_ends_leaves_the_shards_of_another_one_mapped(open_reader) -> None:
    reader = open_reader()
    first_block = block_sets(1)[0]
    with stream_of(reader) as stream:
        with stream_of(reader) as other, other.batch(0), stream.batch(0):
            pass
        assert first_block <= mapped(reader)
    assert not mapped(reader)


def test_a_block_is_kept_until_all_its_batches_are_done(open_reader) -> None:
    reader = open_reader()
    first_block = block_sets(1)[0]
    with stream_of(reader) as stream:
        for number in (1, 2):
            with stream.batch(number):
                pass
        assert first_block <= mapped(reader)
        with stream.batch(0):
            pass
        assert not first_block & mapped(reader)


def test_a_run_goes_on_at_any_batch(open_reader) -> None:
    reader = open_reader()
    token = 2 * BATCHES_A_BLOCK + 1
    first_block = span(token)[0]
    with BlockStream(
        reader.shards,
        itertools.islice(blocks(), first_block, None),
        lambda number: (span(number)[0] - first_block, span(number)[1] - first_block),
        first_batch=token,
    ) as stream:
        for number in range(token, token + BATCHES_AN_EPOCH):
            with stream.batch(number):
                assert set(rows(number) // RECORDS_A_SHARD) <= mapped(reader)
        with pytest.raises(ValueError, match=f"batch {token} is done"), stream.batch(token):
            pass


def test_the_second_epoch_asks_for_no_shard_that_is_cached(open_reader, proxy, remote_set) -> None:
    reader = open_reader()
    with stream_of(reader) as stream:
        for number in range(3 * BATCHES_AN_EPOCH):
            with stream.batch(number):
                reader.gather(rows(number))
    assert proxy.shard_gets() == {shard.path: 1 for shard in remote_set.splits["train"].shards}


def test_training_starts_when_the_first_block_is_there(open_reader, proxy) -> None:
    first_block = block_sets(1)[0]
    proxy.passes = lambda path: ".tfrecord" not in path or int(path.partition("train-")[2][:5]) in first_block
    proxy.gate.clear()
    reader = open_reader()
    with stream_of(reader) as stream:
        for number in range(BATCHES_A_BLOCK):
            with stream.batch(number):
                assert reader.gather(rows(number))[0].any()
        proxy.gate.set()
        with stream.batch(BATCHES_A_BLOCK):
            reader.gather(rows(BATCHES_A_BLOCK))


def test_a_fault_is_raised_by_the_batch_that_needs_the_shard(open_reader, remote_set) -> None:
    second_block = sorted(block_sets(2)[1])
    location = remote_set.locate(remote_set.splits["train"].shards[second_block[0]])
    storage.write_bytes(location, storage.read_bytes(location)[:-1] + b"?")
    reader = open_reader()
    with stream_of(reader) as stream:
        for number in range(BATCHES_A_BLOCK):
            with stream.batch(number):
                reader.gather(rows(number))
        with pytest.raises(ShardError, match="CRC32C") as error, stream.batch(BATCHES_A_BLOCK):
            pass
    assert str(error.value).startswith(location)


def test_a_store_that_stalls_fails_the_batch_that_waits(open_reader, proxy, impatient) -> None:
    proxy.gate.clear()
    reader = open_reader()
    with (
        stream_of(reader) as stream,
        pytest.raises(StorageError, match=r"^s3://.*can't be fetched: no answer in time"),
        stream.batch(0),
    ):
        pass


def test_closing_ends_a_stalled_fetch_at_once(remote_set, folder, proxy) -> None:
    proxy.gate.clear()
    with ShardReader(remote_set, "train", cache_settings=settings(remote_set, folder, 10)) as reader:
        stream = stream_of(reader)
        failed: list[BaseException] = []

        def wait_for_a_batch() -> None:
            try:
                with stream.batch(0):
                    pass
            except ValueError as error:
                failed.append(error)

        waiting = threading.Thread(target=wait_for_a_batch)
        waiting.start()
        wait_until(lambda: bool(proxy.shard_gets()))
        begun_s = time.monotonic()
        stream.close()
        waiting.join(10)
        # A request is given up after 20 s without a byte, a range after 90.
        assert time.monotonic() - begun_s < 10
        assert str(failed[0]) == "the stream of blocks is closed"
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_cache_too_small_for_two_blocks_says_what_would_fit(open_reader, remote_set) -> None:
    sizes = sorted((shard.size_bytes for shard in remote_set.splits["train"].shards), reverse=True)
    reader = open_reader(4)
    with pytest.raises(ConfigError) as error:
        BlockStream(reader.shards, blocks(3), lambda number: span(number, 3))
    needed = 2 * sum(sizes[:3]) + 2 * sizes[0]
    assert str(error.value) == (
        f"input.cache_bytes is {4 * sizes[0]:,}; two blocks of 3 shards and 2 shards more take {needed:,} "
        "bytes: raise it to that, or set input.shuffle_block_shards to 1"
    )
    with pytest.raises(ConfigError, match=r"raise it to that$"):
        BlockStream(open_reader(3).shards, blocks(1), lambda number: span(number, 1))


def test_a_global_shuffle_needs_room_for_each_shard_once(open_reader) -> None:
    reader = open_reader(SHARDS + 2)
    with BlockStream(reader.shards, blocks(SHARDS), lambda number: span(number, SHARDS)) as stream:
        for number in range(2 * BATCHES_AN_EPOCH):
            with stream.batch(number):
                assert set(rows(number, SHARDS) // RECORDS_A_SHARD) <= mapped(reader)


def test_a_batch_may_span_many_blocks(open_reader) -> None:
    reader = open_reader(7)

    def wide(number: int) -> tuple[int, int]:
        return 4 * number, 4 * number + 4

    with BlockStream(reader.shards, blocks(1), wide) as stream:
        for number in range(4):
            with stream.batch(number):
                needed = itertools.islice(blocks(1), 4 * number, 4 * number + 5)
                assert {shard for block in needed for shard in block} <= mapped(reader)
    with (
        BlockStream(reader.shards, blocks(1), lambda number: (number, number + 6)) as stream,
        pytest.raises(ConfigError, match="a batch touches 7 blocks"),
        stream.batch(0),
    ):
        pass


def test_blocks_that_end_are_served_to_their_end(open_reader) -> None:
    reader = open_reader()
    with BlockStream(reader.shards, itertools.islice(blocks(), 2), span) as stream:
        for number in range(2 * BATCHES_A_BLOCK):
            with stream.batch(number):
                reader.gather(rows(number))
        with pytest.raises(ValueError, match="needs block 2; there are 2"), stream.batch(2 * BATCHES_A_BLOCK):
            pass


def test_a_pass_over_a_split_stays_inside_the_limit(open_reader, remote_set, folder) -> None:
    reader = open_reader(2)
    for number in range(SHARDS * RECORDS_A_SHARD // BATCH):
        reader.gather(np.arange(number * BATCH, (number + 1) * BATCH))
        assert len(mapped(reader)) <= 2
        assert bytes_in(folder) <= settings(remote_set, folder, 2).size_bytes


def test_a_validation_pass_fits_beside_the_stream(open_reader, folder, remote_set) -> None:
    reader, validation = open_reader(2 * BLOCK_SHARDS + 2), open_reader(2 * BLOCK_SHARDS + 2, "validation")
    with stream_of(reader) as stream:
        for number in range(BATCHES_AN_EPOCH):
            with stream.batch(number):
                reader.gather(rows(number))
            if number % BATCHES_A_BLOCK == 1:
                validation.gather(np.arange(len(validation)))
    assert bytes_in(folder) <= settings(remote_set, folder, 2 * BLOCK_SHARDS + 2).size_bytes


def test_room_that_another_process_has_in_use_is_waited_for(
    open_reader, remote_set, folder, monkeypatch
) -> None:
    monkeypatch.setattr(shard_cache, "WAIT_S", 0.3)
    other = ShardCache(settings(remote_set, folder, 6))
    shards = remote_set.splits["train"].shards
    held = [other.open(remote_set.locate(shard), shard) for shard in shards[:6]]
    reader = open_reader(6)
    with BlockStream(reader.shards, [(6, 7)], lambda number: (number, number)) as stream:
        time.sleep(0.6)  # nobody waits for the block yet, so there is no fault
        with ThreadPoolExecutor(1) as threads:
            threads.submit(lambda: (time.sleep(0.1), [os.close(descriptor) for descriptor in held[:2]]))
            with stream.batch(0):
                assert mapped(reader) == {6, 7}
        held[:2] = []
    with (
        BlockStream(reader.shards, [(0, 1), (6, 7)], lambda number: (number, number)) as stream,
        stream.batch(0),
        pytest.raises(CacheFullError, match=r"raise input\.cache_bytes"),
        stream.batch(1),
    ):
        pass
    for descriptor in held:
        os.close(descriptor)


def test_a_local_data_set_needs_no_stream(data_set) -> None:
    with ShardReader(data_set, "train") as reader, pytest.raises(ValueError, match="need no stream"):
        BlockStream(reader.shards, blocks(), span)
