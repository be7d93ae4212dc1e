"""Intervals are those of a plain loop over drawn patients, and undefined where they must be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from engine import metrics
from engine.metrics import bootstrap, draws
from engine.metrics.drawn_ranking import DrawnRanking
from records.errors import RunError

IMAGES, DRAWS = 150, 60
SCORES = {
    "distinct": lambda labels, rng: labels + rng.normal(size=labels.shape),
    "tied": lambda labels, rng: np.round(labels + rng.normal(size=labels.shape)),
    "constant": lambda labels, _: np.zeros(labels.shape),
    "unsigned": lambda labels, rng: (labels + rng.integers(0, 3, labels.shape)).astype(np.uint8),
    "infinite": lambda labels, rng: np.where(rng.random(labels.shape) < 0.3, np.inf, -labels),
    "perfect": lambda labels, _: labels.astype(np.float32),
}


def _labels(seed: int = 3) -> np.ndarray:
    """Four findings: one that few patients lack, one that few have, and one that nobody has."""
    return (np.random.default_rng(seed).random((IMAGES, 4)) < [0.985, 0.2, 0.03, 0]).astype(np.uint8)


def _patients(seed: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).choice([5, 900, 17, *range(30, 70)], IMAGES)


def _rows(drawn: bootstrap.PatientDraws, number: int) -> np.ndarray:
    """The images of a draw written out, those of a patient as often as it was drawn."""
    counts = drawn.counts(number, number + 1)[:, 0]
    return np.concatenate(
        [np.flatnonzero(drawn.of_image == p) for p in range(drawn.patients) for _ in range(counts[p])]
    )


def _sklearn(metric, labels: np.ndarray, scores: np.ndarray) -> list[float]:
    scores = np.nan_to_num(scores.astype(np.float64))  # it takes no infinite ones
    return [
        metric(y, s) if 0 < y.sum() < len(y) else math.nan for y, s in zip(labels.T, scores.T, strict=True)
    ]


@pytest.mark.parametrize("kind", SCORES)
def test_intervals_are_those_of_a_loop_over_drawn_patients_with_scikit_learn(kind: str) -> None:
    labels, patients = _labels(), _patients()
    scores = SCORES[kind](labels, np.random.default_rng(5))
    found = bootstrap.ranking_intervals(labels, scores, patients, draws=DRAWS, seed=8)
    drawn = bootstrap.PatientDraws(patients, DRAWS, 8)
    rows = [np.arange(IMAGES), *(_rows(drawn, number) for number in range(DRAWS))]
    for metric, of_findings, of_macro, of_micro in (
        (roc_auc_score, found.auroc, found.macro_auroc, found.micro_auroc),
        (average_precision_score, found.auprc, found.macro_auprc, found.micro_auprc),
    ):
        values = np.array([_sklearn(metric, labels[row], scores[row]) for row in rows])
        micro = [_sklearn(metric, *(a[row].reshape(-1, 1) for a in (labels, scores)))[0] for row in rows]
        macro = [metrics.macro(value) for value in values]
        for interval, expected in zip(
            [*of_findings, of_macro, of_micro], [*values.T, np.array(macro), np.array(micro)], strict=True
        ):
            limits = (
                np.nanpercentile(expected[1:], (2.5, 97.5)) if expected[0] == expected[0] else [math.nan] * 2
            )
            np.testing.assert_allclose(interval, [expected[0], *limits], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", SCORES)
def test_auroc_on_a_draw_is_that_of_the_drawn_images_to_the_last_bit(kind: str) -> None:
    labels = _labels()
    scores = SCORES[kind](labels, np.random.default_rng(6))
    drawn = bootstrap.PatientDraws(_patients(), DRAWS)
    ranking = DrawnRanking(labels[:, 1] == 1, scores[:, 1], drawn.of_image, drawn.patients)
    values = drawn.on_all(ranking.auroc)
    for number in range(DRAWS):
        row = _rows(drawn, number)
        assert values[number] == metrics.auroc(labels[row, 1:2], scores[row, 1:2])[0]


def test_all_images_of_a_patient_are_drawn_together_and_as_many_patients_as_there_are() -> None:
    drawn = bootstrap.PatientDraws([7, 7, 7, 9, 1, 1], 100)
    counts = drawn.counts(0, 100)
    assert drawn.of_image.tolist() == [1, 1, 1, 2, 0, 0]
    assert counts.shape == (3, 100)
    assert (counts.sum(axis=0) == 3).all()
    assert counts.mean() == 1
    assert np.ptp(counts.mean(axis=1)) < 0.5


def test_a_draw_depends_on_the_seed_and_its_number_alone() -> None:
    patients = _patients()
    drawn = bootstrap.PatientDraws(patients, 10, 1)
    counts = drawn.counts(0, 10)
    np.testing.assert_array_equal(bootstrap.PatientDraws(patients, 500, 1).counts(3, 10), counts[:, 3:])
    assert (bootstrap.PatientDraws(patients, 10, 2).counts(0, 10) != counts).any()
    assert len(np.unique(counts, axis=1).T) == 10


@pytest.mark.parametrize(("block", "threads"), [(2, 1), (7, 3), (1000, 2)])
def test_neither_threads_nor_blocks_change_a_bit(monkeypatch, block: int, threads: int) -> None:
    labels, patients = _labels(), _patients()
    scores = SCORES["tied"](labels, np.random.default_rng(5))
    expected = bootstrap.ranking_intervals(labels, scores, patients, draws=DRAWS)
    monkeypatch.setattr(draws, "BLOCK_DRAWS", block)
    monkeypatch.setattr(draws, "usable_cores", lambda: threads)
    assert repr(bootstrap.ranking_intervals(labels, scores, patients, draws=DRAWS)) == repr(expected)


def test_the_order_of_the_images_changes_no_bit() -> None:
    labels, patients = _labels(), _patients()
    scores = SCORES["tied"](labels, np.random.default_rng(5))
    order = np.random.default_rng(1).permutation(IMAGES)
    for interval in (bootstrap.ranking_intervals, bootstrap.paired_gains):
        given = (scores, -scores) if interval is bootstrap.paired_gains else (scores,)
        expected = interval(labels, *given, patients, draws=DRAWS)
        shuffled = interval(labels[order], *(s[order] for s in given), patients[order], draws=DRAWS)
        assert repr(shuffled) == repr(expected)


def test_the_order_of_the_images_changes_no_bit_of_a_mean() -> None:
    rng = np.random.default_rng(1)
    values, patients = rng.lognormal(sigma=3, size=IMAGES), np.arange(IMAGES) // 25
    orders = [rng.permutation(IMAGES) for _ in range(20)]
    found = {bootstrap.mean_interval(values[order], patients[order], draws=DRAWS) for order in orders}
    assert len(found) == 1


def test_paired_gains_are_differences_on_the_same_draws() -> None:
    labels, patients, rng = _labels(), _patients(), np.random.default_rng(5)
    a, b = (SCORES["distinct"](labels, rng) for _ in range(2))
    drawn = bootstrap.PatientDraws(patients, DRAWS, 2)
    rows = [np.arange(IMAGES), *(_rows(drawn, number) for number in range(DRAWS))]
    gains = np.array([metrics.auroc(labels[r], a[r]) - metrics.auroc(labels[r], b[r]) for r in rows])
    found = bootstrap.paired_gains(labels, a, b, patients, draws=DRAWS, seed=2)
    for interval, gain in zip(found[:3], gains.T, strict=False):
        np.testing.assert_allclose(interval, [gain[0], *np.nanpercentile(gain[1:], (2.5, 97.5))], atol=1e-12)
    assert np.isnan(found[3]).all()
    macros = np.array([metrics.macro(gain) for gain in gains])
    np.testing.assert_allclose(
        bootstrap.paired_macro_gain(labels, a, b, patients, draws=DRAWS, seed=2),
        [macros[0], *np.percentile(macros[1:], (2.5, 97.5))],
        atol=1e-12,
    )


def test_a_model_gains_exactly_nothing_over_itself_and_clearly_over_a_worse_one() -> None:
    labels, patients = _labels(), _patients()
    scores = SCORES["distinct"](labels, np.random.default_rng(5))
    assert bootstrap.paired_macro_gain(labels, scores, scores, patients, draws=DRAWS) == (0, 0, 0)
    gain = bootstrap.paired_macro_gain(labels, labels, scores, patients, draws=DRAWS)
    assert gain.excludes_zero
    assert gain.low > 0


def test_one_patient_gives_values_without_intervals() -> None:
    labels = _labels()
    scores = SCORES["distinct"](labels, np.random.default_rng(5))
    one = np.full(IMAGES, 7)
    found = bootstrap.ranking_intervals(labels, scores, one, draws=DRAWS)
    assert found.macro_auroc.value == metrics.macro(metrics.auroc(labels, scores))
    gain = bootstrap.paired_macro_gain(labels, scores, -scores, one, draws=DRAWS)
    mean = bootstrap.mean_interval([0, 1, 1], [4, 4, 4], draws=DRAWS)
    assert mean.value == pytest.approx(2 / 3)
    for interval in (found.macro_auroc, found.micro_auprc, found.auroc[0], gain, mean):
        assert np.isnan(interval).tolist() == [False, True, True]


def test_one_class_alone_defines_neither_value_nor_interval() -> None:
    for labels in (np.zeros((IMAGES, 2)), np.ones((IMAGES, 2))):
        found = bootstrap.ranking_intervals(labels, labels, _patients(), draws=DRAWS)
        assert np.isnan([*found.auroc, *found.auprc]).all()
        assert np.isnan([found.macro_auroc, found.macro_auprc, found.micro_auroc, found.micro_auprc]).all()


def test_no_images_at_all_define_nothing() -> None:
    found = bootstrap.ranking_intervals(np.zeros((0, 3)), np.zeros((0, 3)), [], draws=DRAWS)
    assert np.isnan([*found.auroc, found.macro_auroc, found.micro_auprc]).all()
    assert np.isnan(bootstrap.mean_interval([], [], draws=DRAWS)).all()
    assert np.isnan(bootstrap.mean_interval([math.nan], [1], draws=DRAWS)).all()


def test_draws_that_do_not_define_a_finding_are_left_out() -> None:
    # A draw of n patients misses two given ones in about 14 of 100.
    labels, scores = np.zeros((40, 1)), np.arange(40)[:, None]
    labels[[10, 20]] = 1
    found = bootstrap.ranking_intervals(labels, scores, np.arange(40), draws=400).auroc[0]
    assert found.value == (10 + 19) / (2 * 38)
    drawn = bootstrap.PatientDraws(np.arange(40), 400).counts(0, 400)
    missing = (drawn[[10, 20]] == 0).all(axis=0)
    assert 0.08 < missing.mean() < 0.2
    rows = [np.repeat(np.arange(40), counts) for counts in drawn.T[~missing]]
    values = [metrics.auroc(labels[row], scores[row])[0] for row in rows]
    np.testing.assert_allclose(found[1:], np.percentile(values, (2.5, 97.5)), atol=1e-12)


@pytest.mark.parametrize("lone", [0, 1])
def test_a_finding_whose_positives_or_negatives_are_of_one_patient_has_no_interval(lone: int) -> None:
    patients = np.repeat(np.arange(20), 3)
    labels = np.tile(np.arange(60) % 2, (2, 1)).T
    labels[:, 1] = 1 - lone
    labels[patients == 7, 1] = lone
    scores = np.random.default_rng(2).normal(size=labels.shape)
    found = bootstrap.ranking_intervals(labels, scores, patients, draws=DRAWS)
    gains = bootstrap.paired_gains(labels, scores, -scores, patients, draws=DRAWS)
    for of_findings in (found.auroc, found.auprc, gains):
        assert np.isnan(of_findings).tolist() == [[False] * 3, [False, True, True]]
    assert not np.isnan([*found.macro_auroc, *found.micro_auroc]).any()


def test_a_mean_is_drawn_by_patient() -> None:
    rng = np.random.default_rng(1)
    values, patients = rng.random(IMAGES), _patients()
    values[3] = math.nan
    kept = np.flatnonzero(~np.isnan(values))
    drawn = bootstrap.PatientDraws(patients[kept], DRAWS, 6)
    means = [values[kept][_rows(drawn, number)].mean() for number in range(DRAWS)]
    np.testing.assert_allclose(
        bootstrap.mean_interval(values, patients, draws=DRAWS, seed=6),
        [values[kept].mean(), *np.percentile(means, (2.5, 97.5))],
        atol=1e-12,
    )


def test_names_serve_as_patients() -> None:
    labels = _labels()
    names = np.array([f"p{patient:04d}" for patient in _patients()])
    assert repr(bootstrap.ranking_intervals(labels, labels, names, draws=DRAWS)) == repr(
        bootstrap.ranking_intervals(labels, labels, _patients(), draws=DRAWS)
    )


def test_what_cannot_be_judged_is_refused_with_a_line() -> None:
    labels, patients = _labels(), _patients()
    with pytest.raises(RunError, match="600 of 600 predictions are NaN"):
        bootstrap.ranking_intervals(labels, np.full(labels.shape, math.nan), patients)
    with pytest.raises(RunError, match=r"patients of shape \(149,\) for 150 images"):
        bootstrap.ranking_intervals(labels, labels, patients[1:])
    with pytest.raises(RunError, match="0 draws; expected at least 1"):
        bootstrap.ranking_intervals(labels, labels, patients, draws=0)
    with pytest.raises(RunError, match=r"values of shape \(2,\) for patients of shape \(3,\)"):
        bootstrap.mean_interval([1, 2], [1, 2, 3])


def test_predictions_made_with_stated_aurocs_are_judged_to_have_those() -> None:
    # A positive above k of 1000 negatives has k / 1000; Fisher's figures for the 14 findings, mean 0.842.
    stated = [
        0.723,
        0.898,
        0.816,
        0.791,
        0.837,
        0.892,
        0.824,
        0.803,
        0.915,
        0.913,
        0.899,
        0.833,
        0.756,
        0.886,
    ]
    labels = np.zeros((1020, 14))
    labels[:20] = 1
    scores = np.concatenate(
        [np.tile(np.multiply(stated, 1000) - 0.5, (20, 1)), np.tile(np.arange(1000), (14, 1)).T]
    )
    found = bootstrap.ranking_intervals(labels, scores, np.arange(1020) // 2, draws=200)
    assert [interval.value for interval in found.auroc] == stated
    assert round(found.macro_auroc.value, 3) == 0.842
    assert all(interval.low < interval.value < interval.high for interval in found.auroc)


def test_scores_of_two_normal_distributions_have_the_auroc_that_theory_gives() -> None:
    grid = (np.arange(2000) + 0.5) / 2000
    shift = math.sqrt(2) * norm.ppf(0.85)
    scores = np.concatenate([norm.ppf(grid), norm.ppf(grid) + shift])[:, None]
    labels = np.repeat([0, 1], 2000)[:, None]
    found = bootstrap.ranking_intervals(labels, scores, np.arange(4000), draws=200)
    assert found.auroc[0].value == pytest.approx(0.85, abs=2e-4)
    # Hanley and McNeil's standard error for 2,000 of each, times 1.96 on both sides.
    q1, q2 = 0.85 / (2 - 0.85), 2 * 0.85**2 / (1 + 0.85)
    error = math.sqrt((0.85 * 0.15 + 1999 * (q1 - 0.85**2 + q2 - 0.85**2)) / 2000**2)
    assert found.auroc[0].high - found.auroc[0].low == pytest.approx(2 * 1.96 * error, rel=0.15)
