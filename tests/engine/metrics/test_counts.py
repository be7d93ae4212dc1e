"""The confusion matrix of an epoch, its identities, and its agreement with scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, hamming_loss, precision_score, recall_score

from engine.metrics.counts import NAMES, Confusion, all_negative_baseline, confusion
from records.errors import RunError

RNG = np.random.default_rng(11)
LABELS = (RNG.random((400, 5)) < [0.02, 0.1, 0.2, 0.4, 0.7]).astype(np.uint8)
PROBABILITIES = np.clip(RNG.normal(0.25 + 0.3 * LABELS, 0.2), 0, 1).astype(np.float32)
MATRIX = confusion(LABELS, PROBABILITIES, 0.5)


def test_every_call_is_counted_once():
    total = MATRIX.tp + MATRIX.fp + MATRIX.tn + MATRIX.fn
    assert total.tolist() == [400] * 5
    assert (MATRIX.tp + MATRIX.fn).tolist() == LABELS.sum(axis=0).tolist()
    assert all(getattr(MATRIX, cell).dtype == np.int64 for cell in ("tp", "fp", "tn", "fn"))


def test_count_metrics_equal_scikit_learn():
    called = PROBABILITIES >= 0.5
    for name, metric, negated in (
        ("recall", recall_score, False),
        ("ppv", precision_score, False),
        ("f1", f1_score, False),
        ("specificity", recall_score, True),
        ("npv", precision_score, True),
    ):
        truth, calls = (1 - LABELS, ~called) if negated else (LABELS, called)
        ours = MATRIX.metrics()[name]
        np.testing.assert_allclose(ours.per_finding, metric(truth, calls, average=None), atol=1e-15)
        assert ours.micro == pytest.approx(metric(truth, calls, average="micro"), abs=1e-15)
        assert ours.macro == pytest.approx(metric(truth, calls, average="macro"), abs=1e-15)
    assert MATRIX.hamming.micro == pytest.approx(hamming_loss(LABELS, called), abs=1e-15)


def test_hamming_is_the_share_of_wrong_calls_and_its_averages_agree():
    wrong = MATRIX.fp + MATRIX.fn
    np.testing.assert_array_equal(MATRIX.hamming.per_finding, wrong / 400)
    assert MATRIX.hamming.micro == wrong.sum() / LABELS.size
    assert MATRIX.hamming.macro == pytest.approx(MATRIX.hamming.micro, abs=1e-15)


def test_hamming_follows_from_recall_specificity_and_prevalence():
    prevalence = LABELS.mean()
    implied = prevalence * (1 - MATRIX.recall.micro) + (1 - prevalence) * (1 - MATRIX.specificity.micro)
    assert MATRIX.hamming.micro == pytest.approx(implied, abs=1e-15)


def test_f1_is_the_harmonic_mean_of_ppv_and_recall():
    ppv, recall = MATRIX.ppv.per_finding, MATRIX.recall.per_finding
    np.testing.assert_allclose(MATRIX.f1.per_finding, 2 * ppv * recall / (ppv + recall), atol=1e-15)


def test_a_probability_at_the_threshold_is_called_present():
    matrix = confusion([[1, 1]], [[0.5, 0.499]], 0.5)
    assert matrix.tp.tolist() == [1, 0]


def test_each_finding_can_have_its_own_threshold():
    matrix = confusion([[1, 1], [0, 0]], [[0.3, 0.3], [0.2, 0.2]], [0.25, 0.1])
    assert matrix.tp.tolist() == [1, 1]
    assert matrix.fp.tolist() == [0, 1]


def test_a_threshold_of_one_or_zero_calls_nothing_or_everything():
    everything = confusion(LABELS, PROBABILITIES, 0.0)
    assert everything.recall.micro == 1
    assert everything.specificity.micro == 0
    assert np.isnan(everything.npv.micro)
    nothing = confusion(LABELS, np.minimum(PROBABILITIES, 0.99), 1.0)
    assert np.isnan(nothing.ppv.micro)


def test_undefined_metrics_are_nan_and_left_out_of_the_macro_mean():
    matrix = confusion([[0, 1], [0, 0]], [[0.1, 0.9], [0.1, 0.1]], 0.5)
    np.testing.assert_array_equal(matrix.recall.per_finding, [np.nan, 1])
    np.testing.assert_array_equal(matrix.f1.per_finding, [np.nan, 1])
    assert matrix.recall.macro == 1
    assert matrix.recall.micro == 1


def test_an_empty_epoch_defines_no_metric():
    matrix = confusion(np.zeros((0, 2)), np.zeros((0, 2)), 0.5)
    assert all(np.isnan([m.micro, m.macro, *m.per_finding]).all() for m in matrix.metrics().values())


def test_the_all_negative_baseline_finds_nothing_and_looks_accurate():
    baseline = all_negative_baseline(LABELS)
    assert baseline.recall.micro == 0
    assert baseline.specificity.micro == 1
    assert baseline.hamming.micro == pytest.approx(LABELS.mean(), abs=1e-15)
    assert np.isnan(baseline.ppv.micro)
    same = confusion(LABELS, np.zeros(LABELS.shape), 0.5)
    assert all((getattr(same, cell) == getattr(baseline, cell)).all() for cell in ("tp", "fp", "tn", "fn"))


def test_the_six_metrics_come_in_a_fixed_order():
    one = np.ones(1, np.int64)
    assert tuple(Confusion(one, one, one, one).metrics()) == NAMES


def test_logits_are_refused_where_probabilities_are_expected():
    with pytest.raises(RunError, match="2 of 4 predictions lie outside"):
        confusion([[0, 1], [0, 0]], [[-1.0, 2.0], [0.5, 0.5]], 0.5)


def test_nan_predictions_are_refused():
    with pytest.raises(RunError, match="1 of 2 predictions are NaN"):
        confusion([[0, 1]], [[np.nan, 0.5]], 0.5)


@pytest.mark.parametrize(
    ("thresholds", "message"), [([0.5, 0.5, 0.5], "one threshold or 2"), (np.nan, "NaN")]
)
def test_thresholds_that_fit_no_finding_are_refused(thresholds, message):
    with pytest.raises(RunError, match=message):
        confusion([[0, 1]], [[0.5, 0.5]], thresholds)
