from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from engine.report import curves
from engine.report.curves import GRID


def drawn(images: int, patients: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    patient_ids = random.integers(patients, size=images)
    labels = (random.random(images) < 0.3).astype(np.uint8)
    return labels, random.normal(size=images) + labels, patient_ids


@pytest.mark.parametrize("decimals", [1, 2, 9])
def test_the_roc_curve_is_scikit_learns_ties_included(decimals: int) -> None:
    random = np.random.default_rng(decimals)
    labels = (random.random(400) < 0.2).astype(np.uint8)
    scores = np.round(random.random(400) + 0.2 * labels, decimals)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    ours = curves.roc_corners(labels, scores)
    np.testing.assert_allclose(ours[0], false)
    np.testing.assert_allclose(ours[1], true)


def test_a_roc_curve_without_positives_is_not_a_number() -> None:
    _, true = curves.roc_corners(np.zeros(5), np.arange(5.0))
    assert np.isnan(true).all()


def test_precision_on_the_grid_is_scikit_learns_at_the_first_threshold_that_finds_so_many() -> None:
    labels, scores, patient_ids = drawn(500, 100)
    found = curves.curves(labels, scores, patient_ids, draws=2).precision_recall.middle
    precision, recall, _ = precision_recall_curve(labels, scores)
    # From the lowest threshold up: the last one that still finds enough is the highest.
    expected = [precision[np.flatnonzero(recall >= max(point, recall[-2]))[-1]] for point in GRID]
    np.testing.assert_allclose(found[1:], expected[1:])


def test_a_band_is_that_of_drawing_patients_one_by_one() -> None:
    labels, scores, patient_ids = drawn(300, 40)
    found = curves.curves(labels, scores, patient_ids, draws=60, seed=3).roc
    by_hand = []
    for number in range(60):
        random = np.random.default_rng(np.random.SeedSequence(3, spawn_key=(number,)))
        patients = np.unique(patient_ids)[random.integers(40, size=40)]
        rows = np.concatenate([np.flatnonzero(patient_ids == patient) for patient in patients])
        by_hand.append(np.interp(GRID, *curves.roc_corners(labels[rows], scores[rows])))
    np.testing.assert_allclose(found.low, np.percentile(by_hand, 2.5, axis=0))
    np.testing.assert_allclose(found.high, np.percentile(by_hand, 97.5, axis=0))
    assert (found.low <= found.high).all()


def test_images_of_one_patient_widen_the_band() -> None:
    labels, scores, _ = drawn(200, 200)
    repeated = [np.repeat(part, 5) for part in (labels, scores)]
    by_patient = curves.curves(*repeated, np.repeat(np.arange(200), 5)).roc
    by_image = curves.curves(*repeated, np.arange(1000)).roc
    widths = [np.mean(band.high - band.low) for band in (by_patient, by_image)]
    assert widths[0] > 1.8 * widths[1]


@pytest.mark.parametrize("label", [0, 1])
def test_a_finding_that_none_or_all_have_has_no_curve(label: int) -> None:
    labels = np.full(20, label, np.uint8)
    found = curves.curves(labels, np.arange(20.0), np.arange(20), draws=5)
    for band in found:
        assert np.isnan(np.concatenate(band)).all()


def test_one_patient_has_a_curve_and_no_width() -> None:
    found = curves.curves(np.array([0, 1, 1]), np.array([0.1, 0.2, 0.3]), np.zeros(3), draws=5)
    assert found.roc.middle[-1] == 1
    np.testing.assert_array_equal(found.roc.low, found.roc.high)
