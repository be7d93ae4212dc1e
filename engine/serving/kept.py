"""A few things kept in memory for some minutes: the least recently used goes first, and all go in time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """A bounded store; for one thread.

    Args:
        most: things that are kept.
        seconds: after which a thing goes, however often it was asked for.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._things: OrderedDict[Hashable, tuple[float, T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._things)

    def put(self, key: Hashable, thing: T) -> None:
        """Keep a thing."""
        self.drop_old()
        self._things[key] = (time.monotonic() + self._seconds, thing)
        self._things.move_to_end(key)
        if len(self._things) > self._most:
            self._things.popitem(last=False)

    def get(self, key: Hashable) -> T | None:
        """Return a thing that is still kept."""
        self.drop_old()
        if key not in self._things:
            return None
        self._things.move_to_end(key)
        return self._things[key][1]

    def drop_old(self) -> None:
        """Let go of what had its time."""
        now = time.monotonic()
        for key in [key for key, (until, _) in self._things.items() if until <= now]:
            del self._things[key]
