"""What the measured steps are fed: random batches of the data set's shape, and the data set's own."""

from __future__ import annotations

import contextlib
import dataclasses
from types import TracebackType
from typing import Any

import numpy as np
import tensorflow as tf

from engine.benchmark.step_parts import Batches, Pictures
from engine.config import Config
from engine.input import pipeline, transforms
from engine.input.reader import ShardReader, image_shape
from engine.training import inputs
from records.errors import ManifestError
from records.labels import FINDINGS
from records.manifest import Manifest

SPLIT = "train"
# Without a data set: what the conversion stores, and a prevalence that no loss has trouble with.
_NO_DATA = Pictures((320, 320, 1), (128.0, 64.0), [100] * len(FINDINGS), 1000)
# No run of the benchmark comes to the end of so many.
_EPOCHS = 1_000_000


class StepInput:
    """Batches for steps; the data set is open between entering and leaving.

    Attributes:
        pictures: that batches hold.
        has_data: whether there is real input.
    """

    def __init__(self, config: Config, data_set: Manifest | None) -> None:
        """Nothing is read yet.

        Raises:
            ManifestError: the training split is empty, or the manifest doesn't say what it holds.
        """
        self._config, self._data_set = config, data_set
        self._open = contextlib.ExitStack()
        self.pictures = _pictures(data_set) if data_set else _NO_DATA
        self.has_data = data_set is not None

    def __enter__(self) -> StepInput:
        if self._data_set:
            settings = inputs.cache_settings(self._config)
            reader = ShardReader(self._data_set, SPLIT, cache_settings=settings)
            self._reader = self._open.enter_context(reader)
            self._open.enter_context(pipeline.faults_raised(self._reader))
            self._open.enter_context(inputs.faults_raised(self._config, self._data_set))
            self._order = inputs.epoch_order(self._config, self._data_set, self._reader)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self._open.__exit__(kind, error, trace)

    def batch_records(self, batch: int) -> int:
        """Return how many records a batch holds: fewer where the data set has fewer."""
        return self._order.batch_records(batch) if self._data_set else batch

    def synthetic(self, records: int) -> tuple[Any, tf.Tensor]:
        """Return one random batch in the form that real ones have, on the device that steps run on."""
        rng = np.random.default_rng(self._config.train.seed)
        images = tf.constant(rng.integers(0, 256, (records, *self.pictures.shape), np.uint8))
        labels = tf.constant(rng.integers(0, 2, (records, len(FINDINGS))).astype(np.float32))
        if not self._config.augment.is_on:
            return tf.identity(images), tf.identity(labels)
        rows = np.arange(records)
        drawn = transforms.draw(self._config.augment, 0, 0, rows, np.ones(records, np.int64))
        return {"images": tf.identity(images), "transforms": tf.constant(drawn)}, tf.identity(labels)

    def real(self, batch: int) -> Batches:
        """Return the training batches of the data set, without end."""
        if not self._data_set:
            raise ValueError("there is no data set")
        train = dataclasses.replace(self._config.train, global_batch=batch, epochs=_EPOCHS)
        config = dataclasses.replace(self._config, train=train)
        batches = inputs.training_batches(config, self._data_set, self._reader, self._order)
        return inputs.on_devices(batches, config, tf.distribute.get_strategy())

    def throw_away_ready(self, batches: Batches) -> None:
        """Take what was made ready while nobody asked, and one more, so that a stream just runs."""
        # The device's prefetch stands behind the host's.
        for _ in range(2 * self._config.input.prefetch_batches + 1):
            next(batches)


def _pictures(data_set: Manifest) -> Pictures:
    split = data_set.splits[SPLIT]
    if not split.images:
        raise ManifestError(f"{data_set.location}: the split `{SPLIT}` is empty; expected images to read")
    statistics = data_set.statistics
    return Pictures(
        image_shape(data_set),
        (statistics["mean"], statistics["deviation"]),
        [split.positives[finding] for finding in FINDINGS],
        split.images,
    )
