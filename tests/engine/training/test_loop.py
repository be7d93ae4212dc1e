"""The loop: what callbacks hear and when, and that a run that was left goes on as if it had not been."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from engine.config.optimizer import AdamConfig
from engine.losses import BCE, RunningWeightedBCE
from engine.training import checkpoints, snapshot
from engine.training.averages import averaged_weights
from engine.training.callbacks import FiniteLoss
from engine.training.checkpoints import Checkpoints
from engine.training.loop import Length, Loop, Place
from engine.training.optimizers import build_optimizer
from engine.training.step import TrainingStep
from records.errors import RunError

LENGTH = Length(epochs=4, steps=5, records=6)
PIXELS, FINDINGS = 4, 3


class Heard(keras.callbacks.Callback):
    """Notes what it is told; `interrupts` calls leave the run from an epoch's end, as validation does."""

    def __init__(self, interrupts: int = 0) -> None:
        super().__init__()
        self.events: list[str] = []
        self.steps: list[tuple[int, int, float, float]] = []
        self.epochs: list[dict[str, Any]] = []
        self._interrupts = interrupts
        self._epoch = -1

    def on_train_begin(self, _=None) -> None:
        self.events.append("begin")

    def on_train_end(self, _=None) -> None:
        self.events.append("end")

    def on_epoch_begin(self, epoch, _=None) -> None:
        self._epoch = epoch
        self.events.append(f"epoch {epoch}")

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.events.append(f"told {batch}")
        self.steps.append((self._epoch, batch, logs["loss"], logs["learning_rate"]))

    def on_epoch_end(self, epoch, logs=None) -> None:
        if epoch == 1 and self._interrupts:
            self._interrupts -= 1
            raise KeyboardInterrupt
        self.events.append(f"epoch {epoch} over")
        self.epochs.append(dict(logs))


class Judge(keras.callbacks.Callback):
    """Adds a value to the epoch's log: of a script, or of the weights that would be judged."""

    def __init__(self, script: list[float], value: Callable[[], float] | None = None) -> None:
        super().__init__()
        self._script, self._value = script, value

    def on_epoch_end(self, epoch, logs=None) -> None:
        logs["val_loss"] = self._value() if self._value else self._script[epoch]


class Parts:
    """A run of a small network, made anew as by a new process; all random state is in what is `held`."""

    def __init__(self, precision: str = "float32") -> None:
        keras.utils.clear_session()
        glorot = keras.initializers.GlorotUniform
        # Seeds of their own: Python's generator, which Keras takes others from, is everybody's.
        self.model = keras.Sequential(
            [
                keras.Input((PIXELS,)),
                keras.layers.Dense(8, activation="relu", kernel_initializer=glorot(11)),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.5, seed=12),
                keras.layers.Dense(FINDINGS, kernel_initializer=glorot(13)),
            ]
        )
        self.optimizer = build_optimizer(AdamConfig("adam", 0.01, 1.0, 0.9), precision)
        self.loss = RunningWeightedBCE([0.2, 0.5, 0.7], momentum=0.9)
        self.step = TrainingStep(self.model, self.loss, self.optimizer, records=LENGTH.records)
        self.held = snapshot.variables(self.model, self.optimizer, self.loss.variables)
        self.averaged = functools.partial(averaged_weights, self.model, self.optimizer)

    def loop(self, callbacks, folder: Path | None = None, **settings) -> tuple[Loop, Any]:
        """The loop, gone on from the folder's newest checkpoint if it holds one, and its checkpoints."""
        found = checkpoints.newest(folder) if folder else None
        written = Checkpoints(folder, 3) if folder else None
        loop = Loop(self.step, self.optimizer, self.held, callbacks, LENGTH, checkpoints=written, **settings)
        if found:
            loop.restore(found)
        return loop, written

    def run(self, callbacks, folder: Path, *, nan_at: tuple[int, int] | None = None, **settings) -> Loop:
        loop, written = self.loop(callbacks, folder, **settings)
        with written:
            loop.run(batches(loop.place, nan_at))
        return loop


