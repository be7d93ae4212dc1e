"""Thresholds are the best there are by trying all, and are called as `counts` calls them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from engine.metrics import confusion, thresholds
from records.errors import RunError

RNG = np.random.default_rng(13)
LABELS = (RNG.random((300, 5)) < [0.5, 0.2, 0.1, 0.05, 0.02]).astype(np.uint8)
LABELS[:2] = [[0], [1]]
PROBABILITIES = {
    "distinct": np.clip(RNG.normal(0.3 + 0.3 * LABELS, 0.15), 0, 1),
    "tied": np.round(np.clip(RNG.normal(0.3 + 0.3 * LABELS, 0.15), 0, 1), 1),
    "float32": np.clip(RNG.normal(0.3 + 0.3 * LABELS, 0.15), 0, 1).astype(np.float32),
    "no better than chance": RNG.random(LABELS.shape),
    "reversed": 1.0 - LABELS,
    "constant": np.full(LABELS.shape, 0.25),
}


def _tried(labels: np.ndarray, probabilities: np.ndarray) -> list[tuple[float, float, float]]:
    """Each threshold there is, highest first, with its sensitivity and specificity."""
    return [
        (
            threshold,
            (probabilities[labels == 1] >= threshold).mean(),
            (probabilities[labels == 0] < threshold).mean(),
        )
        for threshold in sorted(set(probabilities.tolist()), reverse=True)
    ]


@pytest.mark.parametrize("kind", PROBABILITIES)
def test_youdens_threshold_is_the_highest_of_the_best_by_trying_all(kind: str) -> None:
    found = thresholds.youden(LABELS, PROBABILITIES[kind])
    for threshold, labels, probabilities in zip(found, LABELS.T, PROBABILITIES[kind].T, strict=True):
        tried = _tried(labels, probabilities)
        best = max(sensitivity + specificity for _, sensitivity, specificity in tried)
        assert threshold == next(t for t, one, other in tried if one + other >= best - 1e-12)


def test_youdens_threshold_is_that_of_scikit_learns_curve() -> None:
    found = thresholds.youden(LABELS, PROBABILITIES["distinct"])
    for threshold, labels, probabilities in zip(found, LABELS.T, PROBABILITIES["distinct"].T, strict=True):
        false, true, tried = roc_curve(labels, probabilities)
        assert threshold == tried[np.argmax(true - false)]


@pytest.mark.parametrize("kind", PROBABILITIES)
@pytest.mark.parametrize("target", [0.0, 0.5, 0.9, 1.0])
def test_the_threshold_for_a_sensitivity_is_the_highest_that_reaches_it(kind: str, target: float) -> None:
    found = thresholds.for_sensitivity(LABELS, PROBABILITIES[kind], target)
    for threshold, labels, probabilities in zip(found, LABELS.T, PROBABILITIES[kind].T, strict=True):
        tried = _tried(labels, probabilities)
        assert threshold == next(t for t, sensitivity, _ in tried if sensitivity >= target)


def test_calls_at_the_threshold_reach_the_target_sensitivity_and_just_above_they_do_not() -> None:
    for kind in ("distinct", "float32"):
        at = thresholds.for_sensitivity(LABELS, PROBABILITIES[kind])
        assert (confusion(LABELS, PROBABILITIES[kind], at).recall.per_finding >= 0.9).all()
        above = np.nextafter(at, 1)
        assert (confusion(LABELS, PROBABILITIES[kind], above).recall.per_finding < 0.9).all()


def test_nine_of_ten_positives_are_a_sensitivity_of_nine_tenths() -> None:
    labels = np.ones((11, 1))
    labels[10] = 0
    scores = np.arange(11)[::-1, None] / 10
    assert thresholds.for_sensitivity(labels, scores).tolist() == [0.2]
    assert thresholds.for_sensitivity(labels, scores, 0.91).tolist() == [0.1]


def test_where_no_threshold_beats_chance_one_is_taken_that_is_no_worse() -> None:
    assert thresholds.youden([[1], [0], [1], [0]], [[0.1], [0.9], [0.2], [0.8]]).tolist() == [0.1]
    assert thresholds.youden([[1], [0], [1], [0]], [[0.1], [0.1], [0.2], [0.2]]).tolist() == [0.2]


@pytest.mark.parametrize("choose", [thresholds.youden, thresholds.for_sensitivity])
def test_a_finding_without_positives_or_without_negatives_has_no_threshold(choose) -> None:
    found = choose([[0, 1, 1], [0, 1, 0]], [[0.5, 0.5, 0.7], [0.4, 0.4, 0.2]])
    np.testing.assert_array_equal(found, [np.nan, np.nan, 0.7])
    assert np.isnan(choose(np.zeros((0, 2)), np.zeros((0, 2)))).all()


def test_nan_has_no_threshold_and_is_refused() -> None:
    with pytest.raises(RunError, match="1 of 2 predictions are NaN"):
        thresholds.youden([[0], [1]], [[np.nan], [0.5]])
