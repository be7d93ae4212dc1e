"""Rates by timed windows over streams of batches: how anything in this package is measured.

Protocol. Candidates are measured in turn, round after round (a, b, c, a, b, c, ...), so that what else the
machine does falls on all alike. In each round a candidate begins anew and warms up unmeasured: at least
`WARM_UP_BATCHES` batches and a quarter of its window, which fills its buffers and lets TensorFlow's tuner
settle. Then whole batches are counted until the window is over. The rate is images by wall clock;
CPU-seconds are user and system time of all threads of the process (`time.process_time`). Both are medians
over the rounds; the spread is the lowest and highest rate.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

ROUNDS = 3
WARM_UP_BATCHES = 4

# An endless stream of batches, each told by its number of images; what closes it lets go of what it holds.
Images = Generator[float, None, None]
# Begins a candidate anew in the round of this number.
Start = Callable[[int], Images]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What one candidate reached; the numbers are None where it couldn't be measured, for the reason given.

    Attributes:
        name: of the candidate.
        images_per_s: median over the rounds.
        lowest_images_per_s: of the rounds.
        highest_images_per_s: of the rounds.
        cpu_s_per_1000: CPU-seconds per 1,000 images, median over the rounds.
        images: measured in all.
        not_measured: why not; empty if it was.
    """

    name: str
    images_per_s: float | None = None
    lowest_images_per_s: float | None = None
    highest_images_per_s: float | None = None
    cpu_s_per_1000: float | None = None
    images: int = 0
    not_measured: str = ""


@dataclass(frozen=True)
class Window:
    """What one candidate did in one round."""

    images: float
    wall_s: float
    cpu_s: float


def measure(starts: Mapping[str, Start], seconds: float, rounds: int = ROUNDS) -> dict[str, Rate]:
    """Measure candidates as the module's protocol says.

    Args:
        starts: the candidates by name.
        seconds: measured for each, over all rounds.
        rounds: of all candidates in turn.
    """
    windows: dict[str, list[Window]] = {name: [] for name in starts}
    for number in range(rounds):
        for name, start in starts.items():
            with contextlib.closing(start(number)) as batches:
                windows[name].append(_window(batches, seconds / rounds))
    return {name: rate(name, measured) for name, measured in windows.items()}


def rate(name: str, windows: list[Window]) -> Rate:
    """Sum up a candidate's rounds."""
    rates = [window.images / window.wall_s for window in windows]
    return Rate(
        name=name,
        images_per_s=statistics.median(rates),
        lowest_images_per_s=min(rates),
        highest_images_per_s=max(rates),
        cpu_s_per_1000=statistics.median(1000 * window.cpu_s / window.images for window in windows),
        images=round(sum(window.images for window in windows)),
    )


def in_threads(work: Callable[[int], float], first: int, threads: int) -> Images:
    """Yield what `work` returns for `first`, `first` + 1, ..., in order and `threads` at a time, without end.

    As many again wait, so that a thread that is done finds the next at once. Closing waits for those at work.
    """
    numbers = itertools.count(first)
    with ThreadPoolExecutor(threads) as pool:
        ahead = deque(pool.submit(work, next(numbers)) for _ in range(2 * threads))
        try:
            while True:
                done = ahead.popleft().result()
                ahead.append(pool.submit(work, next(numbers)))
                yield done
        finally:
            for waiting in ahead:
                waiting.cancel()


def _window(batches: Images, seconds: float) -> Window:
    start, warm_up = time.perf_counter(), 0
    while warm_up < WARM_UP_BATCHES or time.perf_counter() - start < seconds / 4:
        next(batches)
        warm_up += 1
    images, start, cpu_start = 0.0, time.perf_counter(), time.process_time()
    while not images or time.perf_counter() - start < seconds:
        images += next(batches)
    return Window(images, time.perf_counter() - start, time.process_time() - cpu_start)
