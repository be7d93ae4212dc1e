"""The model thread, the room for requests and what is kept, each by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from engine.serving.faults import RequestError
from engine.serving.kept import Kept
from engine.serving.model_thread import ModelThread
from engine.serving.room import Room

WAIT_S = 20.0


class Doubler:
    """Doubles what it is given; the first batch waits for the gate."""

    def __init__(self) -> None:
        self.gate, self.began = threading.Event(), threading.Event()
        self.batches: list[list] = []
        self.coming = 1
        self.turns: list[tuple[str, int]] = []

    def predict(self, batch):
        self.batches.append(list(batch))
        self.began.set()
        self.gate.wait(WAIT_S)
        if "bad" in batch:
            raise ValueError("bad")
        return [2 * one for one in batch]

    def watch(self, kind: str, count: int, seconds: float) -> None:
        assert seconds >= 0
        self.turns.append((kind, count))


@pytest.fixture
def doubler() -> Doubler:
    return Doubler()


@pytest.fixture
def thread(doubler: Doubler) -> Iterator[ModelThread]:
    started = ModelThread(
        doubler.predict, batch=3, wait_s=0.01, coming=lambda: doubler.coming, watch=doubler.watch
    )
    started.start()
    yield started
    doubler.gate.set()
    started.close()
    assert not started.is_alive


def busy(thread: ModelThread, doubler: Doubler):
    """Keep the thread at work until the gate opens."""
    first = thread.predict(0)
    assert doubler.began.wait(WAIT_S)
    return first


def test_what_gathers_while_the_thread_is_at_work_becomes_batches(thread, doubler):
    futures = [busy(thread, doubler), *(thread.predict(number) for number in range(1, 6))]
    assert thread.waiting == 5
    doubler.gate.set()
    assert [future.result(WAIT_S) for future in futures] == [0, 2, 4, 6, 8, 10]
    assert doubler.batches == [[0], [1, 2, 3], [4, 5]]


def test_a_picture_waits_a_moment_for_others_but_not_for_ever(doubler):
    doubler.gate.set()
    thread = ModelThread(
        doubler.predict, batch=2, wait_s=0.05, coming=lambda: doubler.coming, watch=doubler.watch
    )
    thread.start()
    assert thread.predict(1).result(WAIT_S) == 2
    # A full batch doesn't wait.
    patient = ModelThread(
        doubler.predict, batch=2, wait_s=1000.0, coming=lambda: doubler.coming, watch=doubler.watch
    )
    patient.start()
    both = [patient.predict(2), patient.predict(3)]
    assert [future.result(WAIT_S) for future in both] == [4, 6]
    # Nor does one that no other picture can come to.
    doubler.coming = 0
    assert patient.predict(4).result(WAIT_S) == 8
    assert doubler.batches == [[1], [2, 3], [4]]
    for each in (thread, patient):
        each.close()


def test_what_was_cancelled_is_not_computed(thread, doubler):
    first = busy(thread, doubler)
    dropped, kept = thread.predict(1), thread.predict(2)
    assert dropped.cancel()
    doubler.gate.set()
    assert kept.result(WAIT_S) == 4
    assert first.result(WAIT_S) == 0
    assert doubler.batches == [[0], [2]]


def test_a_batch_that_fails_fails_alone(thread, doubler):
    doubler.gate.set()
    with pytest.raises(ValueError, match="bad"):
        thread.predict("bad").result(WAIT_S)
    assert thread.predict(1).result(WAIT_S) == 2


def test_batches_and_other_jobs_take_turns(thread, doubler):
    first = busy(thread, doubler)
    seen: list = []
    jobs = [
        thread.call(lambda number=number: seen.append((number, len(doubler.batches)))) for number in (0, 1)
    ]
    pictures = [thread.predict(number) for number in range(6)]
    doubler.gate.set()
    for future in [first, *jobs, *pictures]:
        future.result(WAIT_S)
    assert seen == [(0, 2), (1, 3)]
    assert doubler.turns[1:5] == [("predict", 3), ("map", 1), ("predict", 3), ("map", 1)]


def test_a_job_that_fails_tells_whoever_waits(thread, doubler):
    doubler.gate.set()
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 / 0).result(WAIT_S)
    assert thread.call(lambda: 7).result(WAIT_S) == 7


def test_closing_finishes_what_was_submitted(doubler):
    thread = ModelThread(
        doubler.predict, batch=2, wait_s=1000.0, coming=lambda: doubler.coming, watch=doubler.watch
    )
    thread.start()
    doubler.gate.set()
    future = thread.predict(4)
    thread.close()
    assert future.result(0) == 8


def test_room_is_taken_at_once_or_not_at_all():
    room = Room(3)
    room.take(2)
    with pytest.raises(RequestError) as refused:
        room.take(2)
    assert refused.value.status == 503
    assert refused.value.headers["Retry-After"]
    with room.taken():
        assert room.used == 3
    assert room.used == 2


def test_the_least_recently_used_goes_first_and_all_go_in_time():
    kept: Kept[int] = Kept(2, 0.2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert [kept.get(key) for key in "abc"] == [1, None, 3]
    time.sleep(0.25)
    kept.drop_old()
    assert len(kept) == 0
