"""Validation over the whole split at the end of each epoch: exact numbers, whatever the batch size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from engine import metrics
from engine.input.pipeline import evaluation_batches, faults_raised
from engine.input.reader import ShardReader
from engine.losses import LogitLoss
from engine.model.densenet_cbam import probabilities

THRESHOLD = 0.5
COLUMN_OF = {"hamming": "val_hamming_loss"}


class Validation(keras.callbacks.Callback):
    """Adds `val_loss` and the validation metrics to an epoch's log.

    Args:
        judged: the model that takes stored pictures; the one that trains has the augmentation around it.
        reader: of the validation split.
        loss: one that doesn't depend on how the split is batched (`LogitLoss.for_validation`).
        batch: records that are predicted at once.
        check: called after each batch; what it raises ends the run.
    """

    def __init__(
        self,
        judged: keras.Model,
        reader: ShardReader,
        loss: LogitLoss,
        *,
        batch: int,
        check: Callable[[], None],
    ) -> None:
        super().__init__()
        self._judged, self._reader, self._loss = judged, reader, loss
        self._batch, self._check = batch, check

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if logs is None:
            return
        logits, labels = predict_logits(self._judged, self._reader, self._batch, self._check)
        scores = probabilities(logits)
        per_record = keras.ops.convert_to_numpy(self._loss.call(labels.astype(np.float32), logits))
        logs["val_loss"] = float(per_record.mean(dtype=np.float64))
        logs["val_macro_auroc"] = metrics.macro(metrics.auroc(labels, scores))
        logs["val_macro_auprc"] = metrics.macro(metrics.average_precision(labels, scores))
        for name, averaged in metrics.confusion(labels, scores, THRESHOLD).metrics().items():
            logs[COLUMN_OF.get(name, f"val_{name}")] = averaged.micro


def predict_logits(
    model: keras.Model, reader: ShardReader, batch: int, check: Callable[[], None] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Run the model over a split, each record once, in the index's order.

    Args:
        model: takes pictures as they are stored.
        reader: of the split.
        batch: records that are predicted at once.
        check: called after each batch.

    Returns:
        logits: (N, 14) float32.
        labels: (N, 14) uint8.
    """
    logits, labels = [], []
    with faults_raised(reader):
        for images, found in evaluation_batches(reader, batch):
            logits.append(model.predict_on_batch(images))
            labels.append(found.numpy().astype(np.uint8))
            if check:
                check()
    return np.concatenate(logits), np.concatenate(labels)
