"""The numbers of `metrics.json`, all computed from what stands in `predictions.csv`.

What isn't defined is None. N = images, F = 14 findings in `labels.FINDINGS` order.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine.evaluation import gain, operating_points, subgroups
from engine.evaluation.frozen import Frozen
from engine.evaluation.operating_points import defined
from engine.evaluation.predictions import Predictions
from engine.metrics import bootstrap, calibration, prevalence_shift
from engine.metrics.intervals import LEVEL, as_json
from records import json_text
from records.errors import RunError
from records.labels import FINDINGS
from records.manifest import Split

FILE_NAME = "metrics.json"
SCHEMA = 2
SEED = 0
FEW_PATIENTS = 30
_SEAL = "content_sha256"
_KEYS = {
    "split",
    "model_sha256",
    "manifest_sha256",
    "predictions_sha256",
    "bootstrap",
    "findings",
    "operating_points",
    "calibration",
    "subgroups",
    "test_reads",
}


class NotJudgedError(RunError):
    """There are no metrics, or those of an earlier schema."""


def summarise(
    predictions: Predictions,
    members: Mapping[str, np.ndarray],
    chosen: Frozen | None,
    *,
    draws: int = bootstrap.DRAWS,
    validation: Split | None = None,
) -> dict[str, Any]:
    """Judge the predictions of one split.

    Args:
        predictions: of the split.
        members: (N, F) logits of an ensemble's members; empty or one for a single model.
        chosen: on validation; None: there is none, so only 0.5 is an operating point.
        draws: of patients, for intervals.
        validation: of the data set, to compare prevalences with; None: this is it, or there is none.

    Returns:
        The keys of `metrics.json` that depend on predictions and on nothing else.
    """
    best = chosen.best_member if chosen else None
    return {
        "images": len(predictions),
        "patients": len(np.unique(predictions.patient_ids)),
        "bootstrap": {"draws": draws, "seed": SEED, "unit": "patient", "interval": LEVEL},
        **_ranking(predictions, draws),
        "operating_points": operating_points.points(predictions, chosen.thresholds if chosen else None),
        "all_negative_baseline": operating_points.baseline(predictions.labels),
        "calibration": _calibration(predictions, chosen),
        "prevalence_shift": _shifts(predictions, validation),
        "subgroups": subgroups.judge(predictions, draws=draws, seed=SEED),
        "gain": gain.judge(predictions, members, best, draws=draws, seed=SEED) if best else None,
    }


def read(path: str | Path) -> dict[str, Any]:
    """Read a `metrics.json`.

    Raises:
        RunError: missing, damaged or of another schema.
    """
    path = Path(path)
    if not path.is_file():
        raise NotJudgedError(f"{path}: no metrics; make them with `engine evaluate`")
    try:
        metrics = json_text.parse(path.read_bytes())
        schema = metrics.get("schema", 1)
    except (ValueError, AttributeError) as error:
        raise RunError(f"{path}: damaged ({error}); remove {path.parent} and evaluate again") from error
    if schema != SCHEMA:
        raise NotJudgedError(f"{path}: of schema {schema}; expected {SCHEMA}: evaluate again")
    if missing := _KEYS - metrics.keys():
        raise RunError(f"{path}: damaged (no `{min(missing)}`); remove {path.parent} and evaluate again")
    return metrics


def sealed(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics with the hash of all that stands in them, by which a change is noticed."""
    return {**metrics, _SEAL: _content_sha256(metrics)}


def is_sealed(metrics: Mapping[str, Any]) -> bool:
    """Tell whether metrics are as they were when `sealed`."""
    return metrics.get(_SEAL) == _content_sha256(metrics)


def _content_sha256(metrics: Mapping[str, Any]) -> str:
    content = {key: value for key, value in metrics.items() if key != _SEAL}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_of(metrics: Mapping[str, Any], chosen: Frozen | None) -> bool:
    """Tell whether a `metrics.json` was computed with these choices."""
    used = {
        point["name"]: {finding: values["threshold"] for finding, values in point["findings"].items()}
        for point in metrics["operating_points"]
        if point["chosen_on"]
    }
    temperatures = metrics["calibration"]["temperatures"]
    if chosen is None:
        return not used and temperatures is None
    best = metrics["gain"]["over_best"]["member"] if metrics["gain"] else None
    return (used, temperatures, best) == (chosen.thresholds, chosen.temperatures, chosen.best_member)


def _ranking(predictions: Predictions, draws: int) -> dict[str, Any]:
    ranked = bootstrap.ranking_intervals(
        predictions.labels, predictions.logits, predictions.patient_ids, draws=draws, seed=SEED
    )
    averages = ("macro_auroc", "macro_auprc", "micro_auroc", "micro_auprc")
    counted = [_counted(predictions, column) for column in range(len(FINDINGS))]
    return {
        **{name: as_json(getattr(ranked, name)) for name in averages},
        "defined_findings": sum(not math.isnan(interval.value) for interval in ranked.auroc),
        "findings": {
            finding: {"auroc": as_json(ranked.auroc[column]), "auprc": as_json(ranked.auprc[column])}
            | counted[column]
            for column, finding in enumerate(FINDINGS)
        },
    }


def _counted(predictions: Predictions, column: int) -> dict[str, Any]:
    positive = predictions.labels[:, column] == 1
    patients = len(np.unique(predictions.patient_ids[positive]))
    return {
        "prevalence": float(positive.mean()),
        "positives": int(positive.sum()),
        "negatives": int((~positive).sum()),
        "positive_patients": patients,
        "few": patients < FEW_PATIENTS,
    }


def _calibration(predictions: Predictions, chosen: Frozen | None) -> dict[str, Any]:
    after = None
    if chosen:
        temperatures = [chosen.temperatures[finding] for finding in FINDINGS]
        after = _calibrated(predictions.labels, calibration.apply(predictions.logits, temperatures))
    return {
        "bins": calibration.BINS,
        "temperatures": chosen.temperatures if chosen else None,
        "before": _calibrated(predictions.labels, predictions.probabilities),
        "after": after,
    }


def _calibrated(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    brier = calibration.brier(labels, probabilities)
    error = calibration.expected_calibration_error(labels, probabilities)
    bins = calibration.reliability_bins(labels, probabilities)
    return {
        "mean": {"brier": defined(brier.mean()), "ece": defined(error.mean())},
        "findings": {
            finding: {
                "brier": defined(brier[column]),
                "ece": defined(error[column]),
                "bins": [list(each) for each in bins[column]],
            }
            for column, finding in enumerate(FINDINGS)
        },
    }


def _shifts(predictions: Predictions, validation: Split | None) -> list[dict[str, Any]]:
    if validation is None or not validation.images:
        return []
    before = [validation.positives[finding] for finding in FINDINGS]
    now = predictions.labels.sum(axis=0, dtype=int)
    found = prevalence_shift.shifts(before, validation.images, now, len(predictions))
    return [
        {
            "finding": shift.finding,
            "validation": defined(shift.validation),
            "test": defined(shift.test),
            "ratio": defined(shift.ratio),
            "warned": shift.warned,
        }
        for shift in found
    ]
