"""ROC and precision-recall curves with pointwise 95 % bands from a bootstrap over patients.

N = images, K = distinct scores, G = points of the grid. A band holds the curve at each point apart; the whole
curve leaves it more often than one time in twenty.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from engine.metrics.bootstrap import PatientDraws

DRAWS = 200
# Finer where curves are steep: at both ends of false positive rate and recall.
GRID = np.round(0.5 - 0.5 * np.cos(np.linspace(0, np.pi, 41)), 5)
_PERCENTILES = (2.5, 97.5)
_BLOCK = 20


class Band(NamedTuple):
    """A curve on the grid, (G,) each; NaN where undefined."""

    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Curves(NamedTuple):
    """Recall over the false positive rate, and precision over recall."""

    roc: Band
    precision_recall: Band


def roc_corners(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of a ROC curve from (0, 0) to (1, 1); equal scores make one step.

    Args:
        labels: (N,) of 0 or 1.
        scores: (N,) floats, higher means more likely.

    Returns:
        false positive rate and recall, (K + 1,) float64 each, NaN where a class is missing.
    """
    order, ends = _ranked(scores)
    positive = labels[order].astype(bool)
    false, true = (
        np.append(0, np.cumsum(members)[ends]).astype(np.float64) for members in (~positive, positive)
    )
    return _share(false), _share(true)


def curves(
    labels: np.ndarray, scores: np.ndarray, patient_ids: np.ndarray, *, draws: int = DRAWS, seed: int = 0
) -> Curves:
    """Compute both curves with their bands.

    Args:
        labels: (N,) of 0 or 1.
        scores: (N,) floats, higher means more likely.
        patient_ids: (N,), whose images are drawn together.
        draws: of the patients.
        seed: of the draws.
    """
    order, ends = _ranked(scores)
    positive = labels[order].astype(bool)
    drawn = PatientDraws(patient_ids, draws, seed)
    of_image = drawn.of_image[order]
    shape = (draws, len(GRID))
    recall, precision = np.full(shape, np.nan), np.full(shape, np.nan)
    for first in range(0, draws, _BLOCK):
        counts = drawn.counts(first, min(first + _BLOCK, draws))
        for number in range(counts.shape[1]):
            weights = counts[:, number][of_image]
            recall[first + number], precision[first + number] = _on_grid(weights, positive, ends)
    middle = _on_grid(np.ones(len(positive), np.int32), positive, ends)
    return Curves(_band(middle[0], recall), _band(middle[1], precision))


def _ranked(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the order from the highest score down, and the last place of each run of equal scores."""
    order = np.argsort(-scores, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)


def _on_grid(weights: np.ndarray, positive: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return recall at each false positive rate and precision at each recall of the grid, (G,) each."""
    true = np.cumsum(weights * positive)[ends]
    called = np.cumsum(weights)[ends]
    positives, images = true[-1], called[-1]
    if not 0 < positives < images:
        return np.full(len(GRID), np.nan), np.full(len(GRID), np.nan)
    found = true / positives
    false = np.append(0.0, (called - true) / (images - positives))
    recall = np.interp(GRID, false, np.append(0.0, found))
    # The first threshold that finds so many: between two, precision isn't on a line (Davis, Goadrich 2006).
    first = np.searchsorted(found, np.maximum(GRID, 1 / positives) - 1e-12)
    return recall, true[first] / called[first]


def _band(middle: np.ndarray, drawn: np.ndarray) -> Band:
    defined = drawn[~np.isnan(drawn[:, 0])]
    # As for every interval: half of the draws must define it.
    if np.isnan(middle[0]) or 2 * len(defined) < len(drawn):
        return Band(middle, np.full_like(middle, np.nan), np.full_like(middle, np.nan))
    low, high = np.percentile(defined, _PERCENTILES, axis=0)
    return Band(middle, low, high)


def _share(counts: np.ndarray) -> np.ndarray:
    return counts / counts[-1] if counts[-1] else np.full(len(counts), np.nan)
