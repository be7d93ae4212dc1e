"""The count metrics of fixed thresholds on draws of patients: what their intervals are made of.

N = images, F = findings, P = patients, D = draws, B = draws of a block.
"""

from __future__ import annotations

import numpy as np

from engine.evaluation.operating_points import METRICS
from engine.evaluation.predictions import Predictions
from engine.metrics import intervals
from engine.metrics.counts import Confusion
from engine.metrics.draws import PatientDraws
from engine.metrics.intervals import as_json

Interval = dict[str, float | None]


def on_draws(
    predictions: Predictions, thresholds: np.ndarray, *, draws: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Judge calls at fixed thresholds on draws of patients, the same for each model of the same images.

    Args:
        predictions: of a split.
        thresholds: (F,) of probabilities; NaN: the finding has none, and counts in no total.
        draws: D.
        seed: of the draws.

    Returns:
        (F + 1, D) float64 by name of `METRICS`: each finding, and all together last; NaN where undefined.
    """
    drawn = PatientDraws(predictions.patient_ids, draws, seed)
    cells = _cells_of_patients(predictions, thresholds, drawn)

    def judge(counts: np.ndarray) -> np.ndarray:
        totals = np.einsum("cpf,pb->cfb", cells, counts, optimize=True)
        totals = np.concatenate([totals, totals.sum(axis=1, keepdims=True)], axis=1)
        found = Confusion(*totals.reshape(4, -1)).metrics().values()
        return np.stack([metric.per_finding.reshape(totals.shape[1:]) for metric in found])

    return dict(zip(METRICS, drawn.on_all(judge), strict=True))


def interval(value: float | None, drawn: np.ndarray) -> Interval:
    """Return a metric, None where undefined, with the 95 % interval of its (D,) draws."""
    return as_json(intervals.of_draws(np.nan if value is None else value, drawn))


def _cells_of_patients(predictions: Predictions, thresholds: np.ndarray, drawn: PatientDraws) -> np.ndarray:
    """Count true and false positives, true and false negatives: (4, P, F) int64, in `Confusion`'s order."""
    positive = predictions.labels.astype(bool)
    called = predictions.probabilities >= thresholds
    known = ~np.isnan(thresholds)
    cells = np.zeros((4, drawn.patients, positive.shape[1]), np.int64)
    members = (positive & called, ~positive & called, ~positive & ~called, positive & ~called)
    for counted, of_images in zip(cells, members, strict=True):
        np.add.at(counted, drawn.of_image, of_images & known)
    return cells
