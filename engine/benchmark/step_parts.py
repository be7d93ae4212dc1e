"""One variant of the training step, built as a run builds it, and its parts, each to be timed alone.

The whole step is `training.step`'s own. Forward alone is the network in training and the loss; forward and
backward adds the gradients. Both are functions of their own, compiled as the step is, because one that runs
can't be cut. A forward pass alone keeps no activations, so it is a little quicker than as a part of the step.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from engine import losses
from engine.benchmark.step_figures import BACKWARD, FORWARD, REAL, SYNTHETIC, StepWindow
from engine.benchmark.step_options import Variant
from engine.config import Config
from engine.losses import LogitLoss
from engine.model.augment import with_augmentation
from engine.model.build import build_model
from engine.training import devices
from engine.training.optimizers import build_optimizer
from engine.training.step import Outcome, TrainingStep
from records.labels import FINDINGS


class Pictures(NamedTuple):
    """What a step's network and loss are built for.

    Attributes:
        shape: rows, columns, stored channels.
        mean_and_deviation: of the training pictures' grey levels.
        positives: of each finding in the training split.
        images: of that split.
    """

    shape: tuple[int, int, int]
    mean_and_deviation: tuple[float, float]
    positives: list[int]
    images: int


# Begins a part on one batch; what it returns, called, waits until that is done.
Part = Callable[[Any, Any], Callable[[], object]]
Batches = Iterator[tuple[Any, Any]]


class StepParts:
    """A variant's step and the parts of it.

    Attributes:
        is_compiled: by XLA.
        parameters: of the network.
        build_s: that building took.
    """

    def __init__(self, variant: Variant, config: Config, pictures: Pictures) -> None:
        begin_s = time.perf_counter()
        keras.utils.set_random_seed(config.train.seed)
        self.is_compiled = devices.is_compiled(variant.compilation, tf.distribute.get_strategy())
        with _policy(variant.precision):
            self._model = _network(config, pictures)
            self._optimizer = build_optimizer(config.optimizer, variant.precision)
        self._loss = losses.build_loss(config.loss, pictures.positives, pictures.images)
        self._step = TrainingStep(
            self._model,
            self._loss,
            self._optimizer,
            records=variant.batch,
            micro_batches=config.train.micro_batches,
            compiled=self.is_compiled,
        )
        self.parameters = self._model.count_params()
        self.build_s = time.perf_counter() - begin_s

    def run_first(self, batches: Batches) -> float:
        """Trace, compile and run the first step; return the seconds that it took."""
        begin_s = time.perf_counter()
        self._whole(*next(batches))()
        return time.perf_counter() - begin_s

    def parts(self, *, real: bool, breakdown: bool) -> dict[str, Part]:
        """Return what is to be measured, by name.

        Args:
            real: whether there is real input.
            breakdown: whether the parts of the step are wanted.
        """
        parts: dict[str, Part] = {SYNTHETIC: self._whole}
        if real:
            parts[REAL] = self._whole
        if breakdown:
            parts[FORWARD] = self._waiting_for_loss(self._forward)
            parts[BACKWARD] = self._waiting_for_gradient(self._forward_and_backward)
        return parts

    def _whole(self, inputs: Any, labels: Any) -> Callable[[], object]:
        outcome: Outcome = self._step(inputs, labels)
        # As the training loop does.
        return lambda: (float(outcome.loss), bool(outcome.skipped))

    def _waiting_for_loss(self, function: Callable[..., tf.Tensor]) -> Part:
        compiled = tf.function(function, jit_compile=self.is_compiled)

        def begin(inputs: Any, labels: Any) -> Callable[[], object]:
            loss = compiled(inputs, labels)
            return lambda: float(loss)

        return begin

    def _waiting_for_gradient(self, function: Callable[..., list[tf.Tensor]]) -> Part:
        compiled = tf.function(function, jit_compile=self.is_compiled)

        def begin(inputs: Any, labels: Any) -> Callable[[], object]:
            # That of the first layer is the last to be known.
            first, *_ = compiled(inputs, labels)
            return first.numpy

        return begin

    def _forward(self, inputs: Any, labels: Any) -> tf.Tensor:
        return _training_loss(self._model, self._loss, inputs, labels)

    def _forward_and_backward(self, inputs: Any, labels: Any) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = self._optimizer.scale_loss(self._forward(inputs, labels))
        return tape.gradient(loss, [variable.value for variable in self._model.trainable_variables])


def window(begin: Part, batches: Batches, steps: int, batch: int) -> StepWindow:
    """Run one unmeasured step and then as many as are to be measured, as the training loop does."""
    begin(*next(batches))()
    wait: Callable[[], object] | None = None
    start_s, cpu_start_s, stall_s = time.perf_counter(), time.process_time(), 0.0
    for _ in range(steps):
        asked_s = time.perf_counter()
        inputs, labels = next(batches)
        stall_s += time.perf_counter() - asked_s
        before, wait = wait, begin(inputs, labels)
        # The step before is looked at while this one runs on the device.
        if before:
            before()
    if wait:
        wait()
    return StepWindow(
        images=steps * batch,
        wall_s=time.perf_counter() - start_s,
        cpu_s=time.process_time() - cpu_start_s,
        stall_s=stall_s,
        steps=steps,
    )


def _network(config: Config, pictures: Pictures) -> keras.Model:
    side_px, _, channels = pictures.shape
    model = build_model(
        config.model,
        stored_side_px=side_px,
        stored_channels=channels,
        mean_and_deviation=pictures.mean_and_deviation,
        findings=len(FINDINGS),
    )
    return with_augmentation(model) if config.augment.is_on else model


def _training_loss(model: keras.Model, loss: LogitLoss, inputs: Any, labels: Any) -> tf.Tensor:
    value = tf.reduce_mean(loss.call(labels, model(inputs, training=True)))
    penalties = [tf.cast(penalty, tf.float32) for penalty in model.losses]
    return value + tf.add_n(penalties) if penalties else value


@contextlib.contextmanager
def _policy(precision: str) -> Iterator[None]:
    """Build layers under a dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
