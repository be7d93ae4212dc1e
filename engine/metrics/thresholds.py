"""Operating points: the thresholds above which a finding is called present, chosen per finding.

Choose them on validation and apply them to test; `counts` judges the calls. A finding is called present where
its probability is at least the threshold, so every threshold is one of the given scores. N = images, F =
findings.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from engine.metrics.predictions import checked_labels, checked_scores

# From positives and negatives called at each distinct score, highest score first, to the place of the chosen.
_Choice = Callable[[np.ndarray, np.ndarray], int]


def youden(labels: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Thresholds with the highest sensitivity + specificity - 1; of several, the highest threshold.

    Source: Youden 1950, Cancer 3(1). Where none does better than chance, it is one that does no worse.

    Args:
        labels: (N, F) of 0 and 1.
        scores: (N, F), probabilities where the thresholds shall apply to such.

    Returns:
        (F,) float64, NaN for a finding without positives or without negatives.

    Raises:
        RunError: shapes differ, a label is neither 0 nor 1, or a score is NaN.
    """
    return _per_finding(_most_informed, labels, scores)


def for_sensitivity(labels: ArrayLike, scores: ArrayLike, target: float = 0.90) -> np.ndarray:
    """Highest thresholds that find at least a share `target` of the positives; the rest is `youden`'s."""
    return _per_finding(lambda true, false: int(np.argmax(true / true[-1] >= target)), labels, scores)  # noqa: ARG005


def _most_informed(true: np.ndarray, false: np.ndarray) -> int:
    # J times both class sizes, so that equal ones are equal as integers.
    return int(np.argmax(true * false[-1] - false * true[-1]))


def _per_finding(choose: _Choice, labels: ArrayLike, scores: ArrayLike) -> np.ndarray:
    positive = checked_labels(labels)
    ranked = checked_scores(scores, positive)
    thresholds = np.full(positive.shape[1], np.nan)
    for finding in range(positive.shape[1]):
        distinct, place = np.unique(ranked[:, finding], return_inverse=True)
        true = _called(place[positive[:, finding]], len(distinct))
        false = _called(place[~positive[:, finding]], len(distinct))
        if len(distinct) and true[-1] and false[-1]:
            thresholds[finding] = distinct[::-1][choose(true, false)]
    return thresholds


def _called(places: np.ndarray, scores: int) -> np.ndarray:
    """How many images reach each distinct score, from the highest down; int64."""
    return np.cumsum(np.bincount(places, minlength=scores)[::-1])
