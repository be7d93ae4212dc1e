"""Makes logits of members with known strengths."""

from __future__ import annotations

import numpy as np

from records.labels import FINDINGS


def make_validation(
    strengths: tuple[float, ...],
    *,
    patients: int = 150,
    images_each: int = 2,
    prevalence: float = 0.2,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits (M, N, 14), labels (N, 14) and patient ids (N,).

    A member's logits are standard noise of its own, shifted for positives by its strength.
    """
    rng = np.random.default_rng(seed)
    images = patients * images_each
    labels = (rng.random((images, len(FINDINGS))) < prevalence).astype(np.uint8)
    noise = rng.normal(size=(len(strengths), images, len(FINDINGS)))
    logits = noise + np.array(strengths)[:, None, None] * labels - 1.5
    return logits, labels, np.repeat(np.arange(patients) + 1, images_each)
