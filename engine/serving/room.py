"""How many requests, and how many bytes of them, are taken on at one time: at once, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engine.serving.faults import busy


class Room:
    """Counts what is taken on; threads may share it.

    Args:
        most: that fits, in whatever unit `taken` counts.
    """

    def __init__(self, most: int) -> None:
        self._most, self._used = most, 0
        self._changing = threading.Lock()

    @property
    def used(self) -> int:
        """How much is taken now."""
        return self._used

    def take(self, amount: int = 1) -> None:
        """Take room; `give_back` must follow.

        Raises:
            RequestError: 503, there is too little left.
        """
        with self._changing:
            if self._used + amount > self._most:
                raise busy()
            self._used += amount

    def give_back(self, amount: int = 1) -> None:
        """Give back what was taken."""
        with self._changing:
            self._used -= amount

    @contextmanager
    def taken(self, amount: int = 1) -> Iterator[None]:
        """Take room for as long as the block runs; see `take`."""
        self.take(amount)
        try:
            yield
        finally:
            self.give_back(amount)
