"""What a model's outputs mean: logits, and the probabilities that they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np


def probabilities(logits: Any) -> np.ndarray:
    """Turn logits of any shape into float32 probabilities of the same shape.

    Near 1, float32 holds few of them apart: from a logit of about 17 on they are all 1.0. So rank by
    logits where ties would matter.
    """
    wide = np.asarray(logits, np.float64)
    # exp(-softplus(-x)) is the sigmoid that overflows nowhere.
    return np.exp(-np.logaddexp(0.0, -wide)).astype(np.float32)