def batches(place: Place, nan_at: tuple[int, int] | None = None) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """Each step's own pictures and labels, whenever it comes."""
    for number in range(place.epoch * LENGTH.steps + place.step, LENGTH.epochs * LENGTH.steps):
        rng = np.random.default_rng(number)
        pictures = rng.normal(0, 1, (LENGTH.records, PIXELS)).astype(np.float32)
        labels = rng.integers(0, 2, (LENGTH.records, FINDINGS)).astype(np.float32)
        if nan_at == divmod(number, LENGTH.steps):
            labels[2, 1] = math.nan
        yield tf.constant(pictures), tf.constant(labels)


def _rate(step: int) -> float:
    return 0.01 / (step + 1)


def _leaves_at(count: int) -> Callable[[], None]:
    """A check that leaves the run when it is called for the `count`-th time."""
    calls = iter(range(1, 10**6))

    def check() -> None:
        if next(calls) == count:
            raise KeyboardInterrupt

    return check


def _weights(parts: Parts) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in snapshot.take(parts.held).items()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], list, list]:
    """Final state, steps and epochs' losses of a run that nothing interrupts."""
    parts, heard = Parts(), Heard()
    parts.run([heard], tmp_path_factory.mktemp("undisturbed"), rate=_rate)
    return _weights(parts), heard.steps, [logs["loss"] for logs in heard.epochs]


def test_a_step_is_told_when_the_next_one_has_begun_and_the_last_of_an_epoch_before_its_end():
    parts, heard = Parts(), Heard()
    step = parts.step

    def noting(*arguments, **keywords):
        heard.events.append("step")
        return step(*arguments, **keywords)

    parts.step = noting
    loop, _ = parts.loop([heard])
    loop.run(batches(loop.place))
    epoch = ["step", "step", "told 0", "step", "told 1", "step", "told 2", "step", "told 3", "told 4"]
    expected = [[f"epoch {number}", *epoch, f"epoch {number} over"] for number in range(LENGTH.epochs)]
    assert heard.events == ["begin", *(event for events in expected for event in events), "end"]


def test_callbacks_hear_in_their_order_and_later_ones_read_what_earlier_ones_added():
    heard = Heard()
    loop, _ = Parts().loop([Judge([0.4, 0.3, 0.2, 0.1]), heard])
    loop.run(batches(loop.place))
    assert [logs["val_loss"] for logs in heard.epochs] == [0.4, 0.3, 0.2, 0.1]


def test_an_epochs_log_has_the_mean_loss_the_rate_of_its_last_step_and_a_rate_of_pictures(undisturbed):
    parts, heard = Parts(), Heard()
    loop, _ = parts.loop([heard], rate=_rate)
    loop.run(batches(loop.place))
    for epoch, logs in enumerate(heard.epochs):
        losses = [loss for of_epoch, _, loss, _ in heard.steps if of_epoch == epoch]
        assert logs["loss"] == pytest.approx(np.mean(losses), rel=1e-12)
        assert logs["learning_rate"] == pytest.approx(_rate(epoch * LENGTH.steps + 4), rel=1e-6)
        assert logs["images_per_s"] > 0
        assert 0 <= logs["input_stall"] <= 1
        assert (logs["skipped_steps"], logs["loss_scale"]) == (0, None)
    assert [rate for *_, rate in heard.steps] == [_rate(step) for step in range(20)]


def test_an_epoch_of_one_step_has_its_rate_but_for_the_first_whose_step_is_traced(monkeypatch):
    monkeypatch.setattr("test_loop.LENGTH", Length(epochs=3, steps=1, records=6))
    heard = Heard()
    loop, _ = Parts().loop([heard])
    loop.run(batches(loop.place))
    rates = [logs["images_per_s"] for logs in heard.epochs]
    assert rates[0] is None
    assert all(0 < rate < math.inf for rate in rates[1:])


