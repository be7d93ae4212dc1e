"""The loop over epochs and steps: asks for batches, starts steps, tells callbacks; may be left and gone on.

Where a run stands is an epoch, a step and the sums of the epoch so far. With the variables and the callbacks'
own state that makes a checkpoint; the records need none, for their order is a function of epoch and step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras

from engine.training import snapshot
from engine.training.checkpoints import Checkpoint, Checkpoints
from engine.training.optimizers import loss_scale
from engine.training.step import Outcome, TrainingStep

# What the callbacks of Keras that a run may have remember between epochs.
_REMEMBERED: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "best", "best_epoch", "stopped_epoch"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
}


@dataclass
class Place:
    """How far a run has come.

    Attributes:
        epoch: that the next step belongs to, counted from 0.
        step: the next one, counted from 0 within the epoch; as many as the epoch has: its end is yet to come.
        loss_sum: of the epoch's steps so far.
        skipped_steps: of the whole run, left out because a gradient overflowed.
        seconds: that the epoch has taken so far.
        stall_seconds: of those, waiting for a batch.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    skipped_steps: int = 0
    seconds: float = 0.0
    stall_seconds: float = 0.0

    def next_epoch(self) -> Place:
        """The first step of the epoch behind this one."""
        return Place(self.epoch + 1, skipped_steps=self.skipped_steps)


@dataclass
class Trained:
    """What callbacks see in the place of a compiled model."""

    optimizer: keras.optimizers.Optimizer
    stop_training: bool = False


class Length(NamedTuple):
    """Of a run: its epochs at most, the steps of each, and the records of a step."""

    epochs: int
    steps: int
    records: int


