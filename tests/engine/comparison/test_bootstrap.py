"""AUROC on drawn patients is that of the drawn records, and patients are drawn whole."""

from __future__ import annotations

import numpy as np
import pytest

from engine import metrics
from engine.comparison import bootstrap


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    """Labels of four findings, one of which nobody has, and scores with many ties."""
    rng = np.random.default_rng(3)
    labels = (rng.random((60, 4)) < [0.5, 0.2, 0.05, 0]).astype(np.uint8)
    return labels, np.round(labels + rng.normal(size=labels.shape), 0)


def test_with_each_record_once_it_is_the_metric_itself(scored) -> None:
    labels, scores = scored
    drawn = bootstrap.macro_auroc(labels, scores, np.ones((60, 2), np.int32))
    assert drawn.tolist() == [metrics.macro(metrics.auroc(labels, scores))] * 2


def test_a_draw_is_worth_as_much_as_its_records_written_out(scored) -> None:
    labels, scores = scored
    patients = np.arange(60) // 3
    counts = bootstrap.patient_draws(patients, 50, np.random.default_rng(1))
    drawn = bootstrap.macro_auroc(labels, scores, counts)
    for values, count in zip(drawn, counts.T, strict=True):
        rows = np.repeat(np.arange(60), count)
        assert values == pytest.approx(metrics.macro(metrics.auroc(labels[rows], scores[rows])), abs=1e-12)


def test_the_images_of_a_patient_are_drawn_together_and_as_many_patients_as_there_are() -> None:
    patients = np.array([7, 7, 7, 9, 1, 1])
    counts = bootstrap.patient_draws(patients, 100, np.random.default_rng(1))
    assert counts.shape == (6, 100)
    assert (counts[0] == counts[1]).all()
    assert (counts[0] == counts[2]).all()
    assert (counts[[0, 3, 4]].sum(axis=0) == 3).all()


def test_a_draw_without_positives_is_not_defined(scored) -> None:
    labels, scores = scored
    counts = np.stack([1 - labels[:, 2], np.ones(60)], axis=1).astype(np.int32)
    drawn = bootstrap.auroc(labels[:, 2] == 1, scores[:, 2], counts)
    assert np.isnan(drawn).tolist() == [True, False]
    assert np.isnan(bootstrap.macro_auroc(labels[:, 3:], scores[:, 3:], counts)).all()
    assert np.isnan(bootstrap.macro_auroc(labels, np.full(scores.shape, np.nan), counts)).all()
