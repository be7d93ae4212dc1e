"""Objects from a store into local files: ranges of all of them in parallel through one pool, with retries.

A range that breaks off is asked for again from the byte on that it has come to, with a growing, random pause,
until no byte has come for a while; then the whole transfer fails with one error. A store that is silent is
told of before that. Where files lie, how much may lie there and whether they are the manifest's is
`shard_cache`'s business.

The client is obstore: from a loopback server on two cores 1.4 GB/s at 0.7 CPU-s a GB, as boto3 in threads; by
TLS 1.0 GB/s at 1.3, where boto3 reached 0.5 at 2.9. boto3's CRT client: 0.4 to 1.0 GB/s at 1.0 to 2.5, plain.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import functools
import os
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from engine.input import object_ranges
from engine.input.shard_check import check_size
from records.errors import CxrError, StorageError
from records.manifest import StoredFile

RANGE_BYTES = 8 << 20
IN_FLIGHT = 16
# Without a byte for this long a request is given up and made again, and a range fails.
STALL_S = 20.0
DEADLINE_S = 90.0
# Without a byte of any range for this long, a line says so.
NOTE_AFTER_S = 10.0
_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 8.0
# Its own: who seeds Python's generator to build a network must not be disturbed by a pause meanwhile.
_random = random.Random()


class FetchStoppedError(StorageError):
    """A transfer was stopped before its end, because nobody needs it any more."""


class Transfer:
    """An object on its way into a file, whose descriptor stays the caller's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, location: str) -> None:
        self._loop, self._location = loop, location
        self._ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._task: asyncio.Task[None] | None = None

    def wait(self) -> None:
        """Return when all bytes are in the file; once this has returned or raised, none is written.

        Raises:
            ShardError: the object is missing or of another size.
            StorageError: it can't be read or written, or the transfer was stopped.
        """
        try:
            self._ended.result()
        except BaseException:
            # Where the wait itself was interrupted, the transfer still runs.
            self.stop()
            concurrent.futures.wait([self._ended])
            raise

    def stop(self) -> None:
        """End the transfer as soon as possible; `wait` raises then. It may have ended already."""
        with contextlib.suppress(RuntimeError):  # the loop ended with the process
            self._loop.call_soon_threadsafe(self._cancel)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Start the transfer; called in the loop's thread."""
        self._task = self._loop.create_task(work)
        self._task.add_done_callback(self._end)

    def _cancel(self) -> None:
        if self._task:
            self._task.cancel()

    def _end(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self._ended.set_exception(FetchStoppedError(f"{self._location}: the fetch was stopped"))
        elif error := task.exception():
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)


