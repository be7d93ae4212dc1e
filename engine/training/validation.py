"""Validation over the whole split at the end of each epoch: exact numbers, whatever the batch size."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from engine import metrics
from engine.input.order import Part
from engine.input.pipeline import faults_raised, padded_evaluation_batches
from engine.input.reader import ShardReader
from engine.losses import LogitLoss
from engine.model.logits import probabilities
from engine.training import devices
from engine.training.cluster import this_worker
from records.labels import FINDINGS

COLUMN_OF = {"hamming": "val_hamming_loss"}


class Validation(keras.callbacks.Callback):
    """Adds `val_loss` and the validation metrics to an epoch's log.

    Args:
        judged: the model that takes stored pictures; the one that trains has the augmentation around it.
        reader: of the validation split.
        loss: one that doesn't depend on how the split is batched (`LogitLoss.for_validation`).
        batch: records that are predicted at once, over all replicas.
        threshold: of the probability from which on a finding is called present.
        check: called after each batch; what it raises ends the run.
        averaged: the weights to judge stand in the model while the block runs.
    """

    def __init__(
        self,
        judged: keras.Model,
        reader: ShardReader,
        loss: LogitLoss,
        *,
        batch: int,
        threshold: float,
        check: Callable[[], None],
        averaged: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        super().__init__()
        self._predict = Prediction(judged)
        self._reader, self._loss = reader, loss
        self._batch, self._threshold = batch, threshold
        self._check, self._averaged = check, averaged

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if logs is None:
            return
        with self._averaged():
            logits, labels = self._predict(self._reader, self._batch, self._check)
        scores = probabilities(logits)
        logs["val_loss"] = self._loss.of_data_set(labels, logits)
        auroc, auprc = metrics.auroc(labels, scores), metrics.average_precision(labels, scores)
        logs["val_macro_auroc"], logs["val_macro_auprc"] = metrics.macro(auroc), metrics.macro(auprc)
        called = metrics.confusion(labels, scores, self._threshold)
        for name, averaged in called.metrics().items():
            logs[COLUMN_OF.get(name, f"val_{name}")] = averaged.micro
        logs["val_hamming_loss_all_negative"] = metrics.all_negative_baseline(labels).hamming.micro
        logs["findings"] = _per_finding(labels, auroc, auprc, called)


def _per_finding(
    labels: np.ndarray, auroc: np.ndarray, auprc: np.ndarray, called: metrics.Confusion
) -> list[dict[str, Any]]:
    """One row for each finding: its positives, and each metric."""
    counted = called.metrics()
    return [
        {
            "finding": finding,
            "positives": int(labels[:, column].sum()),
            "auroc": float(auroc[column]),
            "auprc": float(auprc[column]),
            **{name: float(averaged.per_finding[column]) for name, averaged in counted.items()},
        }
        for column, finding in enumerate(FINDINGS)
    ]


class Prediction:
    """Runs a model over whole splits, each record once, on all replicas of the scope that it was made in."""

    def __init__(self, model: keras.Model) -> None:
        self._strategy = tf.distribute.get_strategy()
        self._model = model
        self._function = tf.function(self._predict)

    def __call__(
        self, reader: ShardReader, batch: int, check: Callable[[], None] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict a split, in the index's order.

        Args:
            reader: of the split.
            batch: records that are predicted at once; a multiple of the replicas.
            check: called after each batch.

        Returns:
            logits: (N, 14) float32.
            labels: (N, 14) uint8.
        """
        logits, labels = [], []
        size = min(batch, -(-len(reader) // self._replicas) * self._replicas)
        batches: Any = padded_evaluation_batches(reader, size, Part(*this_worker()))
        if self._replicas > 1:
            batches = devices.distributed(batches, self._strategy)
        with faults_raised(reader):
            for images, *known in batches:
                predicted, found, weights = (values.numpy() for values in self._function(images, *known))
                logits.append(predicted[weights > 0])
                labels.append(found[weights > 0].astype(np.uint8))
                if check:
                    check()
        return np.concatenate(logits), np.concatenate(labels)

    @property
    def _replicas(self) -> int:
        return self._strategy.num_replicas_in_sync

    def _predict(self, images: Any, *known: Any) -> tuple[tf.Tensor, ...]:
        """Logits, and what is known of the same records, of all replicas in their order."""
        if self._replicas == 1:
            return (self._model(images, training=False), *known)
        logits = self._strategy.run(self._model, (images,), {"training": False})
        return tuple(self._strategy.gather(values, 0) for values in (logits, *known))


def predict_logits(model: keras.Model, reader: ShardReader, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Run a model over a split on one device; see `Prediction`."""
    return Prediction(model)(reader, batch)
