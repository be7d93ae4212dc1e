"""Brier score, calibration error and temperatures against scikit-learn, plain loops and known truths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from engine.metrics import auroc, calibration
from records.errors import RunError

RNG = np.random.default_rng(17)
PROBABILITIES = RNG.beta(1, [1, 3, 20], (600, 3))
LABELS = (RNG.random(PROBABILITIES.shape) < PROBABILITIES).astype(np.uint8)


def _error_by_loop(labels: list[int], probabilities: list[float], bins: int) -> float:
    """Calibration error by filling bins one image after the other, ties kept together."""
    images = sorted(zip(probabilities, labels, strict=True))
    filled: list[list[tuple[float, int]]] = [[] for _ in range(bins)]
    place, last = 0, -1.0
    for number, image in enumerate(images):
        if image[0] != last:
            place, last = math.floor(number * bins / len(images)), image[0]
        filled[place].append(image)
    return sum(abs(sum(p for p, _ in of_bin) - sum(y for _, y in of_bin)) for of_bin in filled) / len(images)


def test_the_brier_score_is_scikit_learns() -> None:
    expected = [brier_score_loss(y, p) for y, p in zip(LABELS.T, PROBABILITIES.T, strict=True)]
    np.testing.assert_allclose(calibration.brier(LABELS, PROBABILITIES), expected, atol=1e-15)


def test_reliability_bins_are_those_of_scikit_learns_quantiles() -> None:
    found = calibration.reliability_bins(LABELS, PROBABILITIES)
    for bins, labels, probabilities in zip(found, LABELS.T, PROBABILITIES.T, strict=True):
        observed, mean = calibration_curve(labels, probabilities, n_bins=15, strategy="quantile")
        np.testing.assert_allclose([each.observed for each in bins], observed, atol=1e-15)
        np.testing.assert_allclose([each.probability for each in bins], mean, atol=1e-15)
        assert [each.images for each in bins] == [40] * 15


@pytest.mark.parametrize("images", [1, 7, 599, 600])
@pytest.mark.parametrize("decimals", [1, 2, 17])
@pytest.mark.parametrize("bins", [1, 15])
def test_the_calibration_error_is_that_of_a_plain_loop(images: int, decimals: int, bins: int) -> None:
    labels, probabilities = LABELS[:images], np.round(PROBABILITIES[:images], decimals)
    expected = [
        _error_by_loop(y.tolist(), p.tolist(), bins) for y, p in zip(labels.T, probabilities.T, strict=True)
    ]
    found = calibration.expected_calibration_error(labels, probabilities, bins)
    np.testing.assert_allclose(found, expected, atol=1e-14)


def test_constant_probabilities_share_one_bin_and_are_off_by_the_difference_from_prevalence() -> None:
    constant = np.full(LABELS.shape, 0.25)
    assert [len(bins) for bins in calibration.reliability_bins(LABELS, constant)] == [1, 1, 1]
    np.testing.assert_allclose(
        calibration.expected_calibration_error(LABELS, constant), abs(LABELS.mean(axis=0) - 0.25), atol=1e-14
    )


def test_the_order_of_the_images_does_not_matter_to_the_bins() -> None:
    order, rounded = RNG.permutation(600), np.round(PROBABILITIES, 1)
    found = calibration.expected_calibration_error(LABELS[order], rounded[order])
    np.testing.assert_allclose(found, calibration.expected_calibration_error(LABELS, rounded), atol=1e-14)


def test_certain_and_right_is_perfect_and_certain_and_wrong_is_as_bad_as_can_be() -> None:
    labels = LABELS[:, :2]  # of the third there are too few to fill a bin
    for metric in (calibration.brier, calibration.expected_calibration_error):
        assert metric(labels, labels).tolist() == [0, 0]
        assert metric(labels, 1 - labels).tolist() == [1, 1]


def test_without_images_nothing_is_defined() -> None:
    none = np.zeros((0, 2))
    assert np.isnan(calibration.brier(none, none)).all()
    assert np.isnan(calibration.expected_calibration_error(none, none)).all()
    assert calibration.reliability_bins(none, none) == [[], []]


def test_one_class_alone_still_has_a_calibration_but_no_temperature() -> None:
    for label, reason in ((0, "no positives"), (1, "no negatives")):
        labels = np.full((20, 1), label)
        probabilities = np.full((20, 1), 0.25)
        assert calibration.brier(labels, probabilities)[0] == pytest.approx((0.25 - label) ** 2)
        assert calibration.temperatures(labels, logit(probabilities)) == [(1.0, reason)]


def test_logits_are_refused_where_probabilities_are_expected() -> None:
    for metric in (calibration.brier, calibration.expected_calibration_error):
        with pytest.raises(RunError, match="1 of 2 predictions lie outside"):
            metric([[0], [1]], [[-1.0], [0.5]])


def test_temperatures_that_spoiled_probabilities_are_recovered() -> None:
    true = np.array([0.25, 1.0, 3.0])
    logits = RNG.normal(-1, 1.5, (40_000, 3))
    labels = RNG.random(logits.shape) < expit(logits)
    found = calibration.fit_temperatures(labels, logits * true)
    np.testing.assert_allclose(found, true, rtol=0.04)
    before = calibration.expected_calibration_error(labels, expit(logits * true))
    after = calibration.expected_calibration_error(labels, calibration.apply(logits * true, found))
    assert (after[[0, 2]] < before[[0, 2]] / 4).all()
    assert (after < 0.015).all()


def test_no_other_temperature_has_a_lower_negative_log_likelihood() -> None:
    logits = (2 * logit(PROBABILITIES) + RNG.normal(size=PROBABILITIES.shape)).astype(np.float32)
    found = calibration.fit_temperatures(LABELS, logits)
    for temperature, labels, of_finding in zip(found, LABELS.T, logits.T.astype(np.float64), strict=True):
        tried = [log_loss(labels, expit(of_finding / t)) for t in temperature * np.linspace(0.5, 2, 301)]
        assert log_loss(labels, expit(of_finding / temperature)) <= min(tried) + 1e-15
        assert temperature * np.linspace(0.5, 2, 301)[np.argmin(tried)] == pytest.approx(
            temperature, rel=0.01
        )


def test_a_temperature_leaves_ranks_as_they_are() -> None:
    logits = logit(PROBABILITIES)
    cooled = calibration.apply(logits, calibration.fit_temperatures(LABELS, 3 * logits))
    assert auroc(LABELS, cooled).tolist() == auroc(LABELS, logits).tolist()
    assert cooled.dtype == np.float64


def test_what_no_temperature_suits_keeps_1_and_says_why() -> None:
    labels = np.repeat([0, 1], 50)[:, None]
    certain, reversed_ = np.where(labels, 3.0, -3.0), np.where(labels, -3.0, 3.0)
    useless = np.zeros(labels.shape)
    found = calibration.temperatures(np.tile(labels, 3), np.hstack([certain, reversed_, useless]))
    assert [each.value for each in found] == [1, 1, 1]
    assert "sharper" in str(found[0].reason)
    assert "flatter" in str(found[1].reason)
    assert found[2].reason is not None


def test_logits_far_from_zero_neither_overflow_nor_warn() -> None:
    logits = np.array([[800.0], [-900.0], [700.0], [-1000.0]])
    assert calibration.apply(logits, [1.0]).ravel().tolist() == [1, 0, 1, 0]
    found = calibration.temperatures([[1], [0], [0], [1]], logits)
    assert 0 < found[0].value < math.inf