class Fetcher:
    """One pool of range requests for any number of transfers, run by a thread of its own.

    The ranges of a transfer that was started earlier come first.

    Args:
        in_flight: ranges at once.
        stall_s: seconds without a byte after which a request is made again.
        deadline_s: seconds without a byte after which a range, and with it its transfer, fails.
        note_after_s: seconds without a byte of any range after which a line on stderr says so, once until
            bytes come again.
    """

    def __init__(
        self,
        in_flight: int = IN_FLIGHT,
        stall_s: float = STALL_S,
        deadline_s: float = DEADLINE_S,
        note_after_s: float = NOTE_AFTER_S,
    ) -> None:
        self._stall_s, self._deadline_s, self._note_after_s = stall_s, deadline_s, note_after_s
        self._note: asyncio.TimerHandle | None = None
        self._reading: dict[str, int] = {}  # ranges under way of each location, the oldest first
        self._last_error: Exception | None = None
        self._slots = asyncio.Semaphore(in_flight)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fetch", daemon=True)
        self._thread.start()
        self._process_id = os.getpid()
        # Threads that are alive when the interpreter ends must not be called back by the client.
        atexit.register(self.close)

    def start(self, location: str, file: StoredFile, descriptor: int) -> Transfer:
        """Begin to copy an object into a file that has its size already.

        Args:
            location: of the object.
            file: what the manifest says of it.
            descriptor: of the file, open for writing until the transfer has ended.
        """
        transfer = Transfer(self._loop, location)
        self._loop.call_soon_threadsafe(lambda: transfer.begin(self._copy(location, file, descriptor)))
        return transfer

    def close(self) -> None:
        """End all transfers and the thread."""
        atexit.unregister(self.close)
        if self._loop.is_closed() or os.getpid() != self._process_id:  # a forked child lacks the thread
            return
        asyncio.run_coroutine_threadsafe(_end_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _copy(self, location: str, file: StoredFile, descriptor: int) -> None:
        ranges = [
            asyncio.create_task(
                self._copy_range(location, file, descriptor, start, min(start + RANGE_BYTES, file.size_bytes))
            )
            for start in range(0, file.size_bytes, RANGE_BYTES)
        ]
        try:
            await asyncio.gather(*ranges)
        finally:
            for task in ranges:
                task.cancel()
            await asyncio.gather(*ranges, return_exceptions=True)

    async def _copy_range(
        self, location: str, file: StoredFile, descriptor: int, start: int, end: int
    ) -> None:
        async with self._slots, self._watched(location):
            progress_s, failures = self._loop.time(), 0
            while start < end:
                within_s = progress_s + self._deadline_s - self._loop.time()
                came_to, error = await self._copy_part(location, file, descriptor, start, end, within_s)
                if came_to > start:
                    start, progress_s, failures = came_to, self._loop.time(), 0
                if error is None:
                    continue
                self._last_error = error
                failures += 1
                pause_s = _random.uniform(0.5, 1) * min(_LONGEST_PAUSE_S, _PAUSE_S * 2**failures)
                if self._loop.time() + pause_s > progress_s + self._deadline_s:
                    raise StorageError(
                        f"{location}: can't be fetched: {object_ranges.cause(error)}; no byte from {start:,} "
                        f"on in {self._loop.time() - progress_s:.0f} s and {failures} attempts"
                    ) from error
                await asyncio.sleep(pause_s)

    @contextlib.asynccontextmanager
    async def _watched(self, location: str) -> AsyncIterator[None]:
        """Have a line said when no byte comes for a while inside the block."""
        if not self._reading:
            self._watch_anew()
        self._reading[location] = self._reading.get(location, 0) + 1
        try:
            yield
        finally:
            self._reading[location] -= 1
            if not self._reading[location]:
                del self._reading[location]
            if not self._reading and self._note:
                self._note.cancel()

    def _watch_anew(self) -> None:
        if self._note:
            self._note.cancel()
        self._last_error = None
        self._note = self._loop.call_later(self._note_after_s, self._tell)

    def _tell(self) -> None:
        rest_s = self._deadline_s - self._note_after_s
        why = object_ranges.cause(self._last_error) if self._last_error else "no answer yet"
        print(
            f"note: {next(iter(self._reading))}: nothing has come from the store for "
            f"{self._note_after_s:.0f} s ({why}); it is asked again until "
            f"{time.strftime('%H:%M:%S', time.localtime(time.time() + rest_s))}, for {rest_s:.0f} s more",
            file=sys.stderr,
            flush=True,
        )

    async def _copy_part(
        self, location: str, file: StoredFile, descriptor: int, start: int, end: int, within_s: float
    ) -> tuple[int, Exception | None]:
        """Copy what one request gives; return the byte that it came to, and why it ended before `end`."""
        position = start
        try:
            pieces = object_ranges.pieces(location, start, end, self._stall_s, within_s)
            async with contextlib.aclosing(pieces):
                async for size_bytes, piece in pieces:
                    if size_bytes is not None:
                        check_size(size_bytes, file, location)
                    position = _write(descriptor, piece, position, location)
                    self._watch_anew()
        except FileNotFoundError:
            check_size(None, file, location)
        except CxrError:
            raise
        except Exception as error:  # the client's errors share no class that leaves out none
            return position, error
        return position, None if position == end else EOFError("the answer ended early")


@functools.cache
def _shared(process_id: int) -> Fetcher:  # noqa: ARG001 - a forked child has no thread of its parent
    return Fetcher()


def shared() -> Fetcher:
    """Return this process's pool of range requests."""
    return _shared(os.getpid())


def _write(descriptor: int, piece: Any, position: int, location: str) -> int:
    """Write all of a piece and return the position behind it."""
    # The write is short, and another thread for it would cost more than it saves.
    rest = memoryview(piece)
    try:
        while rest:
            count = os.pwrite(descriptor, rest, position)
            rest, position = rest[count:], position + count
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageError(f"{location}: its local copy can't be written: {reason}") from error
    return position


async def _end_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
