"""Every loss of the config, with float64 NumPy references that are written from the formulas as published.

References return the loss of each sample where it is a sum over samples, and the batch's loss where it is of
the whole batch; none shares code with the losses, and none needs a softplus.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit, log_expit

from engine.config import loss as keys

FINDINGS = 5
RECORDS = 2000
POSITIVES = [400, 150, 60, 9, 0]  # the last one counts as half a record
PREVALENCE = np.array([400, 150, 60, 9, 0.5]) / RECORDS


def _log_losses(y, z, positive=1.0, negative=1.0):
    return np.mean(-positive * y * log_expit(z) - negative * (1 - y) * log_expit(-z), axis=1)


def _ratio_weighted(ratio, smoothing):
    smoothed = ratio * (1 - smoothing) + 0.5 * smoothing
    return 1 / (smoothed + 1e-7), 1 / (1 - smoothed + 1e-7)


def _running(y, z):
    return _log_losses(y, z, *_ratio_weighted(0.9 * PREVALENCE + 0.1 * y.mean(axis=0), 0.1))


def _smoothed(y, z):
    return _log_losses(0.8 * y + 0.1, z)


def _focal(y, z, positive=0.25, negative=0.75):
    p, q = expit(z), expit(-z)
    return _log_losses(y, z, positive * q**2, negative * p**2)


def _class_balanced_focal(y, z):
    effective = [(1 - 0.999**n) / (1 - 0.999) for n in (PREVALENCE * RECORDS, (1 - PREVALENCE) * RECORDS)]
    total = 1 / effective[0] + 1 / effective[1]
    return _focal(y, z, 2 / effective[0] / total, 2 / effective[1] / total)


def _asymmetric(gamma_positive, gamma_negative, margin):
    def loss(y, z):
        p, q = expit(z), expit(-z)
        shifted = np.maximum(p - margin, 0)
        log_kept = np.log(np.minimum(q + margin, 1)) if margin else log_expit(-z)
        negative = -(shifted**gamma_negative) * log_kept
        return np.mean(-y * q**gamma_positive * log_expit(z) + (1 - y) * negative, axis=1)

    return loss


def _distribution_balanced(y, z):
    counts = PREVALENCE * RECORDS
    losses = np.zeros(y.shape)
    for sample, present in enumerate(y):
        every = sum(present / counts)
        for finding, n in enumerate(counts):
            mapped = expit(10 * (1 / n / every - 0.2)) if every else 1.0
            above = z[sample, finding] - 0.05 * np.log(RECORDS / n - 1)
            cost = -log_expit(above) if present[finding] else -log_expit(-2 * above) / 2
            losses[sample, finding] = (0.1 + mapped) * cost
    return losses.mean(axis=1)


def _hill(y, z):
    p = expit(z)
    positive = -(expit(1 - z) ** 2) * log_expit(z - 1)
    return np.mean(y * positive + (1 - y) * (1.5 - p) * p**2, axis=1)


def _poly1(y, z):
    missed = np.where(y == 1, expit(-z), expit(z))
    return _log_losses(y, z) + 2 * missed.mean(axis=1)


def _squared_hinge(y, z):
    return np.mean(np.maximum(0, 1 - np.where(y == 1, z, -z)) ** 2, axis=1)


def _dice(y, z):
    p, q = expit(z), expit(-z)
    both = (p**2).sum(axis=0) + y.sum(axis=0) + 1
    # 1 - (2 sum(p y) + 1) / both, without losing a loss far below 1 to the difference.
    return np.mean((y * q**2 + (1 - y) * p**2).sum(axis=0) / both)


def _tversky_of_findings(y, z, a=0.3, b=0.7, smooth=1.0):
    p, q = expit(z), expit(-z)
    tp, fp, fn = ((part * kind).sum(axis=0) for part, kind in ((p, y), (p, 1 - y), (q, y)))
    return (a * fp + b * fn) / (tp + a * fp + b * fn + smooth)


def _pairwise_ranking(y, z):
    losses = np.zeros(FINDINGS)
    for finding in range(FINDINGS):
        positives, negatives = (z[y[:, finding] == kind, finding] for kind in (1, 0))
        if len(positives) and len(negatives):
            losses[finding] = np.mean([-log_expit(i - j) for i in positives for j in negatives])
    return losses.mean()


def _auc_margin(y, z):
    """The loss as published, at its saddle point."""
    losses = np.zeros(FINDINGS)
    for finding in range(FINDINGS):
        positives, negatives = (expit(z[y[:, finding] == kind, finding]) for kind in (1, 0))
        if len(positives) and len(negatives):
            gap = 1 + negatives.mean() - positives.mean()
            c = max(0.0, gap)
            spread = positives.var() + negatives.var()  # E[(p - a)^2] at its minimum
            losses[finding] = spread + 2 * c * gap - c**2
    return losses.mean()


CASES: dict[str, tuple[keys.LossConfig, Callable[..., np.ndarray]]] = {
    "bce": (keys.LossConfig("bce"), _log_losses),
    "weighted_bce": (
        keys.WeightedBCEConfig("weighted_bce", 0.0),
        lambda y, z: _log_losses(y, z, (1 - PREVALENCE) / PREVALENCE),
    ),
    "one_weight": (keys.WeightedBCEConfig("weighted_bce", 3.0), lambda y, z: _log_losses(y, z, 3.0)),
    "guide_weighted_bce": (
        keys.LossConfig("guide_weighted_bce"),
        lambda y, z: _log_losses(y, z, 0.5 / PREVALENCE, 0.5 / (1 - PREVALENCE)),
    ),
    "dynamic_weighted_bce": (
        keys.DynamicWeightedBCEConfig("dynamic_weighted_bce", 0.1, "batch"),
        lambda y, z: _log_losses(y, z, *_ratio_weighted(y.mean(axis=0), 0.1)),
    ),
    "without_smoothing": (
        keys.DynamicWeightedBCEConfig("dynamic_weighted_bce", 0.0, "batch"),
        lambda y, z: _log_losses(y, z, *_ratio_weighted(y.mean(axis=0), 0.0)),
    ),
    "training_prevalence": (
        keys.DynamicWeightedBCEConfig("dynamic_weighted_bce", 0.1, "training"),
        lambda y, z: _log_losses(y, z, *_ratio_weighted(PREVALENCE, 0.1)),
    ),
    "running_weighted_bce": (keys.RunningWeightedBCEConfig("running_weighted_bce", 0.1, 0.9), _running),
    "smoothed_bce": (keys.SmoothedBCEConfig("smoothed_bce", 0.2), _smoothed),
    "focal": (keys.FocalConfig("focal", 0.25, 2.0), _focal),
    "class_balanced_focal": (
        keys.ClassBalancedFocalConfig("class_balanced_focal", 0.999, 2.0),
        _class_balanced_focal,
    ),
    "asymmetric": (keys.AsymmetricConfig("asymmetric", 0.0, 4.0, 0.05), _asymmetric(0, 4, 0.05)),
    "asymmetric_roots": (keys.AsymmetricConfig("asymmetric", 0.5, 0.5, 0.2), _asymmetric(0.5, 0.5, 0.2)),
    "asymmetric_no_margin": (keys.AsymmetricConfig("asymmetric", 1.0, 2.0, 0.0), _asymmetric(1, 2, 0)),
    "distribution_balanced": (
        keys.DistributionBalancedConfig("distribution_balanced", 0.1, 10.0, 0.2, 2.0, 0.05),
        _distribution_balanced,
    ),
    "hill": (keys.HillConfig("hill", 1.5, 1.0, 2.0), _hill),
    "poly1": (keys.Poly1Config("poly1", 2.0), _poly1),
    "squared_hinge": (keys.LossConfig("squared_hinge"), _squared_hinge),
    "dice": (keys.DiceConfig("dice", 1.0), _dice),
    "tversky": (
        keys.TverskyConfig("tversky", 0.3, 0.7, 1.0),
        lambda y, z: _tversky_of_findings(y, z).mean(),
    ),
    "focal_tversky": (
        keys.FocalTverskyConfig("focal_tversky", 0.3, 0.7, 1.0, 4 / 3),
        lambda y, z: np.mean(_tversky_of_findings(y, z) ** 0.75),
    ),
    "macro_f1": (
        keys.LossConfig("macro_f1"),
        lambda y, z: _tversky_of_findings(y, z, 0.5, 0.5, 1e-7).mean(),
    ),
    "pairwise_ranking": (keys.LossConfig("pairwise_ranking"), _pairwise_ranking),
    "auc_margin": (keys.AUCMarginConfig("auc_margin", 1.0), _auc_margin),
}

RNG = np.random.default_rng(3)
LABELS = (RNG.random((8, FINDINGS)) < 0.4).astype(np.float32)
LABELS[:, 3] = [1, 0, 0, 0, 0, 0, 0, 0]
LABELS[:, 4] = 0
LABELS[3] = 0  # a sample without findings
LOGITS = RNG.normal(0, 2, LABELS.shape).astype(np.float32)
RIGHT = np.where(LABELS == 1, 50, -50).astype(np.float32)
INPUTS = {
    "random": (LABELS, LOGITS),
    "spread": (LABELS, np.clip(25 * LOGITS, -50, 50)),
    "no positives": (np.zeros_like(LABELS), LOGITS),
    "all positives": (np.ones_like(LABELS), LOGITS),
    "right at fifty": (LABELS, RIGHT),
    "wrong at fifty": (LABELS, -RIGHT),
}
