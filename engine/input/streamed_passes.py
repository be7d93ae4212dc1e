"""The stream of shards behind each pass over a remote data set's training batches.

tf.data may be iterated more than once, each time from the first batch on; each pass has a stream of blocks of
its own, and only the latest one is read.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator

import numpy as np

from engine.input.block_stream import BlockStream
from engine.input.order import EpochOrder
from engine.input.reader import ShardReader
from records.errors import CxrError


class StreamedPasses:
    """Keeps the blocks of an order flowing in ahead of its batches; threads may share it.

    The first pass begins to fetch when this is made, so that its first block comes in while the model is
    built. Closing the reader ends it.
    """

    def __init__(
        self,
        reader: ShardReader,
        order: EpochOrder,
        global_batch: int,
        first_batch: int,
        end_batch: int | None = None,
    ) -> None:
        """Begin to fetch.

        Args:
            reader: of a remote data set.
            order: of the same split.
            global_batch: records a step, over all devices.
            first_batch: the run's batches are counted through its epochs, from 0; this one comes first.
            end_batch: the first one that doesn't come any more; None: there is no end.

        Raises:
            ConfigError: the blocks don't fit into the cache.
        """
        self._reader, self._order, self._global_batch = reader, order, global_batch
        self._first_batch, self._end_batch = first_batch, end_batch
        self._steps = order.steps_per_epoch(global_batch)
        self._lock = threading.Lock()
        self._pass, self._begun = 0, False
        self._stream = self._new_stream()
        reader.close_before(self.close)

    def begin(self) -> np.ndarray:
        """Begin a pass: return its number, () int64, and end the one before."""
        with self._lock:
            if self._begun:
                self._stream.close()
                self._stream = self._new_stream()
                self._pass += 1
            self._begun = True
            return np.int64(self._pass)

    @contextlib.contextmanager
    def batch(self, pass_number: int, number: int) -> Iterator[None]:
        """Have a batch's shards mapped inside the block.

        Raises:
            CxrError: one of them can't be fetched; it becomes the reader's fault, as one of `gather` does.
            ValueError: another pass has begun.
        """
        with self._lock:
            if pass_number != self._pass:
                raise ValueError(f"pass {pass_number} has ended; this is pass {self._pass}")
            stream = self._stream
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(stream.batch(number))
            except CxrError as error:
                self._reader.fault = self._reader.fault or error
                raise
            yield

    def close(self) -> None:
        """Stop fetching."""
        with self._lock:
            self._stream.close()

    def _new_stream(self) -> BlockStream:
        first_block = self._span(self._first_batch)[0]
        per_epoch = self._order.blocks_per_epoch
        end_block = None if self._end_batch is None else self._span(self._end_batch - 1)[1] + 1

        def blocks() -> Iterator[tuple[int, ...]]:
            for number in itertools.count(first_block):
                if end_block is not None and number >= end_block:
                    return
                epoch, block = divmod(number, per_epoch)
                yield self._order.blocks(epoch)[block]

        def span(number: int) -> tuple[int, int]:
            first, last = self._span(number)
            return first - first_block, last - first_block

        return BlockStream(self._reader.shards, blocks(), span, first_batch=self._first_batch)

    def _span(self, number: int) -> tuple[int, int]:
        """Return a batch's first and last block, counted through all epochs."""
        epoch, step = divmod(number, self._steps)
        first, last = self._order.block_span(epoch, step, self._global_batch)
        before = epoch * self._order.blocks_per_epoch
        return before + first, before + last
