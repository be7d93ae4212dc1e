"""The class-imbalance guide's oversampling: records of rare findings stand in an epoch once more.

The guide appends copies of the pictures; here they are repeats in the order, so they cost no memory, lie
among the other records, and each is varied by a transform of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from records.labels import FINDINGS

# All but Infiltration, Effusion, Atelectasis and Edema, in the guide's order.
GUIDE_FINDINGS = (
    "Hernia",
    "Pneumonia",
    "Fibrosis",
    "Emphysema",
    "Pleural_Thickening",
    "Cardiomegaly",
    "Consolidation",
    "Pneumothorax",
    "Mass",
    "Nodule",
)


def repeats(labels: np.ndarray, findings: Sequence[str]) -> np.ndarray | None:
    """Return how often each record is repeated: once where it has any of the findings.

    A record with several of them is repeated once all the same, as in the guide.

    Args:
        labels: (N, 14) of 0 and 1, in `labels.FINDINGS` order.
        findings: names; none: no record is repeated.

    Returns:
        (N,) uint8, or None if no finding is named.
    """
    if not findings:
        return None
    columns = [FINDINGS.index(finding) for finding in findings]
    return np.asarray(labels[:, columns].any(axis=1), np.uint8)
