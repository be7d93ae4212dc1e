"""Weights that balance the positives and negatives of a finding, as the guide to class imbalance has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict


class Weights(TypedDict):
    """Of one finding; None where it has no image to weigh."""

    positive: float | None
    negative: float | None


def balanced(positives: Mapping[str, int], images: int) -> dict[str, Weights]:
    """Weigh each finding's positives and negatives to equal sums: w+ = N / 2 n+, w- = N / 2 n-.

    Args:
        positives: n+, the images with each finding.
        images: N, all images of the training split.

    Returns:
        Both weights by finding; a finding that no image or every image has lacks one.
    """
    return {
        finding: Weights(positive=_weight(images, count), negative=_weight(images, images - count))
        for finding, count in positives.items()
    }


def _weight(images: int, count: int) -> float | None:
    return images / (2 * count) if count else None
