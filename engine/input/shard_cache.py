"""Local copies of remote shards: found in a bounded folder, or fetched, checked and published there.

Of several processes that want the same shard one fetches it and the others wait. A damaged copy is fetched
again. What is in the folder and for how long is `cache_folder`'s business, how bytes come from the store
`fetch`'s, and which shards are wanted when `mapped_shards`' and `block_stream`'s.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.input import fetch, shard_check
from engine.input.cache_folder import AlreadyThereError, CacheFolder
from records.errors import ConfigError, ShardError, StorageError
from records.manifest import StoredFile

# For room that others may give up, and for bytes of another process's fetch; more than a fetch's patience.
WAIT_S = 120.0
_POLL_S = 0.02


class CacheFullError(StorageError):
    """All that lies in the cache is in use, and one more shard doesn't fit."""


@dataclass(frozen=True)
class CacheSettings:
    """Where local copies of remote shards are kept, and how much may lie there.

    Attributes:
        folder: of the copies; made when it is needed, and may be removed whenever no process uses it.
        size_bytes: limit of all that lies in it.
    """

    folder: Path
    size_bytes: int

    def __post_init__(self) -> None:
        if self.size_bytes < 1:
            raise ConfigError(f"a cache of {self.size_bytes} bytes; expected at least 1")


class ShardCache:
    """The local copies of remote shards; threads may share it.

    Args:
        settings: folder and limit.
        verify: check the CRC32C of a copy that an earlier process left before its first use in this one. What
            this process fetches is always checked.
        fetcher: that fetches; None: the one that this process shares.
    """

    def __init__(
        self, settings: CacheSettings, *, verify: bool = True, fetcher: fetch.Fetcher | None = None
    ) -> None:
        self.folder = CacheFolder(settings.folder, settings.size_bytes)
        self.verify = verify
        self._fetcher = fetcher

    def open(self, location: str, file: StoredFile, *, give_way: Callable[[], bool] = bool) -> int:
        """Return a descriptor of a shard's copy, fetched if need be, as `claim` and its `finish` do."""
        return self.claim(location, file, give_way=give_way).finish()

    def claim(
        self,
        location: str,
        file: StoredFile,
        *,
        wait_s: float | None = None,
        give_way: Callable[[], bool] = bool,
    ) -> Claim:
        """Find a shard's copy, or take room for it and begin to fetch it.

        Args:
            location: of the shard in its store.
            file: what the manifest says of it; not empty.
            wait_s: how long to wait for room; None: `WAIT_S`.
            give_way: called where there is no room; lets go of a copy of the caller's own, if it can.

        Returns:
            The copy, whose `finish` must be called.

        Raises:
            CacheFullError: there was no room in that time.
            StorageError: the folder can't be written, or the disk is full.
        """
        deadline_s = time.monotonic() + (WAIT_S if wait_s is None else wait_s)
        while (claim := self._claim_now(location, file, give_way)) is None:
            if not give_way():
                if time.monotonic() >= deadline_s or file.size_bytes > self.folder.limit_bytes:
                    raise CacheFullError(self._full(location, file))
                time.sleep(_POLL_S)
        return claim

    def _claim_now(self, location: str, file: StoredFile, give_way: Callable[[], bool]) -> Claim | None:
        """Return None where there is no room."""
        with self.caching(location):
            descriptor = self.folder.open(file)
            if descriptor is not None:
                return Claim(self, location, file, give_way, descriptor)
            try:
                descriptor = self.folder.reserve(file)
            except AlreadyThereError:
                return Claim(self, location, file, give_way)
        if descriptor is None:
            return None
        fetcher = self._fetcher or fetch.shared()
        transfer = fetcher.start(location, file, descriptor)
        return Claim(self, location, file, give_way, descriptor, transfer)

    @contextlib.contextmanager
    def caching(self, location: str) -> Iterator[None]:
        """Say where a shard was to be kept when the folder or the disk is at fault."""
        try:
            yield
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StorageError(f"{self.folder.path}: {location} can't be cached there: {reason}") from error

    def _full(self, location: str, file: StoredFile) -> str:
        return (
            f"{self.folder.path}: no room for the {file.size_bytes:,} bytes of {location}; "
            f"{self.folder.used_bytes():,} of at most {self.folder.limit_bytes:,} are in use by this or "
            "other processes, each of which needs two blocks and two shards: raise input.cache_bytes or "
            "lower input.shuffle_block_shards"
        )