@pytest.mark.parametrize("calls", [1, 4, 6, 20])
def test_a_run_that_is_left_between_any_two_steps_goes_on_as_if_it_had_not(tmp_path, undisturbed, calls):
    parts, heard = Parts(), Heard()
    with pytest.raises(KeyboardInterrupt):
        parts.run([heard], tmp_path, rate=_rate, check=_leaves_at(calls))
    assert len(heard.steps) == calls - 1
    parts, later = Parts(), Heard()
    parts.run([later], tmp_path, rate=_rate)
    weights, steps, losses = undisturbed
    assert heard.steps + later.steps == steps
    assert _weights(parts) == weights
    assert [logs["loss"] for logs in (heard.epochs + later.epochs)] == losses


@pytest.mark.parametrize(("every_steps", "kept"), [(3, 18), (0, 15)])
def test_a_run_that_is_killed_goes_on_from_the_last_checkpoint(tmp_path, undisturbed, every_steps, kept):
    class KilledError(Exception):
        pass

    def kill(batch: int, _: Any) -> None:
        if len(heard.steps) == 19:
            raise KilledError

    parts, heard = Parts(), Heard()
    ends = keras.callbacks.LambdaCallback(on_train_batch_end=kill)
    with pytest.raises(KilledError):
        parts.run([heard, ends], tmp_path, rate=_rate, every_steps=every_steps)
    parts, later = Parts(), Heard()
    parts.run([later], tmp_path, rate=_rate, every_steps=every_steps)
    assert heard.steps[:kept] + later.steps == undisturbed[1]
    assert _weights(parts) == undisturbed[0]


def test_a_run_that_is_left_during_validation_judges_that_epoch_again_and_trains_it_once(
    tmp_path, undisturbed
):
    first, heard = Parts(), Heard(interrupts=1)
    with pytest.raises(KeyboardInterrupt):
        first.run([heard], tmp_path, rate=_rate)
    parts, later = Parts(), Heard()
    parts.run([later], tmp_path, rate=_rate)
    assert later.events[:3] == ["begin", "epoch 1", "epoch 1 over"]
    assert later.epochs[0]["images_per_s"] is None
    assert heard.steps + later.steps == undisturbed[1]
    assert [logs["loss"] for logs in (heard.epochs + later.epochs)] == undisturbed[2]
    assert _weights(parts) == undisturbed[0]


def test_a_finished_run_has_nothing_to_go_on_with(tmp_path, undisturbed):
    Parts().run([], tmp_path, rate=_rate)
    parts, heard = Parts(), Heard()
    parts.run([heard], tmp_path, rate=_rate)
    assert heard.events == ["begin", "end"]
    assert _weights(parts) == undisturbed[0]


def test_workers_that_leave_together_have_taken_the_same_steps(tmp_path, undisturbed):
    parts, heard = Parts(), Heard()
    with pytest.raises(KeyboardInterrupt):
        parts.run([heard], tmp_path, rate=_rate, check=_leaves_at(8), together=True)
    parts, later = Parts(), Heard()
    parts.run([later], tmp_path, rate=_rate)
    assert heard.steps + later.steps == undisturbed[1]
    assert _weights(parts) == undisturbed[0]


def test_the_guard_names_the_very_step_whose_loss_is_no_number_and_no_checkpoint_knows_it(tmp_path):
    asked = []

    def names(epoch: int, step: int) -> list[str]:
        asked.append((epoch, step))
        return ["00000001_000.png", "00000002_000.png"]

    heard = Heard()
    expected = r"nan at epoch 2, step 4 \(records: 00000001_000\.png, 00000002_000\.png\)"
    with pytest.raises(RunError, match=expected):
        Parts().run([FiniteLoss(names), heard], tmp_path, nan_at=(1, 3), every_steps=1)
    assert asked == [(1, 3)]
    assert heard.steps[-1][:2] == (1, 2)
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert (found.state["place"]["epoch"], found.state["place"]["step"]) == (1, 3)
    assert all(np.isfinite(array).all() for array in found.arrays.values())


