"""Rates by timed windows: interleaving, warm-up, and streams that are closed."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from engine.benchmark import windows
from engine.benchmark.windows import WARM_UP_BATCHES, Images, Window


def test_candidates_take_turns_and_each_is_told_its_round() -> None:
    begun = []

    def candidate(name: str) -> Callable[[int], Images]:
        def start(number: int) -> Images:
            begun.append((number, name))
            while True:
                yield 1.0

        return start

    windows.measure({"a": candidate("a"), "b": candidate("b")}, seconds=0.002, rounds=2)
    assert begun == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]


def test_a_stream_is_warmed_up_unmeasured_and_closed() -> None:
    given, closed = [], []

    def start(_: int) -> Images:
        try:
            while True:
                given.append(1)
                yield 1.0
        finally:
            closed.append(True)

    rate = windows.measure({"a": start}, seconds=1e-9, rounds=1)["a"]
    assert rate.images == 1
    assert len(given) == WARM_UP_BATCHES + 1
    assert closed == [True]


def test_rates_are_medians_with_the_lowest_and_the_highest() -> None:
    rate = windows.rate("a", [Window(10, 1.0, 0.1), Window(40, 1.0, 0.1), Window(20, 1.0, 0.1)])
    assert (rate.lowest_images_per_s, rate.images_per_s, rate.highest_images_per_s) == (10, 20, 40)
    assert rate.cpu_s_per_1000 == pytest.approx(5)
    assert rate.images == 70


def test_threads_work_on_successive_numbers_and_their_results_come_in_order() -> None:
    at_once = threading.Barrier(3, timeout=10)

    def work(number: int) -> float:
        at_once.wait()
        return float(number)

    results = windows.in_threads(work, 6, threads=3)
    assert [next(results) for _ in range(6)] == [6, 7, 8, 9, 10, 11]
    at_once.abort()
    results.close()


def test_an_error_of_a_thread_reaches_whoever_measures() -> None:
    def work(number: int) -> float:
        if number == 2:
            raise ValueError("damaged")
        return 1.0

    with pytest.raises(ValueError, match="damaged"):
        windows.measure({"a": lambda _: windows.in_threads(work, 0, 2)}, seconds=10, rounds=1)
