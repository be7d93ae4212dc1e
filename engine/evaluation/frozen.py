"""`frozen.json`: all that is chosen on validation, fixed before the test split is read.

It belongs to one model and one data set: of another one it is no choice, and is made anew. F = findings.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.evaluation import operating_points
from engine.evaluation.predictions import Predictions
from engine.metrics import calibration, ranking, thresholds
from engine.training import run_directory
from records import json_text, storage
from records.errors import RunError
from records.labels import FINDINGS

FILE_NAME = "frozen.json"


@dataclass(frozen=True)
class Frozen:
    """What was chosen on validation.

    Attributes:
        model_sha256: of the model that it was chosen for.
        manifest_sha256: of the data set.
        thresholds: of probabilities, by the operating point's name and by finding; None where the validation
            split has no positives or no negatives.
        temperatures: by finding, that logits are divided by; 1 where none can be fitted.
        best_member: of an ensemble, by macro AUROC; None for a single model.
        frozen_at: UTC.
        git_commit: of the program that chose.
        chosen_on: the split.
        temperature_reasons: by finding, why none could be fitted; of those that were there is none.
    """

    model_sha256: str
    manifest_sha256: str
    thresholds: dict[str, dict[str, float | None]]
    temperatures: dict[str, float]
    best_member: str | None
    frozen_at: str
    git_commit: str | None
    chosen_on: str = "validation"
    temperature_reasons: dict[str, str] = field(default_factory=dict)


def choose(
    predictions: Predictions, members: Mapping[str, np.ndarray], *, model_sha256: str, manifest_sha256: str
) -> Frozen:
    """Choose on the validation split.

    Args:
        predictions: of validation.
        members: (N, F) logits of each member; one for a single model.
        model_sha256: of the model.
        manifest_sha256: of the data set.
    """
    labels, probabilities = predictions.labels, predictions.probabilities
    chosen = {
        operating_points.YOUDEN: thresholds.youden(labels, probabilities),
        operating_points.SENSITIVITY: thresholds.for_sensitivity(
            labels, probabilities, operating_points.TARGET_SENSITIVITY
        ),
    }
    temperatures = dict(zip(FINDINGS, calibration.temperatures(labels, predictions.logits), strict=True))
    macros = {name: ranking.macro(ranking.auroc(labels, logits)) for name, logits in members.items()}
    return Frozen(
        model_sha256=model_sha256,
        manifest_sha256=manifest_sha256,
        thresholds={name: _by_finding(values) for name, values in chosen.items()},
        temperatures={finding: float(fitted.value) for finding, fitted in temperatures.items()},
        best_member=max(macros, key=lambda name: np.nan_to_num(macros[name])) if len(macros) > 1 else None,
        frozen_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        git_commit=run_directory.git_commit(),
        temperature_reasons={
            finding: fitted.reason for finding, fitted in temperatures.items() if fitted.reason
        },
    )


def write(path: Path, frozen: Frozen) -> None:
    """Write it; the file appears whole or not at all."""
    storage.write_bytes(str(path), (json.dumps(dataclasses.asdict(frozen), indent=1) + "\n").encode())


def read(path: str | Path) -> Frozen | None:
    """Read it; None: nothing is frozen here.

    Raises:
        RunError: the file is damaged.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        values = json_text.parse(path.read_bytes())
        # A file of an earlier release: what couldn't be fitted is 1 there, without a reason.
        unfitted = [finding for finding, value in values["temperatures"].items() if value == 1]
        frozen = Frozen(**({"temperature_reasons": dict.fromkeys(unfitted, "not recorded")} | values))
        _check(frozen)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(
            f"{path}: damaged ({error}); expected what `engine evaluate` froze: remove it and evaluate again"
        ) from error
    return frozen


def _check(frozen: Frozen) -> None:
    named = [list(frozen.temperatures), *(list(values) for values in frozen.thresholds.values())]
    if any(findings != list(FINDINGS) for findings in named):
        raise ValueError("other findings than the 14")
    if not all(value > 0 for value in frozen.temperatures.values()):
        raise ValueError("a temperature that isn't above 0")
    if not all(
        frozen.temperatures[finding] == 1 and isinstance(reason, str)
        for finding, reason in frozen.temperature_reasons.items()
    ):
        raise ValueError("a reason that is none, or beside a temperature")
    if not all(value is None or 0 <= value <= 1 for value in _values(frozen.thresholds)):
        raise ValueError("a threshold outside 0 to 1")


def _values(chosen: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    return [value for values in chosen.values() for value in values.values()]


def _by_finding(values: np.ndarray) -> dict[str, float | None]:
    return dict(zip(FINDINGS, map(operating_points.defined, values.tolist()), strict=True))