@pytest.mark.parametrize("left_after", [None, 1, 2])
def test_stopping_and_the_plateau_count_on_where_they_were(tmp_path, left_after):
    script = [0.5, 0.6, 0.7, 0.1]

    def callbacks(heard: Heard) -> list[keras.callbacks.Callback]:
        plateau = keras.callbacks.ReduceLROnPlateau("val_loss", 0.5, 2, mode="min", min_lr=1e-6)
        stop = keras.callbacks.EarlyStopping("val_loss", patience=2, mode="min")
        return [Judge(script), heard, plateau, stop]

    heard, later = Heard(), Heard()
    if left_after:
        with pytest.raises(KeyboardInterrupt):
            Parts().run(callbacks(heard), tmp_path, check=_leaves_at(left_after * LENGTH.steps + 1))
    parts = Parts()
    parts.run(callbacks(later), tmp_path)
    # The third epoch is the second without a better value: the rate is halved and the run ends.
    assert len(heard.epochs) + len(later.epochs) == 3
    assert float(parts.optimizer.learning_rate.numpy()) == pytest.approx(0.005)


def test_the_mean_of_the_weights_is_judged_and_the_weights_themselves_train_on(tmp_path, undisturbed):
    parts = Parts()
    means: list[np.ndarray] = []
    expected: list[np.ndarray] = []

    def follow(*_: Any) -> None:
        raw = parts.model.trainable_variables[0].numpy()
        expected.append(raw if not expected else 0.9 * expected[-1] + 0.1 * raw)

    def judge() -> float:
        with parts.averaged():
            means.append(parts.model.trainable_variables[0].numpy())
        return 0.5

    step = parts.step

    def followed(*arguments, **keywords):
        outcome = step(*arguments, **keywords)
        follow()
        return outcome

    parts.step = followed
    parts.run([Judge([], judge)], tmp_path, rate=_rate)
    for epoch, mean in enumerate(means):
        np.testing.assert_allclose(mean, expected[(epoch + 1) * LENGTH.steps - 1], rtol=1e-5, atol=1e-7)
    assert _weights(parts) == undisturbed[0]


def test_skipped_steps_are_counted_and_the_loss_scale_goes_on(tmp_path):
    parts, heard = Parts("mixed_float16"), Heard()
    parts.optimizer.dynamic_scale.assign(2.0**127)
    parts.optimizer.inner_optimizer.learning_rate = 0.0
    with pytest.raises(KeyboardInterrupt):
        parts.run([heard], tmp_path, check=_leaves_at(12))
    scale = float(parts.optimizer.dynamic_scale.numpy())
    skipped = heard.epochs[-1]["skipped_steps"]
    assert 0 <= skipped <= 10
    assert scale == 2.0 ** (127 - skipped) == heard.epochs[-1]["loss_scale"]
    parts, later = Parts("mixed_float16"), Heard()
    parts.run([later], tmp_path)
    assert later.epochs[-1]["skipped_steps"] == skipped
    assert float(parts.optimizer.dynamic_scale.numpy()) == scale


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    Parts().run([], tmp_path)
    other = Parts()
    dense = keras.Sequential([keras.Input((PIXELS,)), keras.layers.Dense(FINDINGS)])
    optimizer = build_optimizer(AdamConfig("adam", 0.01, 0.0, 0.0), "float32")
    other.step = TrainingStep(dense, BCE(), optimizer, records=LENGTH.records)
    other.held = snapshot.variables(dense, optimizer)
    with pytest.raises(RunError, match=r"step-000000020\.npz: a checkpoint of another model or optimiser"):
        other.loop([], tmp_path)
