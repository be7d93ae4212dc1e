"""What an evaluation froze on validation, applied to logits: calibrated probabilities, and what is called.

F = 14 findings in `labels.FINDINGS` order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.evaluation import frozen, operating_points
from engine.metrics import calibration
from records.errors import UsageError
from records.labels import FINDINGS

THRESHOLDS = (operating_points.YOUDEN, operating_points.SENSITIVITY, operating_points.HALF)


@dataclass(frozen=True, eq=False)
class Calls:
    """How the logits of one model are read.

    Attributes:
        temperatures: (F,) float64 that logits are divided by; None where there are none: ones.
        name: of the thresholds; None where there are none.
        thresholds: (F,) float64 of raw probabilities; NaN where none could be chosen.
    """

    temperatures: np.ndarray | None
    name: str | None
    thresholds: np.ndarray

    @property
    def is_calibrated(self) -> bool:
        """Whether `probabilities` are other than the model's own."""
        return self.temperatures is not None

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(N, F) logits -> float64, calibrated if there are temperatures."""
        return (
            raw_probabilities(logits)
            if self.temperatures is None
            else calibration.apply(logits, self.temperatures)
        )

    def called(self, logits: np.ndarray) -> np.ndarray:
        """(N, F) logits -> bool: the raw probability reaches the threshold; never where there is none."""
        return raw_probabilities(logits) >= self.thresholds

    @property
    def shown_thresholds(self) -> np.ndarray:
        """(F,) the thresholds on the scale of `probabilities`."""
        with np.errstate(divide="ignore"):
            logits = np.log(self.thresholds) - np.log1p(-self.thresholds)
        return self.probabilities(logits[None])[0]


def raw_probabilities(logits: np.ndarray) -> np.ndarray:
    """(N, F) logits -> float64 probabilities as the model gives them."""
    return calibration.apply(logits, np.ones(len(FINDINGS)))


def check_name(name: str) -> None:
    """Refuse a name of no thresholds.

    Raises:
        UsageError: it is none of `THRESHOLDS`.
    """
    if name not in THRESHOLDS:
        raise UsageError(f"--thresholds {name}: not known; expected one of {', '.join(THRESHOLDS)}")


def load(run_dir: str | Path, model_sha256: str, name: str) -> tuple[Calls, str]:
    """Read what was frozen for a model.

    Args:
        run_dir: of the run.
        model_sha256: of the model that predicts.
        name: one of `THRESHOLDS`.

    Returns:
        How to read its logits; and what must be said of it, or nothing.

    Raises:
        RunError: the file is damaged.
    """
    path = Path(run_dir) / "evaluation" / frozen.FILE_NAME
    found = frozen.read(path)
    note = ""
    if found is None:
        note = f"{run_dir}: nothing was chosen on validation: raw probabilities; run `engine evaluate`"
    elif found.model_sha256 != model_sha256:
        note = f"{path}: chosen for another model: raw probabilities; run `engine evaluate`"
        found = None
    temperatures = None
    if found:
        note = _uncalibrated(found.temperature_reasons)
        if len(found.temperature_reasons) < len(FINDINGS):
            temperatures = _in_order(found.temperatures)
    if name == operating_points.HALF:
        return Calls(temperatures, name, np.full(len(FINDINGS), 0.5)), note
    if not found or name not in found.thresholds:
        nothing = np.full(len(FINDINGS), np.nan)
        missing = f"{path}: no thresholds `{name}`; nothing is called" if found else ""
        return Calls(temperatures, None, nothing), "; ".join(filter(None, (note, missing)))
    return Calls(temperatures, name, _in_order(found.thresholds[name])), note


def _uncalibrated(reasons: dict[str, str]) -> str:
    """Say for which findings no temperature could be fitted; nothing where all have one."""
    if not reasons:
        return ""
    which = "any finding" if len(reasons) == len(FINDINGS) else ", ".join(reasons)
    why = ", or ".join(sorted(set(reasons.values())))
    return f"no temperature could be fitted on validation for {which} ({why}): raw probabilities there"


def _in_order(by_finding: dict[str, float | None] | dict[str, float]) -> np.ndarray:
    # None becomes NaN.
    return np.array([by_finding[finding] for finding in FINDINGS], np.float64)
