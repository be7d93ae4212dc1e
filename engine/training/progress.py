"""What a run shows while it goes on: a bar with images/s, input stall, loss and time left, or plain lines."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# Where no terminal is, a line now and then says as much as the bar.
_LINE_EVERY_S = 10.0

Logs = dict[str, Any] | None


class ProgressLine(keras.callbacks.Callback):
    """A bar with steps, images/s, the share of time spent waiting for input, loss and time left.

    Plain lines where no terminal is. A context manager, too, so that a terminal is left as it was when a run
    ends with an error.

    Args:
        epochs: of the run.
        steps: of an epoch.
        batch_records: of a step.
        started_s: `time.monotonic()` when the command began; the first step says how long it took from there.
    """

    def __init__(self, epochs: int, steps: int, batch_records: int, started_s: float) -> None:
        super().__init__()
        self._epochs, self._steps, self._batch_records = epochs, steps, batch_records
        self._started_s: float | None = started_s
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._epoch = self._steps_seen = 0
        self._first_s = self._first_stall_s = self._next_line_s = 0.0
        self._task: Any = None

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_train_begin(self, logs: Logs = None) -> None:  # noqa: ARG002
        say("building the training step ...")

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:  # noqa: ARG002
        self._epoch, self._steps_seen = epoch + 1, 0
        self._first_s = time.monotonic()
        self._next_line_s = self._first_s + _LINE_EVERY_S
        self._bar.start()
        self._task = self._bar.add_task(f"epoch {self._epoch}/{self._epochs}", total=self._steps, rate="")

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        now_s, known = time.monotonic(), logs or {}
        if self._started_s is not None:
            say(f"first step after {now_s - self._started_s:.1f} s")
            self._started_s = None
        stall_s = known.get("stall_seconds", 0.0)
        if not self._steps_seen:  # it was spent building the step
            self._first_s, self._first_stall_s = now_s, stall_s
        took_s = max(now_s - self._first_s, 1e-9)
        rate = f"loss {known.get('loss', math.nan):.4f}"
        if self._steps_seen:
            images_per_s = self._steps_seen * self._batch_records / took_s
            stall = min(1.0, (stall_s - self._first_stall_s) / took_s)
            rate = f"{images_per_s:.0f} images/s, input stall {100 * stall:.1f} %, {rate}"
        self._steps_seen += 1
        self._bar.update(self._task, completed=batch + 1, rate=rate)
        if self._bar.disable and now_s >= self._next_line_s:
            self._next_line_s = now_s + _LINE_EVERY_S
            say(f"epoch {self._epoch}/{self._epochs}: step {batch + 1} of {self._steps}, {rate}")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:  # noqa: ARG002
        self._bar.remove_task(self._task)
        self._bar.stop()


def say(line: str) -> None:
    """Print a line to the error output."""
    # Whoever read our lines may have gone, as `head` does; the run goes on.
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)
