from __future__ import annotations

import numpy as np
import pytest

from engine.ensemble.combine import LOGITS, PROBABILITIES, RULES, combine
from records.errors import RunError


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


@pytest.fixture
def logits() -> np.ndarray:
    """Of 3 members, 50 images, 14 findings."""
    return np.random.default_rng(3).normal(-2, 2, (3, 50, 14))


@pytest.mark.parametrize("weights", [None, (0.2, 0.3, 0.5), (2, 3, 5), (0, 1, 1)])
def test_the_logit_is_that_of_the_mean_probability(
    logits: np.ndarray, weights: tuple[float, ...] | None
) -> None:
    found = combine(logits, PROBABILITIES, weights)
    expected = np.average(_sigmoid(logits), axis=0, weights=weights)
    np.testing.assert_allclose(_sigmoid(found), expected, rtol=1e-12)


def test_the_mean_of_logits_is_weighted(logits: np.ndarray) -> None:
    found = combine(logits, LOGITS, (1, 2, 1))
    np.testing.assert_allclose(found, (logits[0] + 2 * logits[1] + logits[2]) / 4, rtol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_equal_members_give_what_each_gives(rule: str) -> None:
    one = np.array([[-800.0, -40.0, -1e-9, 0.0, 36.9, 37.1, 45.0, 800.0]])
    np.testing.assert_allclose(
        combine(np.stack([one] * 3), rule, (0.2, 0.5, 0.3)), one, rtol=1e-12, atol=1e-15
    )


def test_probabilities_that_float64_takes_for_1_are_still_told_apart() -> None:
    members = np.array([[[40.0, 41.0, -800.0]], [[42.0, 42.0, -799.0]]])
    found = combine(members, PROBABILITIES)
    assert found[0, 0] < found[0, 1]
    # The mean of 1 - exp(-40) and 1 - exp(-42).
    assert found[0, 0] == pytest.approx(-np.log((np.exp(-40.0) + np.exp(-42.0)) / 2), rel=1e-12)
    assert found[0, 2] == pytest.approx(-799 + np.log((1 + np.exp(-1)) / 2), rel=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_a_member_without_weight_does_not_count(logits: np.ndarray, rule: str) -> None:
    np.testing.assert_allclose(
        combine(logits, rule, (1, 0, 1)), combine(logits[[0, 2]], rule), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("rule", RULES)
def test_a_logit_that_is_no_number_stays_none(logits: np.ndarray, rule: str) -> None:
    logits[1, 7, 2] = np.nan
    assert np.argwhere(np.isnan(combine(logits, rule))).tolist() == [[7, 2]]


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ((1, 1), "shape"),
        (((1,) * 14,) * 3, r"shape \(3, 14\)"),
        ((1, -1, 1), "at least 0"),
        ((0, 0, 0), "not all of them 0"),
        ((1, np.nan, 1), "numbers"),
    ],
)
def test_weights_that_mean_nothing_are_refused(
    logits: np.ndarray, weights: tuple[float, ...], said: str
) -> None:
    with pytest.raises(RunError, match=said):
        combine(logits, PROBABILITIES, weights)


def test_a_rule_that_is_not_known_is_refused(logits: np.ndarray) -> None:
    with pytest.raises(RunError, match="probabilities or logits"):
        combine(logits, "median")


def test_no_member_is_refused() -> None:
    with pytest.raises(RunError, match="members"):
        combine(np.empty((0, 5, 14)), LOGITS)
