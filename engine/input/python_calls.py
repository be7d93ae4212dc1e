"""The calls that tf.data's threads make into Python: none may be under way when the interpreter ends.

It ends a thread that wants its lock then, in the middle of what TensorFlow waits for where an iterator is
still alive, and the process would never end. So its end waits until the last call has come back, which a
fetch that hangs would put off: the readers of remote data sets are closed before.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
import weakref
from collections.abc import Iterator

from engine.input.reader import ShardReader

# Without a call for this long tf.data has all the batches that it was to have ready.
_QUIET_S = 0.05
_WAIT_S = 10.0

_change = threading.Condition()
_under_way = 0
_last_s = 0.0
_remote_readers: weakref.WeakSet[ShardReader] = weakref.WeakSet()


def close_at_end(reader: ShardReader) -> None:
    """Have the reader of a remote data set closed when the process ends, so that no call waits for bytes."""
    if reader.is_remote:
        _remote_readers.add(reader)


@contextlib.contextmanager
def counted() -> Iterator[None]:
    """Have the end of the process wait for the block."""
    global _under_way, _last_s
    with _change:
        _under_way += 1
    try:
        yield
    finally:
        with _change:
            _under_way -= 1
            _last_s = time.monotonic()


@atexit.register
def wait_for_the_last() -> None:
    """Close the readers of remote data sets, and return when no call is made any more, or in some seconds."""
    for reader in list(_remote_readers):
        reader.close()
    deadline_s = time.monotonic() + _WAIT_S
    while not _is_quiet() and time.monotonic() < deadline_s:
        time.sleep(_QUIET_S / 10)


def _is_quiet() -> bool:
    with _change:
        return not _under_way and time.monotonic() >= _last_s + _QUIET_S
