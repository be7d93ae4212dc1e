"""One training of a comparison: from fresh weights through all its steps to logits of the validation records.

The model, the step, the loop and the input are those of `engine train`; nothing but the loss, the learning
rate and the seed tells two trainings of a comparison apart.
"""

from __future__ import annotations

import functools
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from engine import config as configs
from engine import metrics
from engine.comparison.trainings import Outcome
from engine.input.order import EpochOrder
from engine.input.pipeline import faults_raised
from engine.input.reader import ShardReader
from engine.model.augment import with_augmentation
from engine.training import devices, fit, inputs, schedules
from engine.training.averages import averaged_weights
from engine.training.loop import Length, Loop
from engine.training.optimizers import build_optimizer
from engine.training.step import TrainingStep
from engine.training.validation import Prediction
from records.labels import FINDINGS
from records.manifest import Manifest

EVALUATION_BATCH = 128
_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras")


@functools.cache
def prepare() -> None:
    """Have TensorFlow repeat its results bit for bit, on one device; before its first tensor."""
    # Each training traces a model of its own, which TensorFlow takes for an oversight.
    tf.get_logger().setLevel("ERROR")
    devices.strategy_of(1, deterministic=bool(tf.config.list_physical_devices("GPU")))


def train(config: configs.Config, data_set: Manifest, check: Callable[[], None]) -> Outcome:
    """Train once and predict the validation split with the last weights.

    Args:
        config: of the training.
        data_set: its train and validation split.
        check: called between steps; what it raises ends the training.

    Raises:
        CxrError: the shards, the weights or the loss are at fault.
    """
    start_s = time.monotonic()
    keras.backend.clear_session()
    keras.config.set_dtype_policy(config.train.precision)
    cached = inputs.cache_settings(config)
    with (
        ShardReader(data_set, "train", cache_settings=cached) as training,
        ShardReader(data_set, "validation", cache_settings=cached) as validation,
        faults_raised(training),
        faults_raised(validation),
    ):
        return _train(config, data_set, training, validation, check, start_s)


def _train(
    config: configs.Config,
    data_set: Manifest,
    training: ShardReader,
    validation: ShardReader,
    check: Callable[[], None],
    start_s: float,
) -> Outcome:
    records = inputs.epoch_order(config, data_set, training)
    judged = fit.build(config, data_set)
    model = with_augmentation(judged) if config.augment.is_on else judged
    initial_weights = weights_hash(judged)
    optimizer = build_optimizer(config.optimizer, config.train.precision)
    watched = _Watched(records, config.train.global_batch)
    loop = _loop(config, data_set, model, optimizer, records, watched, check)
    batches = inputs.training_batches(config, data_set, training, records)
    try:
        loop.run(watched.noted(inputs.on_devices(batches, config, tf.distribute.get_strategy())))
        with averaged_weights(model, optimizer):
            logits, labels = Prediction(judged)(validation, EVALUATION_BATCH, check)
        watched.check_finite(logits)
        auroc = metrics.auroc(labels, logits)
    except _DivergedError:
        logits = np.full((len(validation), len(FINDINGS)), np.nan, np.float32)
        auroc = np.full(len(FINDINGS), np.nan)
    return Outcome(
        logits=logits,
        auroc=auroc,
        initial_weights=initial_weights,
        record_order=watched.record_order,
        steps=watched.steps,
        last_loss=watched.last_loss,
        seconds=round(time.monotonic() - start_s, 2),
        versions=_versions(),
        device=devices.device_name(tf.distribute.get_strategy()),
    )


def _loop(
    config: configs.Config,
    data_set: Manifest,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    records: EpochOrder,
    watched: _Watched,
    check: Callable[[], None],
) -> Loop:
    batch = config.train.global_batch
    length = Length(config.train.epochs, records.steps_per_epoch(batch), records.batch_records(batch))
    step = TrainingStep(
        model,
        fit.build_training_loss(config.loss, data_set.splits["train"]),
        optimizer,
        records=length.records,
        compiled=devices.is_compiled(config.train.compilation, tf.distribute.get_strategy()),
    )
    rate = schedules.rate_of_step(
        config.schedule,
        config.optimizer.learning_rate,
        steps_per_epoch=length.steps,
        epochs=length.epochs,
    )
    return Loop(step, optimizer, {}, [watched], length, rate=rate, check=check)


def weights_hash(model: keras.Model) -> str:
    """Return a hash of all that a model begins with: weights, statistics, states of random generators."""
    found = hashlib.sha256()
    for variable in model.variables:
        value = keras.ops.convert_to_numpy(variable)
        found.update(f"{value.dtype} {value.shape}".encode())
        found.update(np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


class _DivergedError(Exception):
    """The loss is no number any more."""


class _Watched(keras.callbacks.Callback):
    """Notes what steps are given and what they give."""

    def __init__(self, records: EpochOrder, global_batch: int) -> None:
        super().__init__()
        self._records, self._global_batch = records, global_batch
        self._order = hashlib.sha256()
        self.steps, self.last_loss = 0, math.nan

    @property
    def record_order(self) -> str:
        """A hash of all records so far: their rows, which repeats they are, and the labels that came."""
        return self._order.hexdigest()

    def noted(self, batches: Iterator[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        """Iterate over all batches of a training and note the records that go by."""
        steps = self._records.steps_per_epoch(self._global_batch)
        for number, (given, labels) in enumerate(batches):
            for positions in self._records.batch(*divmod(number, steps), self._global_batch):
                self._order.update(positions.astype("<i8").tobytes())
            self._order.update(np.asarray(labels).astype(np.uint8).tobytes())
            yield given, labels

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self.steps += 1
        self.last_loss = (logs or {})["loss"]
        if not math.isfinite(self.last_loss):
            raise _DivergedError

    def check_finite(self, logits: np.ndarray) -> None:
        """Check what the last step, whose own loss was finite, made of the weights."""
        if not np.isfinite(logits).all():
            self.last_loss = math.nan
            raise _DivergedError


@functools.cache
def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
