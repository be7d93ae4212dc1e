"""Validation over the whole split at the end of each epoch: exact numbers, whatever the batch size."""

from __future__ import annotations

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
        reader: of the validation split.
        loss: one that doesn't depend on how the split is batched (`LogitLoss.for_validation`).
        batch: records that are predicted at once.
    """

    def __init__(self, reader: ShardReader, loss: LogitLoss, *, batch: int) -> None:
        super().__init__()
        self._reader, self._loss, self._batch = reader, loss, batch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if logs is None:
            return
        logits, labels = predict_logits(self.model, self._reader, self._batch)
        scores = probabilities(logits)
        per_record = keras.ops.convert_to_numpy(self._loss.call(labels.astype(np.float32), logits))
        logs["val_loss"] = float(per_record.mean(dtype=np.float64))
        logs["val_macro_auroc"] = metrics.macro(metrics.auroc(labels, scores))
        logs["val_macro_auprc"] = metrics.macro(metrics.average_precision(labels, scores))
        for name, averaged in metrics.confusion(labels, scores, THRESHOLD).metrics().items():
            logs[COLUMN_OF.get(name, f"val_{name}")] = averaged.micro


def predict_logits(model: keras.Model, reader: ShardReader, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Run the model over a split, each record once, in the index's order.

    Returns:
        logits: (N, 14) float32.
        labels: (N, 14) uint8.
    """
    with faults_raised(reader):
        logits = [model.predict_on_batch(images) for images, _ in evaluation_batches(reader, batch)]
    return np.concatenate(logits), reader.labels()
