"""What an ensemble gains over its members, on the same draws of patients. N = images, F = findings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.evaluation.predictions import Predictions
from engine.metrics import bootstrap, intervals, ranking
from engine.metrics.intervals import as_json
from records.labels import FINDINGS


def judge(
    predictions: Predictions, members: Mapping[str, np.ndarray], best: str, *, draws: int, seed: int
) -> dict[str, Any]:
    """Compare macro AUROC with that of the best and of the mean member.

    Args:
        predictions: of the ensemble.
        members: (N, F) logits of each by name.
        best: the member that was the best on validation, so that this split doesn't choose it.
        draws: of patients.
        seed: of the draws.

    Returns:
        `gain` of `metrics.json`.
    """
    labels, patient_ids = predictions.labels, predictions.patient_ids
    drawn = bootstrap.PatientDraws(patient_ids, draws, seed)
    judged = {name: _macro(labels, logits, drawn) for name, logits in members.items()}
    own_value, own_drawn = _macro(labels, predictions.logits, drawn)
    mean_value = float(np.mean([value for value, _ in judged.values()]))
    mean_drawn = np.mean([on_draws for _, on_draws in judged.values()], axis=0)
    best_value, best_drawn = judged[best]
    per_finding = bootstrap.paired_gains(
        labels, predictions.logits, members[best], patient_ids, draws=draws, seed=seed
    )
    return {
        "over_best": {
            "member": best,
            "macro_auroc": as_json(intervals.of_draws(own_value - best_value, own_drawn - best_drawn)),
        },
        "over_mean": as_json(intervals.of_draws(own_value - mean_value, own_drawn - mean_drawn)),
        "members": {
            name: {"macro_auroc": as_json(intervals.of_draws(*values))} for name, values in judged.items()
        },
        "findings": dict(zip(FINDINGS, map(as_json, per_finding), strict=True)),
    }


def _macro(labels: np.ndarray, logits: np.ndarray, drawn: bootstrap.PatientDraws) -> tuple[float, np.ndarray]:
    """Macro AUROC on all images and on each draw."""
    exact = ranking.macro(ranking.auroc(labels, logits))
    return exact, bootstrap.macro_auroc_on_draws(labels, logits, drawn)
