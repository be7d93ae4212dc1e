"""One logit from several models': the mean of their probabilities, or of their logits.

Nothing here needs TensorFlow. M = members, N = images, F = findings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from records.errors import RunError

PROBABILITIES, LOGITS = "probabilities", "logits"
RULES = (PROBABILITIES, LOGITS)


def combine(logits: ArrayLike, rule: str, weights: ArrayLike | None = None) -> np.ndarray:
    """Combine what several models say.

    The mean of probabilities is given as its logit, which is worked out from logarithms, so that it neither
    saturates nor ties where probabilities in float64 would be 0 or 1.

    Args:
        logits: (M, N, F), or any (M, ...).
        rule: of `RULES`.
        weights: (M,), at least 0, and scaled to a sum of 1. None: all members count alike.

    Returns:
        (N, F) float64 logits; NaN where a member's is.

    Raises:
        RunError: no such rule, no member, or weights of another shape, below 0, not finite, or all 0.
    """
    values = np.asarray(logits, np.float64)
    if rule not in RULES:
        raise RunError(f"rule is `{rule}`; expected {' or '.join(RULES)}")
    if values.ndim < 2 or not len(values):
        raise RunError(f"logits of shape {values.shape} to combine; expected (members, images, findings)")
    shares = _shares(weights, values.shape)
    if rule == LOGITS:
        return (shares * values).sum(axis=0)
    # The logarithm of a weight of 0 is -inf, which counts for nothing; NaN passes through.
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(shares)
        present = np.logaddexp.reduce(logs - np.logaddexp(0.0, -values), axis=0)
        absent = np.logaddexp.reduce(logs - np.logaddexp(0.0, values), axis=0)
        return present - absent


def _shares(weights: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray:
    """Weights that sum to 1 over the members, (M, 1, ...) in as many dimensions as the logits."""
    array = np.ones(shape[0]) if weights is None else np.asarray(weights, np.float64)
    if array.shape != shape[:1]:
        raise RunError(f"weights of shape {array.shape} for logits of shape {shape}; expected {shape[:1]}")
    if not (np.isfinite(array).all() and (array >= 0).all() and array.any()):
        raise RunError(f"weights are {array.tolist()}; expected numbers of at least 0, not all of them 0")
    return (array / array.sum()).reshape(-1, *(1,) * (len(shape) - 1))
