"""Training batches of a remote data set: those of the local one, through a cache that holds a part of it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from engine.input.cache import CacheSettings
from engine.input.order import EpochOrder, Token
from engine.input.pipeline import evaluation_batches, faults_raised, training_batches
from engine.input.reader import ShardReader
from records import manifest, storage
from records.errors import ConfigError, ShardError

SIZES = {"train": (6,) * 8, "validation": (5,), "test": (4, 3)}


@pytest.fixture
def local_set(tmp_path: Path, write_data_set) -> manifest.Manifest:
    return write_data_set(tmp_path / "local", sizes=SIZES)


@pytest.fixture
def remote_set(s3: str, write_data_set) -> manifest.Manifest:
    return write_data_set(f"{s3}/set", sizes=SIZES)


@pytest.fixture
def settings(tmp_path: Path, remote_set: manifest.Manifest) -> CacheSettings:
    """A cache of six of the eight shards."""
    largest = max(shard.size_bytes for shard in remote_set.splits["train"].shards)
    return CacheSettings(tmp_path / "cache", 6 * largest)


def order_of(reader: ShardReader) -> EpochOrder:
    return EpochOrder(reader.shard_sizes, seed=4, shuffle_block_shards=2)


def take(batches: tf.data.Dataset, count: int) -> list[tuple[bytes, bytes]]:
    return [
        (images.numpy().tobytes(), labels.numpy().tobytes())
        for images, labels in itertools.islice(batches, count)
    ]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("token", [Token(4, 0, 0), Token(4, 1, 5), Token(4, 0, 9)])
def test_a_remote_data_set_gives_the_batches_of_the_local_one(
    local_set, remote_set, settings, token, threads
) -> None:
    with (
        ShardReader(local_set, "train") as local,
        ShardReader(remote_set, "train", cache_settings=settings) as remote,
    ):
        streams = [
            training_batches(reader, order_of(reader), 5, start=token, threads=threads)
            for reader in (local, remote)
        ]
        wanted, found = (take(stream, 25) for stream in streams)
    assert found == wanted


def test_each_pass_begins_at_the_first_batch(remote_set, settings) -> None:
    with ShardReader(remote_set, "train", cache_settings=settings) as reader:
        batches = training_batches(reader, order_of(reader), 5)
        passes = [take(batches, count) for count in (3, 12, 1)]
    assert passes[0] == passes[1][:3]
    assert passes[2] == passes[1][:1]


def test_an_evaluation_runs_beside_the_stream(local_set, remote_set, settings) -> None:
    with (
        ShardReader(local_set, "test") as local,
        ShardReader(remote_set, "train", cache_settings=settings) as training,
        ShardReader(remote_set, "test", cache_settings=settings) as remote,
    ):
        batches = iter(training_batches(training, order_of(training), 5))
        for _ in range(4):
            next(batches)
        assert take(evaluation_batches(remote, 4), 2) == take(evaluation_batches(local, 4), 2)
        next(batches)


def test_a_shard_that_is_not_the_manifests_ends_the_stream_by_its_own_error(remote_set, settings) -> None:
    location = remote_set.locate(remote_set.splits["train"].shards[3])
    data = storage.read_bytes(location)
    storage.write_bytes(location, data[:-1] + bytes([data[-1] ^ 1]))
    with (
        ShardReader(remote_set, "train", cache_settings=settings) as reader,
        pytest.raises(ShardError, match=r"train-00003-of-00008\.tfrecord: CRC32C"),
        faults_raised(reader),
    ):
        take(training_batches(reader, order_of(reader), 5), 9)


def test_a_cache_that_can_not_hold_two_blocks_is_refused_before_anything_is_fetched(
    remote_set, settings
) -> None:
    with ShardReader(remote_set, "train", cache_settings=settings) as reader:
        everything = EpochOrder(reader.shard_sizes, 4, 0)
        with pytest.raises(
            ConfigError, match=r"input\.cache_bytes is .* or set input\.shuffle_block_shards to"
        ):
            training_batches(reader, everything, 5)


def test_repeats_stream_with_their_records(local_set, remote_set, settings) -> None:
    repeats = np.arange(48) % 3 == 0
    found = []
    for data_set, cached in ((local_set, None), (remote_set, settings)):
        with ShardReader(data_set, "train", cache_settings=cached) as reader:
            order = EpochOrder(reader.shard_sizes, 4, 2, repeats.astype(np.uint8))
            found.append(take(training_batches(reader, order, 5), 15))
    assert found[0] == found[1]


def test_a_block_that_no_batch_needs_takes_no_room(s3, tmp_path, write_data_set) -> None:
    # 30 records in batches of 8: an epoch's last six are left out, and may be a whole block.
    data_set = write_data_set(f"{s3}/five", sizes={**SIZES, "train": (6,) * 5})
    largest = max(shard.size_bytes for shard in data_set.splits["train"].shards)
    cached = CacheSettings(tmp_path / "cache", 4 * largest)
    with ShardReader(data_set, "train", cache_settings=cached) as reader, faults_raised(reader):
        order = EpochOrder(reader.shard_sizes, 4, 1)
        assert len(take(training_batches(reader, order, 8, epochs=6), 99)) == 6 * 3


def test_a_stream_of_some_epochs_ends(local_set, remote_set, settings) -> None:
    for data_set, cached in ((local_set, None), (remote_set, settings)):
        with ShardReader(data_set, "train", cache_settings=cached) as reader:
            batches = training_batches(reader, order_of(reader), 5, start=Token(4, 1, 7), epochs=3)
            assert len(take(batches, 99)) == 2 * 9 - 7


def test_many_threads_pass_over_small_shards_in_a_small_cache(s3, tmp_path, write_data_set) -> None:
    data_set = write_data_set(f"{s3}/small", sizes={**SIZES, "test": (2,) * 24})
    largest = max(shard.size_bytes for shard in data_set.splits["test"].shards)
    cached = CacheSettings(tmp_path / "cache", 2 * largest)
    with ShardReader(data_set, "test", cache_settings=cached) as reader, faults_raised(reader):
        assert len(take(evaluation_batches(reader, 16, threads=4), 99)) == 3
