"""What takes batches, the same for every candidate: as fast as they come, or at the pace of an emulated step.

A candidate's program is called with one JSON argument (`Job`) and prints one line of JSON (`Taken`) at its
end. This module needs nothing but the standard library, so peers in environments of their own use it, too.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Job:
    """What a candidate is asked for.

    Attributes:
        source: where its files lie: `s3://bucket/prefix`.
        folder: an empty local folder for its cache.
        images: records in the split.
        batch: records in a batch.
        block_shards: shards that this project's input shuffles together.
        step_ms: how long each batch is worked on; 0: not at all.
        epochs: how often the split is gone through.
    """

    source: str
    folder: str
    images: int
    batch: int
    block_shards: int
    step_ms: float = 0.0
    epochs: int = 1

    def to_json(self) -> str:
        """Return the argument of a candidate's program."""
        return json.dumps(asdict(self))


@dataclass
class Taken:
    """What one epoch, or a fetch of its bytes, took.

    Attributes:
        images: that came.
        size_bytes: of what came from the store, where the candidate knows.
        open_s: from nothing but imports to the data set being open: manifest and index read, say.
        wall_s: from the call for the first batch to the end of the last one.
        first_batch_s: of that, until the first batch was there.
        wait_s: of that, spent without a batch to work on.
        cpu_s: user and system time of the process and of its children that have ended.
        gets: requests for objects that the server answered meanwhile, where they were counted.
    """

    images: int = 0
    size_bytes: int = 0
    open_s: float = 0.0
    wall_s: float = 0.0
    first_batch_s: float = 0.0
    wait_s: float = 0.0
    cpu_s: float = 0.0
    gets: int | None = None


def job() -> Job:
    """Return what this process is asked for."""
    return Job(**json.loads(sys.argv[1]))


def say(epochs: Iterable[Taken]) -> None:
    """Print what each epoch took."""
    print(json.dumps([asdict(taken) for taken in epochs]), flush=True)


def cpu_s() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def take(batches: Iterable, step_ms: float, most: int | None = None) -> Taken:
    """Take batches of (images, ...) until they end, or until there were `most`.

    Args:
        batches: each a sequence whose first member has as many rows as images.
        step_ms: how long each is worked on; 0: not at all.
        most: batches in an epoch where `batches` has no end.
    """
    taken, begin = Taken(), time.perf_counter()
    cpu_before, asked = cpu_s(), begin
    for number, batch in enumerate(batches, start=1):
        came = time.perf_counter()
        taken.wait_s += came - asked
        if number == 1:
            taken.first_batch_s = came - begin
        taken.images += len(batch[0])
        if step_ms:
            time.sleep(max(0.0, came + step_ms / 1000 - time.perf_counter()))
        asked = time.perf_counter()
        if number == most:
            break
    taken.wall_s = time.perf_counter() - begin
    taken.cpu_s = cpu_s() - cpu_before
    return taken
