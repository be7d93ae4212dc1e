"""Count metrics at explicit thresholds, all from one confusion matrix of a whole epoch.

One matrix, because numbers that are counted apart contradict each other, and explicit thresholds, because
Keras's F1 without one takes the argmax, which means nothing where several findings can be present. N =
images, F = findings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from engine.metrics.predictions import checked_labels, checked_probabilities
from engine.metrics.ranking import macro
from records.errors import RunError

NAMES = ("recall", "specificity", "ppv", "npv", "f1", "hamming")


@dataclass(frozen=True, eq=False)
class Averaged:
    """One metric in three ways; NaN where undefined.

    Attributes:
        per_finding: (F,) float64.
        micro: from the counts of all findings together.
        macro: mean over the findings where it is defined.
    """

    per_finding: np.ndarray
    micro: float
    macro: float


@dataclass(frozen=True, eq=False)
class Confusion:
    """True and false positives and negatives per finding, each (F,) int64; tp + fp + tn + fn = N."""

    tp: np.ndarray
    fp: np.ndarray
    tn: np.ndarray
    fn: np.ndarray

    @property
    def recall(self) -> Averaged:
        """TP / (TP + FN), also sensitivity: the share of positives found."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> Averaged:
        """TN / (TN + FP): the share of negatives found."""
        return _ratio(self.tn, self.tn + self.fp)

    @property
    def ppv(self) -> Averaged:
        """TP / (TP + FP), also precision: the share of positive calls that are right."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def npv(self) -> Averaged:
        """TN / (TN + FN): the share of negative calls that are right."""
        return _ratio(self.tn, self.tn + self.fn)

    @property
    def f1(self) -> Averaged:
        """2 TP / (2 TP + FP + FN), the harmonic mean of PPV and recall; the article reports the micro one."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def hamming(self) -> Averaged:
        """(FP + FN) / all: the share of calls that are wrong."""
        return _ratio(self.fp + self.fn, self.tp + self.fp + self.tn + self.fn)

    def metrics(self) -> dict[str, Averaged]:
        """All of them by name, in the order of `NAMES`."""
        return {name: getattr(self, name) for name in NAMES}


def confusion(labels: ArrayLike, probabilities: ArrayLike, thresholds: ArrayLike) -> Confusion:
    """Count calls against labels; a finding is called present where probability >= threshold.

    Args:
        labels: (N, F) of 0 and 1.
        probabilities: (N, F) in [0, 1].
        thresholds: one number for all findings, or (F,).

    Raises:
        RunError: shapes differ, a label is neither 0 nor 1, a probability is NaN or outside [0, 1], or
            thresholds are NaN or not one or F.
    """
    positive = checked_labels(labels)
    scores = checked_probabilities(probabilities, positive)
    return _count(positive, scores >= _checked_thresholds(thresholds, positive.shape[1]))


def all_negative_baseline(labels: ArrayLike) -> Confusion:
    """The matrix of calling nothing present: what a model must beat, with a Hamming loss near 0.05.

    Raises:
        RunError: labels are not (N, F) of 0 and 1.
    """
    positive = checked_labels(labels)
    return _count(positive, np.zeros_like(positive))


def _checked_thresholds(thresholds: ArrayLike, findings: int) -> np.ndarray:
    array = np.asarray(thresholds, np.float64)
    if array.shape not in ((), (findings,)):
        raise RunError(f"expected one threshold or {findings}, got shape {array.shape}")
    if np.isnan(array).any():
        raise RunError(f"{np.count_nonzero(np.isnan(array))} of {array.size} thresholds are NaN")
    return array


def _count(positive: np.ndarray, called: np.ndarray) -> Confusion:
    def per_finding(cells: np.ndarray) -> np.ndarray:
        return np.count_nonzero(cells, axis=0).astype(np.int64)

    return Confusion(
        tp=per_finding(positive & called),
        fp=per_finding(~positive & called),
        tn=per_finding(~positive & ~called),
        fn=per_finding(positive & ~called),
    )


def _ratio(part: np.ndarray, whole: np.ndarray) -> Averaged:
    per_finding = np.full(len(whole), np.nan)
    np.divide(part, whole, out=per_finding, where=whole > 0)
    total = whole.sum()
    micro = float(part.sum() / total) if total else float("nan")
    return Averaged(per_finding, micro, macro(per_finding))
