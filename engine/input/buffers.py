"""Reused memory for batches: taking it fresh from the system each time costs more than the gather itself."""

from __future__ import annotations

import collections
import mmap
import weakref

import numpy as np

# The buffers in flight are the prefetched, the gathered and the consumed ones; more than this lie idle.
IDLE_BUFFERS = 8


class Buffers:
    """Memory for batches of at most `records` images of (S, S, C) bytes; threads may share it.

    A buffer comes back when the last array or tensor that uses it is gone. That rests on CPython's reference
    counts: an array ends with its last view, at once. An interpreter that collects later would only reuse
    less, but one that ends an array before its views would have batches written over.
    """

    def __init__(self, records: int, image_shape: tuple[int, int, int]) -> None:
        self._shape = (records, *image_shape)
        self._bytes = int(np.prod(self._shape))
        self._idle: collections.deque[mmap.mmap] = collections.deque(maxlen=IDLE_BUFFERS)

    @property
    def idle(self) -> int:
        """The number of buffers that wait to be used again."""
        return len(self._idle)

    def take(self, records: int) -> np.ndarray:
        """Return (records, S, S, C) uint8 of any content that nobody else uses."""
        try:
            memory = self._idle.pop()
        except IndexError:
            # A mapping begins at a page, so TensorFlow finds it aligned and doesn't copy it.
            memory = mmap.mmap(-1, max(1, self._bytes))
        whole = np.frombuffer(memory, np.uint8)
        # Every view keeps this array alive, so its end is the end of all of them.
        weakref.finalize(whole, self._give_back, memory).atexit = False
        return whole[: self._bytes].reshape(self._shape)[:records]

    def close(self) -> None:
        """Let go of the idle buffers, and of each one in use when its use ends."""
        # Another queue, rather than an emptied one: a buffer that comes back meanwhile goes with the old one.
        self._idle = collections.deque(maxlen=0)

    def _give_back(self, memory: mmap.mmap) -> None:
        self._idle.append(memory)
