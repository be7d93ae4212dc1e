"""Whether a probability of 0.3 comes true in 3 of 10: Brier score, calibration error and temperatures.

N = images, F = findings.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit

from engine.metrics.predictions import checked_labels, checked_probabilities, checked_scores

BINS = 15
LOWEST, HIGHEST = 0.01, 100.0


class Bin(NamedTuple):
    """Images of about the same probability of a finding."""

    probability: float  # mean
    observed: float  # share that has the finding
    images: int


class Temperature(NamedTuple):
    """A finding's temperature, and why it is 1 where it couldn't be fitted."""

    value: float
    reason: str | None


def brier(labels: ArrayLike, probabilities: ArrayLike) -> np.ndarray:
    """Mean squared difference between probability and label per finding; 0 is best.

    Source: Brier 1950, Monthly Weather Review 78(1). Always predicting the prevalence q gives q (1 - q).

    Args:
        labels: (N, F) of 0 and 1.
        probabilities: (N, F) in [0, 1].

    Returns:
        (F,) float64, NaN without images.

    Raises:
        RunError: shapes differ, a label is neither 0 nor 1, or a probability is NaN or outside [0, 1].
    """
    positive = checked_labels(labels)
    squares = np.square(checked_probabilities(probabilities, positive) - positive)
    return squares.mean(axis=0) if len(squares) else np.full(squares.shape[1], np.nan)


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> np.ndarray:
    """Mean over images of |mean probability - observed share| of their bin, per finding.

    The bins have about as many images each, since with bins of one width nearly all images of a rare finding
    are in the lowest, and the error comes out biased (Nixon et al. 2019, "Measuring Calibration in Deep
    Learning"; Roelofs et al. 2022, "Mitigating Bias in Calibration Error Estimation"). That there are 15, and
    the sum itself, is from Guo et al. 2017, "On Calibration of Modern Neural Networks". Arguments, result and
    errors are `brier`'s.
    """
    return np.array([_error(of_finding) for of_finding in reliability_bins(labels, probabilities, bins)])


def reliability_bins(labels: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> list[list[Bin]]:
    """Return the bins of each finding, lowest probabilities first; equal probabilities share a bin.

    Arguments and errors are `brier`'s; bins that remain empty are left out.
    """
    positive = checked_labels(labels)
    given = checked_probabilities(probabilities, positive)
    return [
        _bins(of_labels, of_scores, bins) for of_labels, of_scores in zip(positive.T, given.T, strict=True)
    ]


def fit_temperatures(labels: ArrayLike, logits: ArrayLike) -> np.ndarray:
    """Return (F,) the values of `temperatures`."""
    return np.array([temperature.value for temperature in temperatures(labels, logits)])


def temperatures(labels: ArrayLike, logits: ArrayLike) -> list[Temperature]:
    """Find the T > 0 per finding for which sigmoid(logit / T) has the lowest mean negative log-likelihood.

    Source: Guo et al. 2017. A temperature moves probabilities towards or away from 0.5 and leaves ranks as
    they are; it can't take back the shift that class weights in the loss give. T is 1, with a reason, for a
    finding without positives or negatives, or for which no T from `LOWEST` to `HIGHEST` is best.

    Args:
        labels: (N, F) of 0 and 1, of validation.
        logits: (N, F), finite.

    Returns:
        F of them.

    Raises:
        RunError: shapes differ, a label is neither 0 nor 1, or a logit is NaN.
    """
    positive = checked_labels(labels)
    given = checked_scores(logits, positive).astype(np.float64)
    return [_temperature(*of_finding) for of_finding in zip(positive.T, given.T, strict=True)]


def apply(logits: ArrayLike, temperatures: ArrayLike) -> np.ndarray:
    """Return probabilities (N, F) float64 of logits (N, F) at temperatures (F,): sigmoid(logit / T)."""
    return expit(np.asarray(logits, np.float64) / np.asarray(temperatures, np.float64))


def _bins(positive: np.ndarray, probabilities: np.ndarray, bins: int) -> list[Bin]:
    # An image's bin follows from how many are below it, so ties stay together, in whatever order they come.
    below = np.searchsorted(np.sort(probabilities), probabilities, "left")
    place = below * bins // max(1, len(probabilities))
    sizes = np.bincount(place, minlength=bins)
    sums = np.bincount(place, probabilities, minlength=bins)
    found = np.bincount(place, positive, minlength=bins)
    return [
        Bin(float(sums[b] / sizes[b]), float(found[b] / sizes[b]), int(sizes[b]))
        for b in np.flatnonzero(sizes)
    ]


def _error(bins: list[Bin]) -> float:
    images = sum(each.images for each in bins)
    gaps = sum(each.images * abs(each.probability - each.observed) for each in bins)
    return gaps / images if images else float("nan")


def _temperature(positive: np.ndarray, logits: np.ndarray) -> Temperature:
    if positive.all() or not positive.any():
        return Temperature(1.0, "no positives" if not positive.any() else "no negatives")

    def slope(sharpness: float) -> float:
        """Of the mean negative log-likelihood, which is convex in 1 / T."""
        return float(np.mean(logits * (expit(sharpness * logits) - positive)))

    if slope(1 / HIGHEST) >= 0:
        return Temperature(1.0, f"the flatter the likelier, beyond a temperature of {HIGHEST:g}")
    if slope(1 / LOWEST) <= 0:
        return Temperature(1.0, f"the sharper the likelier, beyond a temperature of {LOWEST:g}")
    return Temperature(1 / brentq(slope, 1 / HIGHEST, 1 / LOWEST, xtol=1e-12), None)
