"""Outcomes of trainings that nobody did, with a quality of one's choice, and the comparison made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine import metrics
from engine.comparison import ranking, results, trainings
from engine.config import comparison
from engine.config.comparison import LossComparison
from records.labels import FINDINGS
from records.manifest import Manifest

IMAGES, PATIENTS = 400, 100


def labels(images: int = IMAGES) -> np.ndarray:
    """(N, 14) uint8; the last finding, nobody has."""
    drawn = np.random.default_rng(1).random((images, len(FINDINGS))) < 0.3
    drawn[:, -1] = False
    return drawn.astype(np.uint8)


def patient_ids(images: int = IMAGES) -> np.ndarray:
    """(N,) int64 with four images a patient."""
    return np.arange(images) % (images // 4)


def outcome(quality: float, seed: int = 1, *, images: int = IMAGES, diverged: bool = False, **changed):
    """An outcome whose logits are the labels times `quality`, and noise that depends on the seed alone."""
    truth = labels(images)
    logits = quality * truth + np.random.default_rng(seed).normal(size=truth.shape)
    if diverged:
        logits = np.full_like(logits, np.nan)
    values = {
        "logits": logits.astype(np.float32),
        "auroc": np.full(len(FINDINGS), np.nan) if diverged else metrics.auroc(truth, logits),
        "initial_weights": f"weights {seed}",
        "record_order": f"order {seed}",
        "steps": 3 if diverged else 10,
        "last_loss": np.nan if diverged else 0.5,
        "seconds": 2.0,
        "versions": {"keras": "3"},
        "device": "CPU",
    }
    return trainings.Outcome(**(values | changed))


def settings(*overrides: str) -> LossComparison:
    """The shipped comparison, cut down."""
    small = ("model.image_side_px=32", "model.filters=[2]", "comparison.global_batch=4")
    few = ("comparison.epochs=1", "comparison.seeds=[1, 2]", "comparison.learning_rates=[]")
    losses = "comparison.losses=[{name: bce}, {name: smoothed_bce, smoothing: 0.1}, {name: macro_f1}]"
    return comparison.load("configs/losses.yaml", [*small, *few, losses, *overrides])


def compared(
    data_set: Manifest, config: LossComparison, of_losses: Sequence[Sequence[trainings.Outcome]]
) -> results.Comparison:
    """What is told of outcomes of a config's losses."""
    ranked = ranking.rank(of_losses, labels(), patient_ids(), baseline=0, draws=200)
    rates = [config.learning_rates[0]] * len(of_losses)
    tuned = (
        [dict.fromkeys(config.learning_rates, 0.5)] * len(of_losses) if len(config.learning_rates) > 1 else []
    )
    return results.Comparison(config, data_set, "0" * 64, rates, tuned, of_losses, ranked)
