"""Losses are ranked by their mean over seeds, paired with the baseline, and only if they began alike."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fabricated_comparison import labels, outcome, patient_ids

from engine import metrics
from engine.comparison import ranking
from engine.metrics.intervals import Interval
from records.errors import RunError


def _ranked(*qualities: float | None, seeds=(1, 2, 3)) -> ranking.Ranking:
    of_losses = [
        [outcome(quality or 0, seed, diverged=quality is None and seed == 2) for seed in seeds]
        for quality in qualities
    ]
    return ranking.rank(of_losses, labels(), patient_ids(), baseline=0, draws=300)


def test_the_best_mean_over_seeds_comes_first_and_what_diverged_last() -> None:
    ranked = _ranked(1.0, None, 2.0, 0.5)
    assert [row.number for row in ranked.rows] == [2, 0, 3, 1]
    assert [row.diverged for row in ranked.rows] == [0, 0, 0, 1]
    assert np.isnan(ranked.rows[-1].macro_auroc.value)
    assert ranked.pairs == 3


def test_a_value_is_the_mean_over_seeds_of_the_macro_auroc_and_lies_in_its_interval() -> None:
    best = _ranked(1.0, 2.0).rows[0]
    expected = [metrics.macro(outcome(2.0, seed).auroc) for seed in (1, 2, 3)]
    assert best.of_seeds.tolist() == expected
    assert best.macro_auroc.value == pytest.approx(np.mean(expected))
    assert best.macro_auroc.low < best.macro_auroc.value < best.macro_auroc.high
    assert np.isnan(best.auroc).tolist() == [False] * 13 + [True]


def test_the_same_predictions_differ_by_exactly_nothing() -> None:
    ranked = _ranked(1.0, 1.0)
    assert ranked.rows[1].minus_baseline == Interval(0.0, 0.0, 0.0)
    assert ranked.pairs_apart == 0


def test_paired_differences_tell_losses_apart_whose_own_intervals_overlap() -> None:
    better, base = _ranked(1.0, 1.1).rows
    assert better.macro_auroc.low < base.macro_auroc.high
    assert better.minus_baseline is not None
    assert better.minus_baseline.excludes_zero
    assert base.minus_baseline is None


def test_intervals_are_wider_where_the_seeds_differ() -> None:
    alike = [[outcome(1.0, 1)] * 3, [outcome(1.0, 1)] * 3]
    unlike = [[outcome(quality, 1) for quality in (0.5, 1.0, 1.5)], alike[1]]
    widths = []
    for of_losses in (alike, unlike):
        ranked = ranking.rank(of_losses, labels(), patient_ids(), baseline=1, draws=300)
        (row,) = (row for row in ranked.rows if row.number == 0)
        widths.append(row.macro_auroc.high - row.macro_auroc.low)
    assert widths[1] > 1.5 * widths[0]


def test_a_mean_over_few_seeds_varies_in_the_draws_as_a_mean_of_fresh_ones_would() -> None:
    values = np.array([0.1, 0.2, 0.6])
    weights = ranking.seed_weights(3, 20_000, np.random.default_rng(1))
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    assert (values @ weights).mean() == pytest.approx(values.mean(), abs=0.01)
    assert (values @ weights).var() == pytest.approx(values.var(ddof=1) / 3, rel=0.03)
    assert (ranking.seed_weights(1, 5, np.random.default_rng(1)) == 1).all()


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"initial_weights": "others"}, "initial weights"),
        ({"record_order": "another"}, "record order"),
        ({"steps": 11}, "steps"),
    ],
)
def test_losses_that_did_not_begin_and_go_on_alike_are_not_compared(changed, what: str) -> None:
    fair = [[outcome(1.0, seed) for seed in (1, 2)] for _ in range(2)]
    ranking.check_fair(fair, (1, 2), ("bce", "focal"))
    fair[1][1] = dataclasses.replace(fair[1][1], **changed)
    with pytest.raises(RunError, match=f"focal, seed 2: other {what} than the other losses had"):
        ranking.check_fair(fair, (1, 2), ("bce", "focal"))


def test_a_training_that_diverged_early_may_have_fewer_steps() -> None:
    ranking.check_fair([[outcome(1.0, diverged=True)], [outcome(1.0)]], (1,), ("bce", "focal"))
