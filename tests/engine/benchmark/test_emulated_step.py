"""The emulated accelerator: which steps it runs, and how its time at work is told."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from engine.benchmark import emulated_step
from engine.benchmark.emulated_step import Utilisation


class Clock:
    """A clock by which only sleeping takes time."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(emulated_step, "time", clock)
    return clock


def batches(clock: Clock, takes_s: float) -> Iterator[int]:
    for number in itertools.count():
        clock.sleep(takes_s)
        yield number


def emulate(stream: Iterator[int], *, steps_per_epoch: int, seconds: float) -> Utilisation:
    return emulated_step.emulate(
        stream, steps_per_epoch=steps_per_epoch, step_ms=75, seconds=seconds, first_goal_share=0.98
    )


def test_an_input_that_is_ready_keeps_the_device_at_work(clock: Clock) -> None:
    found = emulate(batches(clock, 0.0), steps_per_epoch=5, seconds=10)
    assert found.first_epoch_steps == found.steps_per_epoch == 5
    assert found.first_epoch_share == found.later_share == 1
    assert found.later_steps == 134  # of 75 ms each, until 10 s are over
    assert found.first_batch_s == 0


def test_waiting_counts_from_the_first_batch_on(clock: Clock) -> None:
    # Four steps of 75 ms and three waits of 25 ms; then as many waits as steps.
    found = emulate(batches(clock, 0.025), steps_per_epoch=4, seconds=10)
    assert found.first_batch_s == pytest.approx(0.025)
    assert found.first_epoch_share == pytest.approx(300 / 375)
    assert found.later_share == pytest.approx(0.75)


def test_an_epoch_that_takes_too_long_is_cut_off_and_nothing_follows(clock: Clock) -> None:
    found = emulate(batches(clock, 0.0), steps_per_epoch=10**6, seconds=1)
    assert found.first_epoch_steps == 14
    assert found.later_share is None
    assert found.later_steps == 0


def test_by_the_machines_own_clock_steps_take_their_time() -> None:
    found = emulated_step.emulate(
        itertools.count(), steps_per_epoch=3, step_ms=1, seconds=0.01, first_goal_share=0.98
    )
    assert found.first_epoch_steps > 0
    assert 0 < found.first_epoch_share <= 1
