from __future__ import annotations

import numpy as np
import pytest
from members_logits import make_validation

from engine import metrics
from engine.ensemble import guard, weights
from engine.ensemble.combine import LOGITS, PROBABILITIES, combine

DRAWS = 200


def _choose(made: tuple[np.ndarray, np.ndarray, np.ndarray], method: str) -> guard.Choice:
    return guard.choose(*made, rule=PROBABILITIES, method=method, draws=DRAWS)


@pytest.mark.parametrize("method", [weights.FITTED, weights.GREEDY])
def test_weights_that_over_fit_are_refused(method: str) -> None:
    # Members that are alike: whatever is fitted to few patients is noise.
    made = make_validation((0.7,) * 8, patients=25, seed=5)
    choice = _choose(made, method)
    equal, fitted = choice.candidates
    assert fitted.macro_auroc_fitted_on > equal.macro_auroc_fitted_on + 0.003
    assert fitted.macro_auroc.value < fitted.macro_auroc_fitted_on
    assert choice.chosen is equal
    assert "not told apart" in choice.reason


def test_on_fresh_patients_the_refused_weights_are_no_better() -> None:
    choice = _choose(make_validation((0.7,) * 8, patients=25, seed=5), weights.FITTED)
    logits, labels, _ = make_validation((0.7,) * 8, patients=2000, seed=6)
    equal, fitted = (
        metrics.macro(metrics.auroc(labels, combine(logits, PROBABILITIES, each.weights)))
        for each in choice.candidates
    )
    assert fitted < equal


@pytest.mark.parametrize("method", [weights.FITTED, weights.GREEDY])
def test_a_useless_member_is_weighted_down(method: str) -> None:
    choice = _choose(make_validation((1.2, 1.0, 0.0)), method)
    assert choice.chosen.name == method
    assert choice.chosen.weights[2] < 0.1
    assert choice.gain is not None
    assert choice.gain.low > 0


def test_each_image_is_judged_by_weights_fitted_without_its_patient() -> None:
    logits, labels, patient_ids = make_validation((1.2, 0.8, 0.0), patients=40)
    choice = guard.choose(logits, labels, patient_ids, rule=LOGITS, method=weights.FITTED, draws=DRAWS)
    fold_of = guard.patient_folds(patient_ids, guard.FOLDS)
    held = fold_of == 2
    alone = weights.fit(weights.MacroAuroc(logits[:, ~held], labels[~held], LOGITS), weights.FITTED)
    np.testing.assert_allclose(
        choice.candidates[1].held_out[held], combine(logits[:, held], LOGITS, alone), rtol=1e-12
    )


def test_no_patient_is_in_two_folds_and_folds_are_even() -> None:
    patient_ids = np.repeat(np.arange(23), 3)
    fold_of = guard.patient_folds(patient_ids, 5)
    for patient in range(23):
        assert len(set(fold_of[patient_ids == patient])) == 1
    assert sorted(np.bincount(fold_of)) == [12, 12, 15, 15, 15]


def test_nothing_is_fitted_when_equal_weights_are_asked_for() -> None:
    choice = _choose(make_validation((1.2, 0.0)), weights.EQUAL)
    np.testing.assert_array_equal(choice.chosen.weights, [0.5, 0.5])
    assert (len(choice.candidates), choice.gain, choice.folds) == (1, None, 0)


def test_equal_weights_stand_where_all_images_are_of_one_patient() -> None:
    logits, labels, patient_ids = make_validation((1.2, 0.0), patients=30)
    choice = _choose((logits, labels, np.ones_like(patient_ids)), weights.FITTED)
    assert choice.chosen.name == weights.EQUAL
    assert "one patient" in choice.reason


def test_equal_weights_stand_where_no_finding_is_defined() -> None:
    logits, labels, patient_ids = make_validation((1.2, 0.0), patients=30)
    choice = _choose((logits, np.zeros_like(labels), patient_ids), weights.GREEDY)
    assert choice.chosen.name == weights.EQUAL
    assert np.isnan(choice.chosen.macro_auroc.value)
    assert "positive and negative" in choice.reason


def test_two_patients_are_enough_to_try() -> None:
    choice = _choose(make_validation((1.2, 0.0), patients=2, images_each=20), weights.FITTED)
    assert choice.folds == 2
