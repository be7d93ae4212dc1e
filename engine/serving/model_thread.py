"""The one thread that the models run in: all clients' pictures in batches, heat maps one by one between them.

How many wait is bounded by whoever submits. B = pictures of a batch.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")
# Is told the kind of a turn (`predict` or `map`), B and its seconds.
Watch = Callable[[str, int, float], None]


class _Waiting(NamedTuple):
    picture: np.ndarray
    since_s: float
    outcome: Future


class _Job(NamedTuple):
    call: Callable[[], Any]
    outcome: Future


class ModelThread(Generic[T]):
    """Gathers pictures into batches, and runs other jobs of the models between them.

    A batch starts when it is full, when no other picture is on its way, or when its first one has waited for
    `wait_s`; while the thread is at work, pictures gather by themselves. After each batch one other job has
    its turn, so that neither kind waits for all of the other.

    Args:
        predict: B pictures -> B outcomes.
        batch: pictures in a batch, at most.
        wait_s: see above.
        coming: tells how many pictures are on their way.
        watch: is told of each turn.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[np.ndarray]], Sequence[T]],
        *,
        batch: int,
        wait_s: float,
        coming: Callable[[], int],
        watch: Watch,
    ) -> None:
        self._predict, self._batch, self._wait_s = predict, batch, wait_s
        self._coming, self._watch = coming, watch
        self._pictures: deque[_Waiting] = deque()
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether anything submitted will be answered."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Pictures that no batch holds yet."""
        return len(self._pictures)

    def predict(self, picture: np.ndarray) -> Future[T]:
        """Submit a picture; a future that is cancelled before its batch starts costs nothing."""
        outcome: Future[T] = Future()
        with self._changed:
            self._pictures.append(_Waiting(picture, time.monotonic(), outcome))
            self._changed.notify()
        return outcome

    def call(self, job: Callable[[], Any]) -> Future[Any]:
        """Submit any other work of the models."""
        outcome: Future[Any] = Future()
        with self._changed:
            self._jobs.append(_Job(job, outcome))
            self._changed.notify()
        return outcome

    def close(self) -> None:
        """Finish what was submitted, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pictures or self._jobs or self._closing)
                if not self._pictures and not self._jobs:
                    return
                taken = self._gathered()
                job = self._next_job()
            if taken:
                self._answer(taken)
            if job:
                _run_job(job, self._watch)

    def _gathered(self) -> list[_Waiting]:
        """Take the next batch."""
        self._drop_cancelled()
        if not self._pictures:
            return []
        until_s = self._pictures[0].since_s + self._wait_s
        while self._is_worth_waiting():
            left_s = until_s - time.monotonic()
            if left_s <= 0 or not self._changed.wait(left_s):
                break
        taken: list[_Waiting] = []
        while self._pictures and len(taken) < self._batch:
            one = self._pictures.popleft()
            if one.outcome.set_running_or_notify_cancel():
                taken.append(one)
        return taken

    def _is_worth_waiting(self) -> bool:
        is_full = len(self._pictures) >= self._batch
        return not is_full and not self._jobs and not self._closing and self._coming() > 0

    def _drop_cancelled(self) -> None:
        while self._pictures and self._pictures[0].outcome.cancelled():
            self._pictures.popleft()

    def _next_job(self) -> _Job | None:
        while self._jobs:
            job = self._jobs.popleft()
            if job.outcome.set_running_or_notify_cancel():
                return job
        return None

    def _answer(self, taken: list[_Waiting]) -> None:
        began_s = time.monotonic()
        try:
            outcomes = self._predict([one.picture for one in taken])
        # Whatever it is, those who wait must learn of it, and the thread must live on for the others.
        except BaseException as error:
            for one in taken:
                one.outcome.set_exception(error)
            return
        self._watch("predict", len(taken), time.monotonic() - began_s)
        for one, outcome in zip(taken, outcomes, strict=True):
            one.outcome.set_result(outcome)


def _run_job(job: _Job, watch: Watch) -> None:
    began_s = time.monotonic()
    try:
        result = job.call()
    except BaseException as error:
        job.outcome.set_exception(error)
        return
    watch("map", 1, time.monotonic() - began_s)
    job.outcome.set_result(result)
