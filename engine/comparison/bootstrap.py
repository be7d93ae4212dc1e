"""Macro AUROC of many predictions on many draws of patients, exact, and the same draws for all of them.

Patients are drawn, not images: images of one patient are alike, and by image intervals come out half as wide.
N = images, F = findings, P = patients, D = draws.
"""

from __future__ import annotations

import numpy as np

from engine.metrics.predictions import checked_labels


def patient_draws(patient_ids: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw as many patients as there are, with replacement, `draws` times.

    Args:
        patient_ids: (N,).
        draws: D.
        rng: of the draws.

    Returns:
        (N, D) int32: how often each image's patient was drawn.
    """
    patients, of_image = np.unique(patient_ids, return_inverse=True)
    counts = rng.multinomial(len(patients), np.full(len(patients), 1 / len(patients)), size=draws)
    return counts.T.astype(np.int32)[of_image]


def macro_auroc(labels: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Macro AUROC of one model on each draw.

    Args:
        labels: (N, F) of 0 and 1.
        scores: (N, F); NaN: the result is NaN.
        counts: (N, D) int32 of `patient_draws`.

    Returns:
        (D,) float64: the mean over the findings that a draw has both positives and negatives of, NaN where
        there is none.
    """
    positive = checked_labels(labels)
    if np.isnan(scores).any():
        return np.full(counts.shape[1], np.nan)
    values = np.stack(
        [auroc(positive[:, finding], scores[:, finding], counts) for finding in range(positive.shape[1])]
    )
    defined = ~np.isnan(values)
    sums = np.where(defined, values, 0.0).sum(axis=0)
    return np.divide(sums, defined.sum(axis=0), out=np.full(len(sums), np.nan), where=defined.any(axis=0))


def auroc(positive: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """AUROC of one finding on each draw, ties counting half: `engine.metrics.auroc` of the drawn.

    Args:
        positive: (N,) bool.
        scores: (N,).
        counts: (N, D) int32.

    Returns:
        (D,) float64, NaN where a draw has no positives or no negatives.
    """
    result = np.full(counts.shape[1], np.nan)
    if positive.all() or not positive.any():
        return result
    found, missed = counts[positive], counts[~positive]
    above, tied = _negatives_below(scores[positive], scores[~positive], missed)
    # Twice the count of well-ordered pairs, so that a tie's half stays an integer and the sum exact.
    doubled = np.einsum("pd,pd->d", found, 2 * above + tied, dtype=np.int64)
    pairs = found.sum(axis=0, dtype=np.int64) * missed.sum(axis=0, dtype=np.int64)
    return np.divide(doubled, 2 * pairs, out=result, where=pairs > 0)


def _negatives_below(
    positives: np.ndarray, negatives: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How many drawn negatives rank below each positive, and how many level with it; (n+, D) int32 each."""
    order = np.argsort(negatives, kind="stable")
    ranked = negatives[order]
    below = np.zeros((len(negatives) + 1, counts.shape[1]), np.int32)
    np.cumsum(counts[order], axis=0, out=below[1:])
    first, last = np.searchsorted(ranked, positives, "left"), np.searchsorted(ranked, positives, "right")
    return below[first], below[last] - below[first]