class Claim:
    """A copy that is there, or is being fetched by this process (`transfer`) or by another one (neither)."""

    def __init__(
        self,
        cache: ShardCache,
        location: str,
        file: StoredFile,
        give_way: Callable[[], bool],
        descriptor: int | None = None,
        transfer: fetch.Transfer | None = None,
    ) -> None:
        self._cache, self._location, self._file = cache, location, file
        self._give_way, self._descriptor, self._transfer = give_way, descriptor, transfer
        self._stopped = False

    def finish(self) -> int:
        """Wait until the copy is whole and checked.

        Returns:
            A descriptor; the copy is in use until that, and every mapping made of it, is closed.

        Raises:
            ShardError: the object in the store isn't the manifest's.
            StorageError: it can't be fetched or kept, another process's fetch stands still, or `stop` was
                called.
        """
        if self._descriptor is None:
            return self._awaited()
        return self._fetched(self._descriptor) if self._transfer else self._found(self._descriptor)

    def stop(self) -> None:
        """Let `finish`, in another thread, raise instead of waiting for more bytes."""
        self._stopped = True
        if self._transfer:
            self._transfer.stop()

    def _fetched(self, descriptor: int) -> int:
        folder = self._cache.folder
        try:
            if self._transfer:
                self._transfer.wait()
            with self._cache.caching(self._location):
                shard_check.check(folder.partial_path(self._file), self._file, self._location)
                folder.publish(self._file, descriptor)
                shard_check.mark_checked(folder.copy_path(self._file), self._file)
        except BaseException:
            folder.discard(self._file, descriptor)
            raise
        return descriptor

    def _found(self, descriptor: int) -> int:
        if not self._cache.verify:
            return descriptor
        folder = self._cache.folder
        try:
            shard_check.check_once(folder.copy_path(self._file), self._file)
        except ShardError as error:
            folder.discard(self._file, descriptor)
            found = str(error).partition("; the file is")[0]
            print(f"note: {found}: the cached copy is damaged; it is fetched again", file=sys.stderr)
            return self._again()
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _awaited(self) -> int:
        folder, last_ns, deadline_s = self._cache.folder, 0, time.monotonic() + WAIT_S
        while not self._stopped:
            with self._cache.caching(self._location):
                made_until_ns = folder.made_until_ns(self._file)
            if made_until_ns is None:  # it stands, or its fetcher failed or was killed
                return self._again()
            if made_until_ns != last_ns:
                last_ns, deadline_s = made_until_ns, time.monotonic() + WAIT_S
            if time.monotonic() > deadline_s:
                raise StorageError(
                    f"{self._location}: another process fetches it to {folder.path}, where no byte has "
                    f"arrived for {WAIT_S:.0f} s: end that process"
                )
            time.sleep(_POLL_S)
        raise self._stop_error()

    def _again(self) -> int:
        claim = self._cache.claim(self._location, self._file, give_way=self._give_way_unless_stopped)
        # What stops this claim must reach the one that it has become.
        self._descriptor, self._transfer = claim._descriptor, claim._transfer
        if self._stopped:
            self.stop()
        return self.finish()

    def _give_way_unless_stopped(self) -> bool:
        if self._stopped:
            raise self._stop_error()
        return self._give_way()

    def _stop_error(self) -> fetch.FetchStoppedError:
        return fetch.FetchStoppedError(f"{self._location}: its fetch was stopped")