class Loop:
    """A run; `run` is called once.

    Args:
        step: of one update.
        optimizer: of that step; its learning rate is set here.
        held: all variables that steps change, by name.
        callbacks: told what happens, in this order; those with a `state` and a `restore` of their own, and
            Keras's known ones, go on where a checkpoint left them.
        length: of the run.
        rate: from a step through all epochs to its learning rate; None: callbacks change it, or nobody.
        checkpoints: None: none are written.
        every_steps: between checkpoints within an epoch; 0: none there.
        check: called between steps; KeyboardInterrupt ends the run with a checkpoint.
        together: whether several workers take these steps, which then leave at the same one.
    """

    def __init__(
        self,
        step: TrainingStep,
        optimizer: keras.optimizers.Optimizer,
        held: dict[str, keras.Variable],
        callbacks: Sequence[keras.callbacks.Callback],
        length: Length,
        *,
        rate: Callable[[int], float] | None = None,
        checkpoints: Checkpoints | None = None,
        every_steps: int = 0,
        check: Callable[[], None] = lambda: None,
        together: bool = False,
    ) -> None:
        self._step, self._optimizer, self._held = step, optimizer, held
        self._callbacks, self._length, self._rate = callbacks, length, rate
        self._checkpoints, self._every_steps = checkpoints, every_steps
        self._check, self._together = check, together
        self._trained = Trained(optimizer)
        self._pending: tuple[int, float, Outcome] | None = None
        self._saved: tuple[int, int] | None = None
        # Without the first step, which waits for its own tracing.
        self._timed_steps, self._timed_s = -1, 0.0
        self._remembered: dict[str, dict[str, Any]] = {}
        self.place = Place()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint; before `run`, and before the batches are asked for from `place` on.

        Raises:
            RunError: it is of another model.
        """
        snapshot.put_back(self._held, checkpoint.arrays, str(checkpoint.path))
        self.place = Place(**checkpoint.state["place"])
        self._remembered = checkpoint.state["callbacks"]
        self._trained.stop_training = checkpoint.state["stopped"]
        self._saved = self.place.epoch, self.place.step

    def run(self, batches: Iterator[tuple[Any, Any]]) -> None:
        """Train until the last epoch, or until a callback ends it.

        Args:
            batches: from `place` on.

        Raises:
            CxrError: of the callbacks, the batches or the checkpoints.
            KeyboardInterrupt: `check` raised it; a checkpoint of this place is being written.
        """
        for callback in self._callbacks:
            callback.set_model(self._trained)
            callback.on_train_begin()
        self._remind()
        try:
            while self.place.epoch < self._length.epochs and not self._trained.stop_training:
                self._train_epoch(batches)
                self._end_epoch()
        except KeyboardInterrupt:
            with contextlib.suppress(KeyboardInterrupt):  # the step behind hears of it, too
                self._settle()
            self._save()
            raise
        finally:
            for callback in self._callbacks:
                callback.on_train_end()

    def _train_epoch(self, batches: Iterator[tuple[Any, Any]]) -> None:
        place = self.place
        for callback in self._callbacks:
            callback.on_epoch_begin(place.epoch)
        self._timed_steps, self._timed_s = min(self._timed_steps, 0), 0.0
        rate = self._current_rate()
        start_s = time.monotonic() - place.seconds
        while place.step < self._length.steps:
            leaving = self._is_asked()
            begin_s = time.monotonic()
            inputs, labels = next(batches)
            place.stall_seconds += time.monotonic() - begin_s
            if self._rate:
                self._optimizer.learning_rate = rate = self._rate(self._steps_done())
            outcome = self._step(inputs, labels, leaving=leaving)
            before, self._pending = self._pending, (place.step, rate, outcome)
            place.step += 1
            place.seconds = time.monotonic() - start_s
            # The step before is looked at while this one runs on the device.
            self._tell(before)
            self._timed_s += time.monotonic() - begin_s if self._timed_steps >= 0 else 0.0
            self._timed_steps += 1
            if self._every_steps and self._steps_done() % self._every_steps == 0:
                self._settle()
                self._save()
        begin_s = time.monotonic()
        self._settle()
        self._timed_s += time.monotonic() - begin_s if self._timed_steps > 0 else 0.0
        place.seconds = time.monotonic() - start_s

    def _is_asked(self) -> bool:
        """Whether this worker is to tell the others that it leaves; alone, it leaves at once."""
        try:
            self._check()
        except KeyboardInterrupt:
            if self._together:
                return True
            raise
        return False

    def _current_rate(self) -> float:
        return float(keras.ops.convert_to_numpy(self._optimizer.learning_rate))

    def _settle(self) -> None:
        """Wait for the last step."""
        last, self._pending = self._pending, None
        self._tell(last)

    def _tell(self, done: tuple[int, float, Outcome] | None) -> None:
        """Read what a step gave, and tell the callbacks."""
        if done is None:
            return
        step, rate, outcome = done
        loss = float(outcome.loss)
        skipped = bool(outcome.skipped)
        self.place.loss_sum += loss
        self.place.skipped_steps += skipped
        logs = {
            "loss": loss,
            "learning_rate": rate,
            "skipped": skipped,
            "finite": bool(outcome.finite),
            "stall_seconds": self.place.stall_seconds,
        }
        for callback in self._callbacks:
            callback.on_train_batch_end(step, logs)
        if self._together and bool(outcome.leaving):
            raise KeyboardInterrupt

    def _end_epoch(self) -> None:
        place, length = self.place, self._length
        logs: dict[str, Any] = {
            "loss": place.loss_sum / length.steps,
            "learning_rate": self._current_rate(),
            "seconds": place.seconds,
            "images_per_s": self._images_per_s(),
            "input_stall": place.stall_seconds / place.seconds,
            "skipped_steps": place.skipped_steps,
            "loss_scale": loss_scale(self._optimizer),
        }
        for callback in self._callbacks:
            callback.on_epoch_end(place.epoch, logs)
        self.place = place.next_epoch()
        self._save()

    def _images_per_s(self) -> float | None:
        """The rate of the epoch's steps but for a traced one; None where there are no others."""
        if self._timed_steps <= 0:
            return None
        return self._timed_steps * self._length.records / max(self._timed_s, 1e-9)

    def _save(self) -> None:
        here = self.place.epoch, self.place.step
        if self._checkpoints is None or here == self._saved:
            return
        self._saved = here
        state = {
            "place": dataclasses.asdict(self.place),
            "callbacks": {_name(callback): _memory(callback) for callback in self._callbacks},
            "stopped": self._trained.stop_training,
        }
        self._checkpoints.save(self._steps_done(), snapshot.take(self._held), state)

    def _steps_done(self) -> int:
        return self.place.epoch * self._length.steps + self.place.step

    def _remind(self) -> None:
        for callback in self._callbacks:
            if (memory := self._remembered.get(_name(callback))) is None:
                continue
            if hasattr(callback, "restore"):
                callback.restore(memory)
            else:
                vars(callback).update(memory)


def _name(callback: keras.callbacks.Callback) -> str:
    return type(callback).__name__


def _memory(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """What a callback must know to go on, as JSON holds it."""
    if hasattr(callback, "state"):
        return callback.state()
    values = {name: getattr(callback, name) for name in _REMEMBERED.get(type(callback), ())}
    return {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}
