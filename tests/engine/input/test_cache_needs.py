"""Trainings that share a cache folder: what they need together, and one too many is refused at once."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watching import wait_until

from engine.input import block_stream, cache_needs, shard_cache
from engine.input.block_stream import BlockStream
from engine.input.cache_needs import Need, together_bytes
from engine.input.reader import ShardReader
from engine.input.shard_cache import CacheFullError, CacheSettings, ShardCache
from records import manifest
from records.errors import ConfigError

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
from pathlib import Path
from engine.input import cache_needs
folder, data_set, *figures = sys.argv[1:]
with cache_needs.told(Path(folder), cache_needs.Need(data_set, *map(int, figures))):
    print("told", flush=True)
    sys.stdin.readline()
"""
BLOCK_SHARDS = 2


@pytest.fixture
def other_training(folder: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """A function that starts a process which says what it needs."""
    processes = []

    def start(need: Need) -> subprocess.Popen:
        figures = (need.data_set, need.all_bytes, need.block_bytes, need.passing_bytes)
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder), *map(str, figures)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout
        assert process.stdout.readline() == "told\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def shard_bytes(data_set: manifest.Manifest) -> int:
    return max(shard.size_bytes for shard in data_set.splits["train"].shards)


def blocks() -> Iterator[tuple[int, ...]]:
    return ((first, first + 1) for first in itertools.cycle(range(0, 8, BLOCK_SHARDS)))


def open_reader(data_set: manifest.Manifest, folder: Path, shards: int) -> ShardReader:
    return ShardReader(
        data_set, "train", cache_settings=CacheSettings(folder, shards * shard_bytes(data_set))
    )


def block_of_batch(number: int) -> tuple[int, int]:
    return number, number


def test_trainings_on_one_data_set_share_its_shards() -> None:
    one, another = Need("0000000a", 100, 60, 5), Need("0000000b", 1000, 60, 5)
    assert together_bytes([]) == 0
    assert together_bytes([one]) == 65
    assert together_bytes([one, one]) == 110
    assert together_bytes([one, another, one]) == 175


def test_one_training_too_many_is_refused_at_once_with_what_all_need(
    remote_set, folder, other_training, proxy
) -> None:
    size = shard_bytes(remote_set)
    process = other_training(Need("0000000a", 100 * size, 4 * size, 2 * size))
    with open_reader(remote_set, folder, 11) as reader:
        own = 2 * sum(sorted(reader.shards.size_bytes)[-BLOCK_SHARDS:]) + 2 * size
        with pytest.raises(ConfigError) as error:
            BlockStream(reader.shards, blocks(), block_of_batch)
        assert str(error.value) == (
            f"{folder}: input.cache_bytes is {11 * size:,}; this training needs {own:,} at a time "
            "(two blocks and 2 shards), together with those that read through this folder now (1) "
            f"{own + 6 * size:,}: raise input.cache_bytes to that, lower input.shuffle_block_shards or wait "
            "for the others to end"
        )
        assert not proxy.shard_gets()
        process.communicate("done\n")
        with BlockStream(reader.shards, blocks(), block_of_batch) as stream, stream.batch(0):
            pass
    assert not list(folder.glob(".training-*"))


def test_a_second_training_on_the_same_shards_needs_no_more_of_them(
    remote_set, folder, other_training
) -> None:
    with open_reader(remote_set, folder, 12) as reader:
        everything = sum(reader.shards.size_bytes)
        other_training(Need(reader.shards.fingerprint, everything, everything, 2 * shard_bytes(remote_set)))
        with BlockStream(reader.shards, blocks(), block_of_batch) as stream, stream.batch(0):
            pass


def test_what_a_killed_training_needed_counts_no_more(remote_set, folder, other_training) -> None:
    process = other_training(Need("0000000a", 1 << 40, 1 << 40, 0))
    assert cache_needs.of_others(folder) == [Need("0000000a", 1 << 40, 1 << 40, 0)]
    process.kill()
    process.communicate()
    assert cache_needs.of_others(folder) == []
    assert not list(folder.glob(".training-*"))


def test_a_training_leaves_the_room_that_another_one_needs(remote_set, folder, other_training) -> None:
    size = shard_bytes(remote_set)
    other_training(Need("0000000a", 100 * size, 4 * size, 2 * size))
    with (
        open_reader(remote_set, folder, 12) as reader,
        BlockStream(reader.shards, blocks(), block_of_batch) as stream,
    ):
        wait_until(lambda: len(reader.shards._mapped) == 2 * BLOCK_SHARDS)
        time.sleep(0.1)
        assert len(reader.shards._mapped) == 2 * BLOCK_SHARDS, "and not the second block ahead"
        for number in range(6):
            with stream.batch(number):
                assert len(reader.shards._mapped) <= 2 * BLOCK_SHARDS


def test_a_batch_that_waits_for_room_says_so_once(remote_set, folder, monkeypatch, capsys) -> None:
    monkeypatch.setattr(shard_cache, "WAIT_S", 1.0)
    monkeypatch.setattr(block_stream, "_NOTE_AFTER_S", 0.1)
    shards = remote_set.splits["train"].shards
    other = ShardCache(CacheSettings(folder, 6 * shard_bytes(remote_set)))
    held = [other.open(remote_set.locate(shard), shard) for shard in shards[:6]]
    with (
        open_reader(remote_set, folder, 6) as reader,
        BlockStream(reader.shards, [(6, 7)], block_of_batch) as stream,
        pytest.raises(CacheFullError),
        stream.batch(0),
    ):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: {folder}: a batch waits for room; others have in use")
    assert len(held) == 6
