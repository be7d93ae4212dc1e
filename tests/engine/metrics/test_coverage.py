"""Intervals cover the truth as often as they say, where a patient's images are alike."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import norm

from engine.metrics import bootstrap

SETS, FINDINGS, PATIENTS, DRAWS = 60, 8, 400, 480
SHIFT, OF_PATIENTS, OF_IMAGES = 1.5, 1.0, 0.5
# Whoever has a finding has it in all images, so a pair is always of two patients.
TRUTH = norm.cdf(SHIFT / math.sqrt(2 * (OF_PATIENTS**2 + OF_IMAGES**2)))


def _simulated(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patients with one to six images, whose scores have a part in common; findings independent."""
    patients = np.repeat(np.arange(PATIENTS), rng.integers(1, 7, PATIENTS))
    labels = (rng.random((PATIENTS, FINDINGS)) < 0.3)[patients]
    common = rng.normal(0, OF_PATIENTS, (PATIENTS, FINDINGS))[patients]
    return labels, SHIFT * labels + common + rng.normal(0, OF_IMAGES, labels.shape), patients


def _covered(found: bootstrap.RankingIntervals) -> list[bool]:
    return [interval.low <= TRUTH <= interval.high for interval in found.auroc]


def test_intervals_over_patients_cover_the_truth_in_about_95_of_100_and_those_over_images_do_not() -> None:
    rng = np.random.default_rng(20)
    over_patients, over_images = [], []
    for seed in range(SETS):
        labels, scores, patients = _simulated(rng)
        over_patients += _covered(
            bootstrap.ranking_intervals(labels, scores, patients, draws=DRAWS, seed=seed)
        )
        if seed < SETS // 5:  # enough for a difference as large
            images = np.arange(len(patients))
            over_images += _covered(
                bootstrap.ranking_intervals(labels, scores, images, draws=DRAWS, seed=seed)
            )
    # Of 480 a share of 0.95 has a standard deviation of 0.01, and one of 96 of 0.7 has one of 0.05.
    assert 0.92 <= np.mean(over_patients) <= 0.98
    assert np.mean(over_images) < 0.8
