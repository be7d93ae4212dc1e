"""A saved model over one split of a data set: probabilities for each record, with who it is of."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from engine.input.cache import CacheSettings
from engine.input.reader import ShardReader
from engine.model import cbam, preprocess  # noqa: F401 - registers the layers that a saved model names
from engine.model.logits import probabilities
from engine.training.validation import predict_logits
from records.errors import RunError
from records.manifest import Manifest


class SplitPredictions(NamedTuple):
    """N records in the index's order.

    Attributes:
        image_ids: (N,) str.
        patient_ids: (N,) int64.
        probabilities: (N, 14) float32.
        labels: (N, 14) uint8.
    """

    image_ids: np.ndarray
    patient_ids: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray


def load_model(path: Path) -> keras.Model:
    """Load a saved model in safe mode, for prediction only.

    Raises:
        RunError: the file is damaged or no model of this project.
    """
    try:
        return keras.saving.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{path}: can't be loaded as a model: {reason}; train again") from error


def predict_split(
    model_path: Path, data_set: Manifest, split: str, batch: int, cache_settings: CacheSettings | None = None
) -> SplitPredictions:
    """Predict each record of a split once."""
    model = load_model(model_path)
    with ShardReader(data_set, split, cache_settings=cache_settings) as reader:
        logits, labels = predict_logits(model, reader, batch)
        image_ids, patient_ids = reader.identities()
    return SplitPredictions(image_ids, patient_ids, probabilities(logits), labels)
