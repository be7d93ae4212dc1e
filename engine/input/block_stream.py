"""Shards of a remote data set, fetched ahead of the batches that need them and let go behind them.

A thread takes the blocks of the training order in turn, as many ahead as the cache has room for, and holds
their shards in memory maps; batches wait until theirs are there. Room and bytes are the business of
`mapped_shards` and what stands behind it; the order is `order`'s.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from engine.input import cache_needs, shard_cache
from engine.input.cache_needs import Need
from engine.input.mapped_shards import PASSING_SHARDS, MappedShards
from engine.input.shard_cache import CacheFullError, Claim
from records.errors import ConfigError

BLOCKS_AHEAD = 2
# Shards at once: enough for the whole pool of ranges, whatever their size.
_FETCHES = 16
_POLL_S = 0.2
# A batch that has waited for room so long says so.
_NOTE_AFTER_S = 10.0
_CLOSE_WAIT_S = 10.0


class BlockStream:
    """The blocks of a run from its resume token on; threads gather their batches inside `batch`.

    Blocks are counted from the run's first one, batches as `first_batch` says. The first fault stops the
    fetches; batches that lie wholly before it still come.
    """

    def __init__(
        self,
        shards: MappedShards,
        blocks: Iterable[tuple[int, ...]],
        block_span: Callable[[int], tuple[int, int]],
        *,
        first_batch: int = 0,
        ahead: int = BLOCKS_AHEAD,
    ) -> None:
        """Check that the cache is large enough, and begin to fetch.

        Args:
            shards: of a split of a remote data set; must stay open while the stream is.
            blocks: the shards of block 0, 1, 2, ..., each named once in a block; may be endless.
            block_span: from a batch's number to the first and the last block that it touches; neither falls
                from a batch to the next.
            first_batch: the run's first batch; each one from there on must be entered once.
            ahead: blocks to fetch beyond those that the oldest unfinished batch touches.

        Raises:
            ConfigError: two blocks, and what a pass over another split needs, don't fit into the cache, or
                not beside other trainings.
            StorageError: the cache can't be written.
        """
        first_two, blocks = _peek(blocks, 2)
        self._limit_bytes, self._need = _room(shards, max(map(len, first_two), default=0))
        self._others_bytes, self._noted = 0, False
        self._told = contextlib.ExitStack()
        self._shards, self._blocks, self._block_span, self._ahead = shards, blocks, block_span, ahead
        self._size_bytes = shards.size_bytes
        self._change = threading.Condition()
        self._oldest, self._done = first_batch, set[int]()
        self._first_block, self._last_block = block_span(first_batch)
        self._begun: dict[int, tuple[int, ...]] = {}
        self._holders: collections.Counter[int] = collections.Counter()  # begun blocks of each shard
        self._taken: set[int] = set()  # shards with room in the cache
        self._there: set[int] = set()  # shards that are mapped
        self._wants: dict[int, tuple[int, float]] = {}  # waiting batches: their last block, and since when
        self._claims: set[Claim] = set()
        self._fault: tuple[int, BaseException] | None = None
        self._closed, self._blocks_in_all = False, -1
        self._slots = threading.Semaphore(_FETCHES)
        self._take_place()
        self._thread = threading.Thread(target=self._run, name="block-stream", daemon=True)
        self._thread.start()

    def __enter__(self) -> BlockStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextlib.contextmanager
    def batch(self, number: int) -> Iterator[None]:
        """Have a batch's shards mapped inside the block; threads enter in about the batches' order.

        Raises:
            CxrError: one of them can't be fetched, or isn't the manifest's: the fetch's own error.
            ValueError: the batch is done already, the stream is closed, or its blocks end before this batch.
        """
        self._wait_for(number)
        try:
            yield
        finally:
            self._finish(number)

    def close(self) -> None:
        """Stop the fetches, wait until they have stopped, and let go of all shards."""
        with self._change:
            self._closed = True
            for claim in self._claims:
                claim.stop()
            self._change.notify_all()
        self._thread.join(_CLOSE_WAIT_S)
        with self._change:
            self._change.wait_for(lambda: not self._claims, _CLOSE_WAIT_S)
            self._let_go(list(self._begun))
        self._told.close()

    def _take_place(self) -> None:
        """Say what this training needs, unless the others need too much for it."""
        if self._shards.cache is None:
            return
        folder = self._shards.cache.folder
        with self._shards.cache.caching(self._shards.location(0)):
            folder.path.mkdir(parents=True, exist_ok=True)
            with folder.locked():  # of two that begin at the same time the second one is refused
                self._told.enter_context(cache_needs.told(folder.path, self._need))
                others = cache_needs.of_others(folder.path)
        needed_bytes = cache_needs.together_bytes([*others, self._need])
        if needed_bytes > folder.limit_bytes:
            self._told.close()
            own_bytes = cache_needs.together_bytes([self._need])
            raise ConfigError(
                f"{folder.path}: input.cache_bytes is {folder.limit_bytes:,}; this training needs "
                f"{own_bytes:,} at a time (two blocks and {PASSING_SHARDS} shards), together with those that "
                f"read through this folder now ({len(others)}) {needed_bytes:,}: raise input.cache_bytes to "
                "that, lower input.shuffle_block_shards or wait for the others to end"
            )

    def _wait_for(self, number: int) -> None:
        first, last = self._block_span(number)
        with self._change:
            if number < self._oldest or number in self._done:
                raise ValueError(f"batch {number} is done; expected {self._oldest} or a later one")
            self._wants[number] = last, time.monotonic()
            try:
                while not all(self._is_there(block) for block in range(first, last + 1)):
                    self._raise_what_prevents(number, last)
                    self._change.wait(_POLL_S)
            finally:
                del self._wants[number]

    def _is_there(self, block: int) -> bool:
        return block in self._begun and self._there.issuperset(self._begun[block])

    def _raise_what_prevents(self, number: int, last: int) -> None:
        if self._closed:
            raise ValueError("the stream of blocks is closed")
        if self._fault and self._fault[0] <= last:
            raise self._fault[1]
        if 0 <= self._blocks_in_all <= last:
            raise ValueError(f"batch {number} needs block {last}; there are {self._blocks_in_all}")

    def _finish(self, number: int) -> None:
        with self._change:
            self._done.add(number)
            while self._oldest in self._done:
                self._done.remove(self._oldest)
                self._oldest += 1
            self._first_block, self._last_block = self._block_span(self._oldest)
            self._let_go([block for block in self._begun if block < self._first_block])
            self._change.notify_all()

    def _let_go(self, blocks: list[int]) -> None:
        for block in blocks:
            for shard in self._begun.pop(block):
                self._holders[shard] -= 1
                if not self._holders[shard]:
                    del self._holders[shard]
                    self._taken.discard(shard)
                    self._there.discard(shard)
                    self._shards.release(shard)

    def _run(self) -> None:
        """Fetch block after block, in the stream's own thread."""
        block = 0
        try:
            for shards in self._blocks:
                if not self._begin(block, shards) or not all(self._hold(block, shard) for shard in shards):
                    return
                block += 1
        except BaseException as error:  # raised by the batches that need the block
            self._fail(block, error)
        else:
            with self._change:
                self._blocks_in_all = block
                self._change.notify_all()

    def _begin(self, block: int, shards: tuple[int, ...]) -> bool:
        """Wait until a block's turn has come; tell whether to go on."""
        with self._change:
            self._change.wait_for(lambda: self._stopped() or block <= self._last_block + self._ahead)
            self._others_bytes = self._needed_by_others()
            # An epoch's last block may lie wholly in what fills no batch; nobody needs it then.
            if not self._stopped() and block >= self._first_block:
                self._begun[block] = shards
                self._holders.update(shards)
            return not self._stopped()

    def _hold(self, block: int, shard: int) -> bool:
        """Begin to fetch a shard as soon as there is room; tell whether to go on."""
        with self._change:
            self._change.wait_for(
                lambda: (
                    self._stopped()
                    or self._is_settled(block, shard)
                    or self._fits(shard, self._share_bytes())
                    or block <= self._last_block
                )
            )
            if self._stopped():
                return False
            if self._is_settled(block, shard):
                return True
            if not self._fits(shard, self._limit_bytes):
                raise ConfigError(
                    f"a batch touches {self._last_block - self._first_block + 1} blocks, and "
                    f"{self._limit_bytes:,} bytes of the cache are too few for them: raise input.cache_bytes"
                )
            self._taken.add(shard)
        return self._fetch(block, shard)

    def _is_settled(self, block: int, shard: int) -> bool:
        """Whether a shard has its room, or its block has been let go before it was needed."""
        return block not in self._begun or shard in self._taken

    def _needed_by_others(self) -> int:
        if self._shards.cache is None:
            return 0
        others = cache_needs.of_others(self._shards.cache.folder.path)
        return cache_needs.together_bytes([*others, self._need]) - cache_needs.together_bytes([self._need])

    def _share_bytes(self) -> int:
        """Room for blocks that may be taken ahead of the batches: what other trainings don't need."""
        return max(self._need.block_bytes, self._limit_bytes - self._others_bytes)

    def _fits(self, shard: int, limit_bytes: int) -> bool:
        taken_bytes = sum(self._size_bytes[taken] for taken in self._taken)
        return taken_bytes + self._size_bytes[shard] <= limit_bytes

    def _fetch(self, block: int, shard: int) -> bool:
        while True:
            try:
                claim = self._shards.hold(shard, _POLL_S)
                break
            except CacheFullError:  # other processes', or passes over other splits
                if self._waited_s(block) > shard_cache.WAIT_S:
                    raise
                self._note_wait(block)
                with self._change:
                    if self._stopped():
                        return False
                    self._change.wait(_POLL_S)
        with self._change:
            if claim is None:
                self._there.add(shard)
                self._change.notify_all()
                return not self._stopped()
            self._claims.add(claim)
        self._slots.acquire()
        threading.Thread(target=self._complete, args=(block, shard, claim), daemon=True).start()
        return True

    def _complete(self, block: int, shard: int, claim: Claim) -> None:
        """Wait for a shard, in a thread of its own."""
        try:
            if self._closed:
                claim.stop()
            self._shards.finish_hold(shard, claim)
            with self._change:
                if shard in self._holders:
                    self._there.add(shard)
                else:
                    self._shards.drop_unless_held(shard)
        except BaseException as error:  # raised by the batches that need the block
            self._fail(block, error)
        finally:
            self._slots.release()
            with self._change:
                self._claims.remove(claim)
                self._change.notify_all()

    def _fail(self, block: int, error: BaseException) -> None:
        with self._change:
            if self._fault is None or block < self._fault[0]:
                self._fault = block, error
            self._change.notify_all()

    def _stopped(self) -> bool:
        return self._closed or self._fault is not None

    def _note_wait(self, block: int) -> None:
        if self._noted or self._waited_s(block) < _NOTE_AFTER_S or self._shards.cache is None:
            return
        self._noted = True
        folder = self._shards.cache.folder
        print(
            f"note: {folder.path}: a batch waits for room; others have in use what it needs of "
            f"the {folder.limit_bytes:,} bytes; more input.cache_bytes would spare the wait",
            file=sys.stderr,
            flush=True,
        )

    def _waited_s(self, block: int) -> float:
        """Return for how long a batch has waited for a block."""
        with self._change:
            since_s = [since for last, since in self._wants.values() if last >= block]
            return time.monotonic() - min(since_s) if since_s else 0.0


