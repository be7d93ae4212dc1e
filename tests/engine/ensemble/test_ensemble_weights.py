from __future__ import annotations

import itertools

import numpy as np
import pytest
from members_logits import make_validation

from engine import metrics
from engine.ensemble import weights
from engine.ensemble.combine import LOGITS, PROBABILITIES, RULES, combine


@pytest.mark.parametrize("rule", RULES)
def test_the_function_that_is_climbed_is_the_macro_auroc_of_the_combination(rule: str) -> None:
    logits, labels, _ = make_validation((1.0, 0.5, 0.2))
    labels[:, 3] = 0  # not defined
    shares = np.array([0.5, 0.3, 0.2])
    expected = metrics.macro(metrics.auroc(labels, combine(logits, rule, shares)))
    assert weights.MacroAuroc(logits, labels, rule)(shares) == pytest.approx(expected, abs=1e-12)


def test_ties_count_half() -> None:
    logits, labels, _ = make_validation((1.0, 0.5))
    logits = np.round(logits)
    shares = np.array([0.5, 0.5])
    expected = metrics.macro(metrics.auroc(labels, combine(logits, LOGITS, shares)))
    assert weights.MacroAuroc(logits, labels, LOGITS)(shares) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("method", weights.METHODS)
def test_weights_sum_to_1_and_none_is_below_0(method: str) -> None:
    logits, labels, _ = make_validation((1.0, 0.6, 0.1, 0.0))
    found = weights.fit(weights.MacroAuroc(logits, labels, PROBABILITIES), method)
    assert found.sum() == pytest.approx(1)
    assert found.min() >= 0


@pytest.mark.parametrize("method", [weights.FITTED, weights.GREEDY])
def test_a_useless_member_counts_for_little(method: str) -> None:
    logits, labels, _ = make_validation((1.5, 1.5, 0.0))
    found = weights.fit(weights.MacroAuroc(logits, labels, LOGITS), method)
    assert found[2] < 0.1
    assert found[:2] == pytest.approx([0.5, 0.5], abs=0.1)


@pytest.mark.parametrize("method", weights.METHODS)
def test_the_same_is_fitted_again(method: str) -> None:
    logits, labels, _ = make_validation((1.0, 0.6, 0.1))
    first, second = (weights.fit(weights.MacroAuroc(logits, labels, LOGITS), method) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_climb_comes_as_high_as_a_grid_over_all_weights() -> None:
    logits, labels, _ = make_validation((1.2, 0.8, 0.2), patients=60)
    macro_auroc = weights.MacroAuroc(logits, labels, LOGITS)
    grid = [
        np.array([first, second, 20 - first - second]) / 20
        for first in range(21)
        for second in range(21 - first)
    ]
    assert macro_auroc(weights.search(macro_auroc)) > max(map(macro_auroc, grid)) - 5e-4


def test_greedy_selection_finds_the_best_of_all_small_bags() -> None:
    logits, labels, _ = make_validation((1.2, 0.8, 0.2), patients=40)
    macro_auroc = weights.MacroAuroc(logits, labels, LOGITS)
    bags = [
        np.bincount(bag, minlength=3) / size
        for size in range(1, 5)
        for bag in itertools.combinations_with_replacement(range(3), size)
    ]
    assert macro_auroc(weights.select(macro_auroc, rounds=4)) == pytest.approx(max(map(macro_auroc, bags)))


def test_one_round_selects_the_best_member() -> None:
    logits, labels, _ = make_validation((0.3, 1.2, 0.8))
    np.testing.assert_array_equal(
        weights.select(weights.MacroAuroc(logits, labels, LOGITS), rounds=1), [0, 1, 0]
    )


def test_weights_stay_equal_where_no_finding_is_defined() -> None:
    logits, labels, _ = make_validation((1.0, 0.5))
    macro_auroc = weights.MacroAuroc(logits, np.zeros_like(labels), LOGITS)
    assert not macro_auroc.is_defined
    np.testing.assert_array_equal(weights.fit(macro_auroc, weights.FITTED), [0.5, 0.5])
