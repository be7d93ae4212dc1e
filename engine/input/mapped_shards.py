"""The shards of a split, mapped into memory when they are first touched.

Each shard's CRC32C is checked once in a process, then; local copies of remote shards are `cache`'s business.
"""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path

import numpy as np

from engine.input import cache
from records import storage
from records.manifest import Manifest


class MappedShards:
    """The shards of a split as (bytes,) uint8 read-only arrays, mapped when they are first touched."""

    def __init__(
        self, manifest: Manifest, split: str, *, verify: bool, cache_folder: str | Path | None
    ) -> None:
        self._manifest, self._files = manifest, manifest.splits[split].shards
        self._verify, self._cache_folder = verify, cache_folder
        self._mapped: dict[int, np.ndarray] = {}
        self._locks = [threading.Lock() for _ in self._files]
        self._closed = False
        if not storage.is_s3(manifest.location):
            for file in self._files:
                cache.local_path(manifest, file)

    def __getitem__(self, shard: int) -> np.ndarray:
        data = self._mapped.get(shard)
        return self._open(int(shard)) if data is None else data

    def location(self, shard: int) -> str:
        return self._manifest.locate(self._files[shard])

    def read_each(self, shard: int, offsets: list[int], count: int) -> np.ndarray:
        """Read `count` bytes at each offset: (len(offsets), count) uint8, untouched by read-ahead."""
        with self._path(shard).open("rb") as file:
            parts = [os.pread(file.fileno(), count, offset) for offset in offsets]
        return np.frombuffer(b"".join(parts), np.uint8).reshape(len(offsets), count)

    def close(self) -> None:
        self._closed = True
        self._mapped.clear()

    def _open(self, shard: int) -> np.ndarray:
        if self._closed:
            raise ValueError("the reader is closed")
        with self._locks[shard]:
            if shard not in self._mapped:
                path = self._path(shard)
                if self._verify:
                    cache.check_once(path, self._files[shard])
                self._mapped[shard] = _map(path)
            return self._mapped[shard]

    def _path(self, shard: int) -> Path:
        return cache.local_path(self._manifest, self._files[shard], self._cache_folder)


def _map(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
