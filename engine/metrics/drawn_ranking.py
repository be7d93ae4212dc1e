"""AUROC and average precision of one ranking on many draws of patients, exact.

The images are ranked once. Both metrics change only at scores that positives have, so of what lies between
two of those only the number of drawn negatives counts: a sparse matrix of images' patients times the counts.

N = images, P = patients, B = draws, K = distinct scores that positives have, the highest first.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse


class DrawnRanking:
    """One list of images, ranked.

    Args:
        positive: (N,) bool.
        scores: (N,) without NaN; infinite ones can be ranked.
        of_image: (N,) place of each image's patient, as `PatientDraws` has it.
        patients: P.
    """

    def __init__(self, positive: np.ndarray, scores: np.ndarray, of_image: np.ndarray, patients: int) -> None:
        thresholds = np.unique(scores[positive])
        reached = np.searchsorted(thresholds, scores, "right")
        # Of the highest threshold that an image reaches, the highest first; K where it reaches none.
        place = len(thresholds) - reached
        called = ~positive & (reached > 0)
        tied = called.copy()
        tied[called] = thresholds[reached[called] - 1] == scores[called]

        def of_patients(images: np.ndarray) -> sparse.csr_array:
            cells = (place[images], of_image[images])
            ones = np.ones(len(cells[0]), np.int32)
            return sparse.csr_array((ones, cells), shape=(len(thresholds), patients), dtype=np.int32)

        # (K, P) each: how many images of a patient are called from a threshold on, and not before.
        self._positives, self._negatives = of_patients(positive), of_patients(called)
        self._tied = of_patients(tied) if tied.any() else None
        self._all_negatives = np.bincount(of_image[~positive], minlength=patients)

    def auroc(self, counts: np.ndarray) -> np.ndarray:
        """AUROC of each draw, ties counting half: `engine.metrics.auroc` of the drawn, to the last bit.

        Args:
            counts: (P, B) int32, how often each patient was drawn.

        Returns:
            (B,) float64, NaN where a draw has no positives or no negatives.
        """
        return self._auroc(counts, self._positives @ counts, self._false(counts))

    def auroc_and_average_precision(self, counts: np.ndarray) -> np.ndarray:
        """AUROC as `auroc` has it, and `engine.metrics.average_precision`; (2, B), NaN alike."""
        found, false = self._positives @ counts, self._false(counts)
        auroc = self._auroc(counts, found, false)
        true = np.cumsum(found, axis=0, dtype=np.int32)
        # Where nothing is called yet, nothing was found either, and any precision will do.
        precision = true / np.maximum(true + false, 1)
        weighted = np.einsum("kb,kb->b", found, precision)
        positives = found.sum(axis=0, dtype=np.int64)
        return np.stack([auroc, _divided(weighted, np.where(np.isnan(auroc), 0, positives))])

    def _false(self, counts: np.ndarray) -> np.ndarray:
        """Drawn negatives that reach each threshold; (K, B) int32."""
        return np.cumsum(self._negatives @ counts, axis=0, dtype=np.int32)

    def _auroc(self, counts: np.ndarray, found: np.ndarray, false: np.ndarray) -> np.ndarray:
        # Twice the count of ill-ordered pairs, so that a tie's half stays an integer and the sum exact.
        doubled = 2 * false if self._tied is None else 2 * false - self._tied @ counts
        wrong = np.einsum("kb,kb->b", found, doubled, dtype=np.int64)
        pairs = found.sum(axis=0, dtype=np.int64) * (self._all_negatives @ counts)
        return _divided(2 * pairs - wrong, 2 * pairs)


def _divided(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
