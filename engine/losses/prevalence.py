"""How often each finding is in the training split, and numbers per finding in general."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from records.errors import ConfigError


def training_prevalence(positives: Sequence[int], records: int) -> np.ndarray:
    """Return the share of positives per finding, (F,) float64, of the training split.

    A finding that no record has, or each, counts as half a record, so that its weight stays finite.

    Args:
        positives: records with each finding, F numbers.
        records: of the split.
    """
    half_a_record = 0.5 / records
    return np.clip(np.asarray(positives, np.float64) / records, half_a_record, 1 - half_a_record)


def checked_prevalence(shares: Sequence[float]) -> list[float]:
    """Return the shares as they are saved with a loss.

    Raises:
        ConfigError: one isn't above 0 and below 1.
    """
    numbers = [float(share) for share in shares]
    if not numbers or not all(0 < share < 1 for share in numbers):
        raise ConfigError(
            f"the training prevalence is {numbers}; expected shares above 0 and below 1 "
            "(a finding that no training image shows can't be weighed)"
        )
    return numbers


def per_finding(numbers: Sequence[float] | np.ndarray, labels: Any) -> Any:
    """Turn numbers, one for each finding or one for all, into a float32 tensor that fits (B, F) labels.

    Raises:
        ValueError: there are neither one nor F.
    """
    if len(numbers) not in (1, labels.shape[-1]):
        raise ValueError(f"the loss is of {len(numbers)} findings, the labels are of {labels.shape[-1]}")
    return ops.convert_to_tensor(np.asarray(numbers, np.float32))
