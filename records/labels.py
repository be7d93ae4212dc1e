"""The 14 findings in one pinned order, and the way between `A|B` cells and multi-hot vectors.

The order is by frequency in the data set, as Fisher (2025) lists it. It is part of every record and
manifest, so it never changes within a schema version.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from records.errors import TableError

FINDINGS: tuple[str, ...] = (
    "Infiltration",
    "Effusion",
    "Atelectasis",
    "Nodule",
    "Mass",
    "Pneumothorax",
    "Consolidation",
    "Pleural_Thickening",
    "Cardiomegaly",
    "Emphysema",
    "Edema",
    "Fibrosis",
    "Pneumonia",
    "Hernia",
)
NO_FINDING = "No Finding"

# The box list says `Infiltrate` where the table says `Infiltration`.
BOX_ALIASES = {"Infiltrate": "Infiltration"}

_POSITION = {finding: position for position, finding in enumerate(FINDINGS)}


def encode(cell: str) -> np.ndarray:
    """Turn a `Finding Labels` cell into a multi-hot vector.

    Args:
        cell: findings joined by a bar in any order (`Mass|Nodule`), or `No Finding` alone.

    Returns:
        (14,) uint8 in `FINDINGS` order, 1 where the finding is reported.

    Raises:
        TableError: an unknown, empty or repeated finding, or `No Finding` beside another.
    """
    multi_hot = np.zeros(len(FINDINGS), np.uint8)
    if cell == NO_FINDING:
        return multi_hot
    for finding in cell.split("|"):
        if finding not in _POSITION:
            raise TableError(_unknown(finding, cell))
        if multi_hot[_POSITION[finding]]:
            raise TableError(f"the finding `{finding}` stands twice in `{cell}`; list each once")
        multi_hot[_POSITION[finding]] = 1
    return multi_hot


def decode(multi_hot: Sequence[int] | np.ndarray) -> str:
    """Turn a (14,) multi-hot vector into a cell, findings in `FINDINGS` order."""
    present = [finding for finding, value in zip(FINDINGS, multi_hot, strict=True) if value]
    return "|".join(present) or NO_FINDING


def _unknown(finding: str, cell: str) -> str:
    if finding == NO_FINDING:
        return f"`{NO_FINDING}` stands beside other findings in `{cell}`; it must stand alone"
    return (
        f"unknown finding `{finding}` in `{cell}`; "
        f"expected `{NO_FINDING}` or some of {', '.join(FINDINGS)} joined by `|`"
    )
