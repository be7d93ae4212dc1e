"""What becomes of findings where probabilities are cut: at 0.5, and at thresholds chosen on validation.

N = images, F = findings. Each point is one confusion matrix, which all its numbers come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.evaluation.predictions import Predictions
from engine.metrics import counts, ranking
from records.labels import FINDINGS

HALF, YOUDEN, SENSITIVITY = "0.5", "youden", "sensitivity_0.90"
TARGET_SENSITIVITY = 0.90
CELLS = ("tp", "fp", "tn", "fn")
# The names that the run's log uses.
METRICS = ("recall", "specificity", "ppv", "npv", "f1", "hamming_loss")
# Of all findings together there is one more, which no threshold is in.
AUC = "multi_label_auc"
SEVEN = ("recall", "specificity", AUC, "ppv", "npv", "f1", "hamming_loss")


def points(
    predictions: Predictions, chosen: Mapping[str, Mapping[str, float | None]] | None
) -> list[dict[str, Any]]:
    """Judge a split at 0.5 and at each chosen set of thresholds.

    Args:
        predictions: of the split.
        chosen: thresholds of each finding by the point's name, from validation; None: at 0.5 only.

    Returns:
        `operating_points` of `metrics.json`.
    """
    half: Mapping[str, float | None] = dict.fromkeys(FINDINGS, 0.5)
    found = [_point(predictions, HALF, None, half)] + [
        _point(predictions, name, "validation", thresholds) for name, thresholds in (chosen or {}).items()
    ]
    auc = _multi_label_auc(predictions.labels, predictions.logits)
    return [point | {"total": point["total"] | {AUC: auc}} for point in found]


def baseline(labels: np.ndarray) -> dict[str, float | None]:
    """The metrics over all findings of a model that finds nothing; labels are (N, F)."""
    auc = _multi_label_auc(labels, np.zeros(labels.shape))
    return _averages(counts.all_negative_baseline(labels), "micro") | {AUC: auc}


def _multi_label_auc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """The mean of the findings' AUROC, as Keras's `AUC(multi_label=True)` means it."""
    return defined(ranking.macro(ranking.auroc(labels, scores)))


def _point(
    predictions: Predictions,
    name: str,
    chosen_on: str | None,
    thresholds: Mapping[str, float | None],
) -> dict[str, Any]:
    # Without positives on validation a finding has no threshold: it is left out, also of the totals.
    known = [column for column, finding in enumerate(FINDINGS) if thresholds[finding] is not None]
    cuts = np.array([thresholds[FINDINGS[column]] for column in known], np.float64)
    matrix = counts.confusion(predictions.labels[:, known], predictions.probabilities[:, known], cuts)
    total = {cell: int(getattr(matrix, cell).sum()) for cell in CELLS}
    findings: dict[str, Any] = {
        finding: dict.fromkeys(("threshold", *METRICS, *CELLS)) for finding in FINDINGS
    }
    for place, column in enumerate(known):
        findings[FINDINGS[column]] = _of_finding(matrix, place, float(cuts[place]))
    return {
        "name": name,
        "chosen_on": chosen_on,
        "total": _averages(matrix, "micro") | total,
        "macro": _averages(matrix, "macro"),
        "findings": findings,
    }


def _of_finding(matrix: counts.Confusion, place: int, threshold: float) -> dict[str, Any]:
    values = [defined(metric.per_finding[place]) for metric in matrix.metrics().values()]
    cells = {cell: int(getattr(matrix, cell)[place]) for cell in CELLS}
    return {"threshold": threshold, **dict(zip(METRICS, values, strict=True)), **cells}


def _averages(matrix: counts.Confusion, kind: str) -> dict[str, float | None]:
    values = [defined(getattr(metric, kind)) for metric in matrix.metrics().values()]
    return dict(zip(METRICS, values, strict=True))


def defined(value: float) -> float | None:
    """Return a number as JSON has it, which knows no NaN."""
    return float(value) if math.isfinite(value) else None
