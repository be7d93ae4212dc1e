"""Whether findings are as frequent in test as in validation, where thresholds and temperatures were chosen.

Where they aren't, PPV, NPV and calibration don't carry over, though AUROC does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import fisher_exact

from records.errors import RunError
from records.labels import FINDINGS

# Below it a shift is of no consequence, however sure it is.
RATIO = 1.5
_LEVEL = 0.05


class Shift(NamedTuple):
    """How frequent a finding is in two splits.

    Attributes:
        finding: its name.
        validation: share of the images that have it; NaN without images.
        test: likewise.
        ratio: test over validation; NaN where validation has none.
        warned: whether the two differ beyond chance and by more than `RATIO`.
    """

    finding: str
    validation: float
    test: float
    ratio: float
    warned: bool


def shifts(
    validation_positive: ArrayLike,
    validation_images: int,
    test_positive: ArrayLike,
    test_images: int,
    findings: Sequence[str] = FINDINGS,
) -> list[Shift]:
    """Compare how frequent findings are, and warn where that matters.

    Warned is where one prevalence is more than 1.5 times the other, and Fisher's exact test (two-sided;
    Fisher 1922, Journal of the Royal Statistical Society 85) has p below 0.05 over the number of findings,
    after Bonferroni. It takes images for independent, which those of one patient aren't, so it is too sure;
    hence the ratio as well.

    Args:
        validation_positive: (F,) images with each finding.
        validation_images: in all.
        test_positive: (F,).
        test_images: in all.
        findings: names, F.

    Raises:
        RunError: there is not one count per finding, or a count is above the number of images.
    """
    counts = np.stack(
        [
            _checked(validation_positive, validation_images, findings),
            _checked(test_positive, test_images, findings),
        ],
        axis=1,
    )
    return [
        _shift(name, int(validation), validation_images, int(test), test_images, _LEVEL / len(findings))
        for name, (validation, test) in zip(findings, counts, strict=True)
    ]


def _shift(
    finding: str, validation: int, validation_images: int, test: int, test_images: int, level: float
) -> Shift:
    before, now = _share(validation, validation_images), _share(test, test_images)
    if math.isnan(before) or math.isnan(now):
        return Shift(finding, before, now, math.nan, False)
    table = [[validation, validation_images - validation], [test, test_images - test]]
    large = max(before, now) > RATIO * min(before, now)
    warned = bool(large and fisher_exact(table).pvalue < level)
    return Shift(finding, before, now, _share(now, before), warned)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _checked(positive: ArrayLike, images: int, findings: Sequence[str]) -> np.ndarray:
    counts = np.asarray(positive)
    if counts.shape != (len(findings),):
        raise RunError(f"counts of shape {counts.shape} for {len(findings)} findings")
    if (counts > images).any() or (counts < 0).any():
        raise RunError(f"counts from {counts.min()} to {counts.max()} of {images} images")
    return counts
