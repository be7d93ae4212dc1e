"""Shards of a remote split that a pass over it will open next, fetched while it works on those before.

They are fetched in the pass's order, as many ahead as two of training's usual blocks and only into room that
nobody uses, and stay in use until the pass takes them. Who takes a shard meets the fault of its fetch. Blocks
of training are `block_stream`'s business, and what is done with a copy `mapped_shards`'.
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
from collections.abc import Callable, Sequence

from engine.input.shard_cache import CacheFullError, Claim
from records.errors import CxrError

SHARDS_AHEAD = 16
_POLL_S = 0.1


class ComingShard:
    """A copy on its way; a thread of its own finishes it, so that other processes soon find it there."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._descriptor: concurrent.futures.Future[int] = concurrent.futures.Future()
        threading.Thread(target=self._run, name="shard-ahead", daemon=True).start()

    def finish(self) -> int:
        """Return a descriptor of the copy, and raise, as `Claim.finish` does."""
        return self._descriptor.result()

    def stop(self) -> None:
        """Let `finish` raise instead of waiting for more bytes."""
        self._claim.stop()

    def let_go(self) -> None:
        """Have the copy out of use, now or as soon as it has come."""
        self._descriptor.add_done_callback(_close)

    def _run(self) -> None:
        try:
            self._descriptor.set_result(self._claim.finish())
        except BaseException as error:  # raised by whoever takes the shard
            self._descriptor.set_exception(error)


class ShardsAhead:
    """The shards that one pass will take; threads may share it."""

    def __init__(self, shards: Sequence[int], claim: Callable[[int], Claim]) -> None:
        """Begin to fetch.

        Args:
            shards: in the order in which the pass opens them, each named once.
            claim: finds a shard's copy or begins to fetch it; raises a CacheFullError where there is no room
                at this moment.
        """
        self._shards = tuple(shards)
        self._places = {shard: place for place, shard in enumerate(self._shards)}
        self._claim = claim
        self._change = threading.Condition()
        self._coming: dict[int, ComingShard] = {}
        self._reached = 0  # places before this one have been taken
        self._closed = False
        if self._shards:
            threading.Thread(target=self._run, name="shards-ahead", daemon=True).start()

    def take(self, shard: int) -> ComingShard | None:
        """Return a shard that the pass has come to, which is then the caller's; None: it wasn't begun."""
        with self._change:
            self._reached = max(self._reached, self._places.get(shard, -1) + 1)
            self._change.notify_all()
            return self._coming.pop(shard, None)

    def give_way(self) -> bool:
        """Let go of the shard that is needed last; tell whether there was one."""
        with self._change:
            if not self._coming:
                return False
            coming = self._coming.pop(max(self._coming, key=self._places.__getitem__))
        coming.stop()
        coming.let_go()
        return True

    def close(self) -> None:
        """Stop the fetches and let go of all that wasn't taken."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        while self.give_way():
            pass

    def _run(self) -> None:
        for place, shard in enumerate(self._shards):
            with self._change:
                while not self._is_past(place):
                    if place >= self._reached + SHARDS_AHEAD:
                        self._change.wait()
                    elif self._begin(shard):
                        break
                    else:
                        self._change.wait(_POLL_S)

    def _begin(self, shard: int) -> bool:
        """Begin to fetch a shard; tell whether there was room."""
        try:
            self._coming[shard] = ComingShard(self._claim(shard))
        except CacheFullError:
            return False
        except CxrError:  # the pass meets the same fault when it comes to the shard
            pass
        return True

    def _is_past(self, place: int) -> bool:
        return self._closed or place < self._reached


def _close(descriptor: concurrent.futures.Future[int]) -> None:
    if descriptor.exception() is None:
        os.close(descriptor.result())