def _peek(
    blocks: Iterable[tuple[int, ...]], count: int
) -> tuple[list[tuple[int, ...]], Iterator[tuple[int, ...]]]:
    """Return the first items, and all of them."""
    rest = iter(blocks)
    first = list(itertools.islice(rest, count))
    return first, itertools.chain(first, rest)


def _room(shards: MappedShards, block_shards: int) -> tuple[int, Need]:
    """Return how many bytes of the cache the blocks may take, and what they need at least."""
    if shards.cache is None:
        raise ValueError("the shards are local; they need no stream")
    limit_bytes = shards.cache.folder.limit_bytes - shards.passing_bytes
    largest = sorted(shards.size_bytes, reverse=True)

    def needed_bytes(count: int) -> int:
        return min(2 * sum(largest[:count]), sum(largest))

    if needed_bytes(block_shards) <= limit_bytes:
        return limit_bytes, Need(
            shards.fingerprint, sum(largest), needed_bytes(block_shards), shards.passing_bytes
        )
    fitting = [count for count in range(1, block_shards) if needed_bytes(count) <= limit_bytes]
    or_fewer = f", or set input.shuffle_block_shards to {fitting[-1]}" if fitting else ""
    raise ConfigError(
        f"input.cache_bytes is {shards.cache.folder.limit_bytes:,}; two blocks of {block_shards} shards and "
        f"{PASSING_SHARDS} shards more take {needed_bytes(block_shards) + shards.passing_bytes:,} bytes: "
        f"raise it to that{or_fewer}"
    )
