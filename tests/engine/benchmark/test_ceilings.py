"""The ceilings of the machine: what is moved, and what is refused."""

from __future__ import annotations

import contextlib
import mmap
from pathlib import Path

import pytest

from engine.benchmark import ceilings


def test_memory_copies_are_told_in_images() -> None:
    with contextlib.closing(ceilings.memory_copies(6, 1024, threads=2)) as copies:
        assert [next(copies) for _ in range(3)] == [6.0] * 3


def test_shards_are_read_from_disk_in_turn_and_without_end(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(bytes(100_000))
    with contextlib.closing(ceilings.disk_reads(paths, [1, 2, 3], first=2, threads=2)) as reads:
        assert [next(reads) for _ in range(5)] == [3, 1, 2, 3, 1]


def test_a_file_in_memory_cannot_be_dropped(tmp_path: Path) -> None:
    if not Path("/dev/shm").is_dir():
        pytest.skip("there is no file system in memory")
    path = Path("/dev/shm") / f"cxr-engine-test-{tmp_path.name}"
    try:
        path.write_bytes(bytes(100_000))
        assert ceilings.drop_from_memory(path)
    finally:
        path.unlink()


def test_a_file_that_is_mapped_cannot_be_dropped(tmp_path: Path) -> None:
    shard = tmp_path / "shard"
    shard.write_bytes(bytes(100_000))
    with shard.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert not any(data[:])
        assert ceilings.drop_from_memory(shard)
