"""Work items in a folder of this machine: its worker processes take them, whoever is free the next.

Beam's local runner gives each worker a fixed share of the items before the first one is begun, so all would
wait for the slowest worker; and the items would go through Beam's job and data plane before that.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

_SUFFIX = ".item"


def fill(folder: Path, items: Sequence[Any]) -> None:
    """Put the items there, to be taken in their order."""
    for number, item in enumerate(items):
        (folder / f"{number:08d}{_SUFFIX}").write_bytes(pickle.dumps(item, pickle.HIGHEST_PROTOCOL))


def take_turn(work: Callable[[Any], str], folder: str, turn: bytes) -> Iterator[str]:  # noqa: ARG001
    """Do the work of one item after the other that no other worker has begun, until none is left.

    Args:
        work: done with each item.
        folder: where the items are.
        turn: whatever; Beam deals out turns in place of items.

    Yields:
        What `work` returns.

    Raises:
        Exception: what `work` raises. The items that nobody has begun are taken away then, so that the other
            workers stop soon.
    """
    for waiting in sorted(Path(folder).glob(f"*{_SUFFIX}")):
        taken = waiting.with_suffix(f".{os.getpid()}")
        try:
            waiting.rename(taken)  # only one worker can
        except FileNotFoundError:
            continue
        item = pickle.loads(taken.read_bytes())
        try:
            result = work(item)
        except BaseException:
            _clear(folder)
            raise
        yield result


def _clear(folder: str) -> None:
    for waiting in Path(folder).glob(f"*{_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            waiting.unlink()
