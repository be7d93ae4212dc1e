from __future__ import annotations

import numpy as np
import pytest

from engine.evaluation.operating_points import METRICS
from engine.evaluation.predictions import Predictions
from engine.metrics import counts
from engine.metrics.draws import PatientDraws
from engine.report import drawn_shares
from records.labels import FINDINGS

DRAWS = 40


def made(images: int = 60, patients: int = 12) -> Predictions:
    rng = np.random.default_rng(4)
    labels = (rng.random((images, len(FINDINGS))) < 0.3).astype(np.uint8)
    labels[:, 3] = 0
    return Predictions(
        image_ids=np.array([f"{number}.png" for number in range(images)]),
        patient_ids=rng.integers(patients, size=images),
        logits=rng.normal(size=labels.shape) + labels,
        labels=labels,
        sex=np.full(images, "F"),
        view=np.full(images, "PA"),
        age_years=np.full(images, 50.0),
        follow_up=np.zeros(images, np.int64),
    )


def test_each_draw_has_the_metrics_of_its_images_written_out() -> None:
    predictions = made()
    thresholds = np.linspace(0.3, 0.7, len(FINDINGS))
    found = drawn_shares.on_draws(predictions, thresholds, draws=DRAWS)
    drawn = PatientDraws(predictions.patient_ids, DRAWS)
    times = drawn.counts(0, DRAWS)[drawn.of_image]
    for draw in range(0, DRAWS, 7):
        rows = np.repeat(np.arange(len(times)), times[:, draw])
        matrix = counts.confusion(predictions.labels[rows], predictions.probabilities[rows], thresholds)
        for name, metric in zip(METRICS, matrix.metrics().values(), strict=True):
            np.testing.assert_allclose(found[name][:-1, draw], metric.per_finding)
            assert found[name][-1, draw] == pytest.approx(metric.micro)


def test_a_finding_without_a_threshold_counts_in_no_total() -> None:
    predictions = made()
    thresholds = np.full(len(FINDINGS), 0.5)
    thresholds[0] = np.nan
    found = drawn_shares.on_draws(predictions, thresholds, draws=DRAWS)["recall"]
    labels, logits = predictions.labels[:, 1:], predictions.logits[:, 1:]
    assert np.isnan(found[0]).all()
    drawn = PatientDraws(predictions.patient_ids, DRAWS)
    times = drawn.counts(0, 1)[drawn.of_image]
    assert found[-1, 0] == pytest.approx((times * labels * (logits >= 0)).sum() / (times * labels).sum())


def test_the_interval_of_an_undefined_metric_is_undefined() -> None:
    found = drawn_shares.on_draws(made(), np.full(len(FINDINGS), 0.5), draws=DRAWS)
    nothing = {"value": None, "low": None, "high": None}
    assert drawn_shares.interval(None, found["recall"][3]) == nothing
    told = drawn_shares.interval(0.5, found["recall"][0])
    assert told["low"] < told["high"]


def test_one_patient_gives_no_interval() -> None:
    found = drawn_shares.on_draws(made(patients=1), np.full(len(FINDINGS), 0.5), draws=DRAWS)
    assert np.isnan(found["recall"]).all()
