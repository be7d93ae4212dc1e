"""Checks that labels and predictions can be judged, shared by all metrics."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from records.errors import RunError


def checked_labels(labels: ArrayLike) -> np.ndarray:
    """(N, F) labels of 0 and 1 in any dtype -> (N, F) bool.

    Raises:
        RunError: another shape, or another value.
    """
    array = np.asarray(labels)
    if array.ndim != 2:
        raise RunError(f"expected labels of shape (images, findings), got {array.shape}")
    positive = array == 1
    strange = array.size - np.count_nonzero(positive) - np.count_nonzero(array == 0)
    if strange:
        raise RunError(f"{strange} of {array.size} labels are neither 0 nor 1")
    return positive


def checked_scores(scores: ArrayLike, labels: np.ndarray) -> np.ndarray:
    """Scores for (N, F) labels -> (N, F), unchanged; infinite ones pass, since they can be ranked.

    Raises:
        RunError: another shape than the labels', or NaN among them.
    """
    array = np.asarray(scores)
    if array.shape != labels.shape:
        raise RunError(f"predictions of shape {array.shape} for labels of shape {labels.shape}")
    undefined = np.isnan(array)
    if undefined.any():
        raise RunError(
            f"{np.count_nonzero(undefined)} of {array.size} predictions are NaN, in "
            f"{np.count_nonzero(undefined.any(axis=1))} of {len(array)} images; the model has diverged"
        )
    return array


def checked_probabilities(probabilities: ArrayLike, labels: np.ndarray) -> np.ndarray:
    """Probabilities for (N, F) labels -> (N, F) float64, since NumPy would round a threshold to their dtype.

    Raises:
        RunError: another shape than the labels', or NaN or a number outside [0, 1] among them.
    """
    array = checked_scores(probabilities, labels)
    outside = np.count_nonzero((array < 0) | (array > 1))
    if outside:
        raise RunError(
            f"{outside} of {array.size} predictions lie outside [0, 1]; thresholds and calibration are of "
            "probabilities, not of logits"
        )
    return array.astype(np.float64)
