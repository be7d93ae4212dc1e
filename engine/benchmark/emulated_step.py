"""An emulated accelerator: how much of its time a device that takes so long a batch would be at work.

As MLPerf Storage does it: the step is a sleep, begun when its batch is there, and utilisation is the time
slept by wall clock, from the arrival of the first batch on. How long that took is told apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LOCAL_GOAL, REMOTE_GOAL = 0.98, 0.95


@dataclass(frozen=True, kw_only=True)
class Utilisation:
    """How busy the emulated device was; shares are of wall time, None where not measured.

    Attributes:
        step_ms: of each global batch, in milliseconds.
        first_batch_s: from asking for the first batch to having it, in seconds.
        first_epoch_steps: that were run in the first epoch, in which shards are fetched and checked.
        steps_per_epoch: of the data set.
        first_epoch_share: of the device's time at work then.
        first_epoch_goal_share: that is wanted.
        later_steps: that were run after the first epoch.
        later_share: of the device's time at work then.
        later_goal_share: that is wanted.
    """

    step_ms: float
    first_batch_s: float
    first_epoch_steps: int
    steps_per_epoch: int
    first_epoch_share: float
    first_epoch_goal_share: float
    later_steps: int = 0
    later_share: float | None = None
    later_goal_share: float = LOCAL_GOAL


def emulate(
    batches: Iterator[Any], *, steps_per_epoch: int, step_ms: float, seconds: float, first_goal_share: float
) -> Utilisation:
    """Drive the input as a device would.

    Args:
        batches: the endless stream, at the start of an epoch.
        steps_per_epoch: of the stream.
        step_ms: that the device takes a batch.
        seconds: for the first epoch, and again for what follows; a first epoch that takes longer is cut
            off, and nothing follows it.
        first_goal_share: of the device's time at work in the first epoch, that is wanted.
    """
    asked = time.perf_counter()
    next(batches)
    first_batch_s = time.perf_counter() - asked
    first_steps, first_share = _run(batches, steps_per_epoch, step_ms / 1000, seconds, has_batch=True)
    later_steps, later_share = 0, None
    if first_steps == steps_per_epoch:
        # Until the time is over, however often the epoch ends meanwhile.
        later_steps, later_share = _run(batches, None, step_ms / 1000, seconds, has_batch=False)
    return Utilisation(
        step_ms=step_ms,
        first_batch_s=first_batch_s,
        first_epoch_steps=first_steps,
        steps_per_epoch=steps_per_epoch,
        first_epoch_share=first_share,
        first_epoch_goal_share=first_goal_share,
        later_steps=later_steps,
        later_share=later_share,
    )


def _run(
    batches: Iterator[Any], most: int | None, step_s: float, seconds: float, *, has_batch: bool
) -> tuple[int, float]:
    """Return the steps run, at least one, and the share of the wall time that they took."""
    start, steps, slept_s = time.perf_counter(), 0, 0.0
    while not steps or (steps != most and time.perf_counter() - start < seconds):
        if steps or not has_batch:
            next(batches)
        begun = time.perf_counter()
        time.sleep(step_s)
        slept_s += time.perf_counter() - begun
        steps += 1
    return steps, slept_s / (time.perf_counter() - start)
