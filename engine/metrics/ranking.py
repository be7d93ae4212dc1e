"""Exact AUROC and average precision per finding, from the ranks of a whole epoch's predictions.

Keras's AUC works with 200 bins and is off by up to 0.09 on rare findings; nothing is binned here. N =
images, F = findings. Scores may be logits or probabilities: only their order counts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from engine.metrics.predictions import checked_labels, checked_scores

# From positives and negatives at each distinct score, highest score first, to the metric of one finding.
_Metric = Callable[[np.ndarray, np.ndarray], float]


def auroc(labels: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Area under the ROC curve: the chance that a positive ranks above a negative, ties counting half.

    Source: Hanley and McNeil 1982, Radiology 143(1); the Mann-Whitney U statistic over n+ n-.

    Args:
        labels: (N, F) of 0 and 1.
        scores: (N, F), higher where the finding is likelier.

    Returns:
        (F,) float64, NaN for a finding without positives or without negatives.

    Raises:
        RunError: shapes differ, a label is neither 0 nor 1, or a score is NaN.
    """
    return _per_finding(_auroc, labels, scores)


def average_precision(labels: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Area under the precision-recall curve as a sum of steps: sum over thresholds of (R_k - R_k-1) P_k.

    Source: `sklearn.metrics.average_precision_score`; no interpolation, since that is too kind (Davis and
    Goadrich 2006). Equal scores are one threshold. Arguments, result and errors are `auroc`'s.
    """
    return _per_finding(_average_precision, labels, scores)


def micro_auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """AUROC of all N x F pairs of image and finding as one list; arguments and errors are `auroc`'s."""
    return float(auroc(*_pooled(labels, scores))[0])


def micro_average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision of all N x F pairs as one list; arguments and errors are `auroc`'s."""
    return float(average_precision(*_pooled(labels, scores))[0])


def macro(values: ArrayLike) -> float:
    """Mean over the findings where a metric is defined; NaN if it is nowhere."""
    array = np.asarray(values, np.float64)
    defined = array[~np.isnan(array)]
    return float(defined.mean()) if defined.size else float("nan")


def _pooled(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    positive = checked_labels(labels)
    return positive.reshape(-1, 1), checked_scores(scores, positive).reshape(-1, 1)


def _per_finding(metric: _Metric, labels: ArrayLike, scores: ArrayLike) -> np.ndarray:
    positive = checked_labels(labels)
    ranked = checked_scores(scores, positive)
    values = np.full(positive.shape[1], np.nan)
    for finding in range(positive.shape[1]):
        positives, negatives = _ties(positive[:, finding], ranked[:, finding])
        if positives.any() and negatives.any():
            values[finding] = metric(positives, negatives)
    return values


def _ties(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positives and negatives at each distinct score, from the highest down; (K,) int64 each."""
    distinct, group = np.unique(scores, return_inverse=True)
    totals = np.bincount(group, minlength=len(distinct))
    positives = np.bincount(group[positive], minlength=len(distinct))
    return positives[::-1], (totals - positives)[::-1]


def _auroc(positives: np.ndarray, negatives: np.ndarray) -> float:
    # Twice the count of well-ordered pairs, so that a tie's half stays an integer and the sum exact.
    below = negatives.sum() - np.cumsum(negatives)
    doubled = np.sum(positives * (2 * below + negatives))
    return doubled / (2 * positives.sum() * negatives.sum())


def _average_precision(positives: np.ndarray, negatives: np.ndarray) -> float:
    found = np.cumsum(positives)
    precision = found / (found + np.cumsum(negatives))
    return np.sum(positives * precision) / found[-1]
