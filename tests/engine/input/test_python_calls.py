"""No thread of tf.data is inside Python when the interpreter ends, where it would never come back from."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine.input import python_calls
from engine.input.shard_cache import CacheSettings, ShardCache

PROGRAM = Path(__file__).with_name("ending_program.py")


def end_of(*arguments: str) -> list[str]:
    """Return what the program said when it had ended."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_process_ends_when_the_batch_under_way_is_whole(data_set, folder) -> None:
    said = end_of(data_set.location, str(folder), "0.5")
    assert said[:3] == ["gathered", "ending", "gathered"]


def test_a_process_ends_while_a_batch_waits_for_a_shard(remote_set, folder) -> None:
    file = remote_set.splits["train"].shards[1]
    cache = ShardCache(CacheSettings(folder, 1 << 20))
    descriptor = cache.folder.reserve(file)  # as if this process fetched it, and never came to an end
    assert descriptor is not None
    assert end_of(remote_set.location, str(folder), "0") == ["gathered", "ending"]
    cache.folder.discard(file, descriptor)


def test_the_end_waits_for_a_call_but_not_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    left, entered = threading.Event(), threading.Event()

    def call() -> None:
        with python_calls.counted():
            entered.set()
            left.wait()

    caller = threading.Thread(target=call)
    caller.start()
    entered.wait()
    monkeypatch.setattr(python_calls, "_WAIT_S", 0.2)
    python_calls.wait_for_the_last()
    assert caller.is_alive()
    monkeypatch.setattr(python_calls, "_WAIT_S", 20.0)
    threading.Timer(0.2, left.set).start()
    python_calls.wait_for_the_last()
    assert left.is_set()
    caller.join()
