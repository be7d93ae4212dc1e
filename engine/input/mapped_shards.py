"""The shards of a split, mapped into memory when they are first touched.

Each shard's CRC32C is checked once in a process, then. Shards of a local data set are mapped where they lie,
for good. Of a remote one the copies in the cache are mapped: those that `hold` asked for until `release`, of
others the few last ones, so that a pass over any number of shards stays inside the cache's limit. Which are
held when is `block_stream`'s business; what a pass will open next is fetched by `shards_ahead`.
"""

from __future__ import annotations

import collections
import contextlib
import mmap
import os
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from engine.input import cache
from engine.input.fetch import FetchStoppedError
from engine.input.shard_cache import CacheSettings, Claim, ShardCache
from engine.input.shards_ahead import ComingShard, ShardsAhead
from records import storage
from records.manifest import Manifest, crc32c

# A pass touches one shard after the other; the one before may still be read by another thread.
PASSING_SHARDS = 2


class MappedShards:
    """The shards of a split as (bytes,) uint8 read-only arrays, mapped when they are first touched.

    An array stays valid, and a copy in the cache in use, until the last reference to the array is gone.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        *,
        verify: bool,
        cache_settings: CacheSettings | None = None,
    ) -> None:
        """Check that local shards are there with the right size; open none.

        Args:
            manifest: of the data set.
            split: train, validation or test.
            verify: check each shard's CRC32C before its first use in this process.
            cache_settings: for the copies of a remote data set; None: `cache.default_settings()`.

        Raises:
            ShardError: a local shard is missing or of another size.
        """
        self._manifest, self._files = manifest, manifest.splits[split].shards
        self._verify = verify
        self._mapped: dict[int, np.ndarray] = {}
        self._held: collections.Counter[int] = collections.Counter()
        self._locks = [threading.Lock() for _ in self._files]
        self._change = threading.Lock()
        self._opening: set[Claim | ComingShard] = set()
        self._ahead = ShardsAhead((), self._claim_now)
        self._closed = False
        self.cache: ShardCache | None = None
        if storage.is_remote(manifest.location):
            self.cache = ShardCache(cache_settings or cache.default_settings(), verify=verify)
        else:
            for file in self._files:
                cache.local_path(manifest, file)

    def __getitem__(self, shard: int) -> np.ndarray:
        data = self._mapped.get(shard)
        return self._open(int(shard)) if data is None else data

    def mapped(self, shard: int) -> np.ndarray | None:
        """Return a shard that is mapped at present; None: it must be opened first."""
        return self._mapped.get(shard)

    @property
    def size_bytes(self) -> tuple[int, ...]:
        """Bytes of each shard."""
        return tuple(file.size_bytes for file in self._files)

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that all readers of the same shards have in common."""
        return crc32c("".join(file.crc32c for file in self._files).encode())

    @property
    def passing_bytes(self) -> int:
        """Room in the cache that a pass over a split of the data set needs, beside what is held."""
        sizes = [file.size_bytes for split in self._manifest.splits.values() for file in split.shards]
        return PASSING_SHARDS * max(sizes, default=0)

    def location(self, shard: int) -> str:
        return self._manifest.locate(self._files[shard])

    def read_each(self, shard: int, offsets: list[int], count: int) -> np.ndarray:
        """Read `count` bytes at each offset: (len(offsets), count) uint8, untouched by read-ahead."""
        descriptor = self._descriptor(shard, verify=False)
        try:
            parts = [os.pread(descriptor, count, offset) for offset in offsets]
        finally:
            os.close(descriptor)
        return np.frombuffer(b"".join(parts), np.uint8).reshape(len(offsets), count)

    def fetch_ahead(self, shards: Sequence[int]) -> None:
        """Have shards of a remote data set fetched ahead of the pass that opens them in this order.

        The pass before is given up. What can't be fetched is a fault of the pass when it comes to it.
        """
        if self.cache is None:
            return
        filled = [shard for shard in shards if self._files[shard].size_bytes]
        with self._change:
            before, self._ahead = self._ahead, ShardsAhead(() if self._closed else filled, self._claim_now)
        before.close()

    def hold(self, shard: int, wait_s: float) -> Claim | None:
        """Begin to fetch a shard of a remote data set and keep it until as many calls of `release`.

        Args:
            shard: number of the shard.
            wait_s: how long to wait for room in the cache.

        Returns:
            What `finish_hold` must be called with; None: the shard is mapped already.

        Raises:
            CacheFullError: there was no room in that time.
            StorageError: the cache can't be written.
        """
        file = self._files[shard]
        with self._change:
            if shard in self._mapped or not file.size_bytes or self.cache is None:
                self._held[shard] += 1
                return None
        claim = self._claim(shard, wait_s, self._drop_oldest)
        with self._change:
            self._held[shard] += 1
        return claim

    def finish_hold(self, shard: int, claim: Claim) -> None:
        """Wait until a shard is whole, and map it.

        Raises:
            ShardError: it isn't the manifest's.
            StorageError: it can't be fetched, or the claim was stopped.
        """
        descriptor = claim.finish()
        try:
            self._keep(shard, _map(descriptor))
        finally:
            os.close(descriptor)

    def release(self, shard: int) -> None:
        """Let go of a held shard, unless others hold it; arrays that were taken before stay valid."""
        with self._change:
            self._held[shard] -= 1
            if self._held[shard] <= 0:
                del self._held[shard]
        self.drop_unless_held(shard)

    def drop_unless_held(self, shard: int) -> None:
        """Let go of a shard that nobody holds, as one that was released before it had come."""
        with self._change:
            if shard not in self._held:
                self._mapped.pop(shard, None)

    def close(self) -> None:
        """Let go of all shards, and end what waits for one; arrays that were taken before stay valid."""
        with self._change:
            self._closed = True
            self._mapped.clear()
            self._held.clear()
            opening = list(self._opening)
        self._ahead.close()
        for claim in opening:
            claim.stop()

    def _open(self, shard: int) -> np.ndarray:
        if self._closed:
            raise ValueError("the reader is closed")
        with self._locks[shard]:
            data = self._mapped.get(shard)
            if data is None:
                if self.cache:
                    self._trim(PASSING_SHARDS - 1)
                data = self._map(shard)
                self._keep(shard, data)
            return data

    def _map(self, shard: int) -> np.ndarray:
        if not self._files[shard].size_bytes:
            return np.empty(0, np.uint8)
        descriptor = self._descriptor(shard, verify=self._verify)
        try:
            return _map(descriptor)
        finally:
            os.close(descriptor)

    def _descriptor(self, shard: int, *, verify: bool) -> int:
        file = self._files[shard]
        if self.cache:
            return self._fetched(shard)
        path = cache.local_path(self._manifest, file)
        if verify:
            cache.check_once(path, file)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def _fetched(self, shard: int) -> int:
        """Return a descriptor of a shard's copy, fetched ahead or now."""
        coming = self._ahead.take(shard) or self._claim(shard, give_way=self._give_way)
        with self._stopped_by_close(coming):
            return coming.finish()

    def _claim(self, shard: int, wait_s: float | None = None, give_way: Callable[[], bool] = bool) -> Claim:
        if self.cache is None:
            raise ValueError("the shards are local; there is nothing to fetch")
        return self.cache.claim(self.location(shard), self._files[shard], wait_s=wait_s, give_way=give_way)

    def _claim_now(self, shard: int) -> Claim:
        return self._claim(shard, wait_s=0.0)

    @contextlib.contextmanager
    def _stopped_by_close(self, claim: Claim | ComingShard) -> Iterator[None]:
        """Let `close`, in another thread, end what the block waits for."""
        with self._change:
            self._opening.add(claim)
            closed = self._closed
        if closed:
            claim.stop()
        try:
            yield
        finally:
            with self._change:
                self._opening.discard(claim)

    def _keep(self, shard: int, data: np.ndarray) -> None:
        with self._change:
            if self._closed:
                raise FetchStoppedError(f"{self.location(shard)}: the reader is closed")
            self._mapped[shard] = data

    def _give_way(self) -> bool:
        """Give up room for a shard that is to be opened now."""
        if self._closed:
            raise FetchStoppedError("the reader is closed")
        return self._drop_oldest() or self._ahead.give_way()

    def _drop_oldest(self) -> bool:
        """Let go of the first one mapped of the shards that nobody holds; tell whether there was one."""
        with self._change:
            passed = next((shard for shard in self._mapped if shard not in self._held), None)
            return passed is not None and self._mapped.pop(passed) is not None

    def _trim(self, shards: int) -> None:
        """Let go of all but the last few of the shards that nobody holds."""
        with self._change:
            loose = [shard for shard in self._mapped if shard not in self._held]
            for shard in loose[: max(0, len(loose) - shards)]:
                del self._mapped[shard]


def _map(descriptor: int) -> np.ndarray:
    """Map a file: (bytes,) uint8, read-only. The mapping keeps its locks by a descriptor of its own."""
    return np.frombuffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), np.uint8)
