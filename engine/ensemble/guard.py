"""Whether fitted weights are to be trusted: they must beat equal ones on patients they were not fitted on.

Weights that are fitted on a validation split look better there than they are, and more so with many members
and few patients. So patients are dealt into folds, each fold's images are combined with weights fitted on the
other folds, and these held-out predictions are held against those of equal weights by a paired bootstrap over
patients. Unless all of the interval of the gain is above 0, equal weights stand. M = members, N = images,
F = findings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.ensemble import weights as weighting
from engine.ensemble.combine import combine
from engine.metrics.bootstrap import paired_macro_gain, ranking_intervals
from engine.metrics.intervals import Interval

FOLDS = 5
_SEED = 0


@dataclass(frozen=True, eq=False)
class Candidate:
    """Weights, and how they do.

    Attributes:
        name: of `weights.METHODS`.
        weights: (M,), fitted on all patients.
        held_out: (N, F) logits, each image's with weights that were fitted without its patient.
        macro_auroc: of `held_out`.
        macro_auroc_fitted_on: of the images that the weights were fitted on; higher, and too high.
    """

    name: str
    weights: np.ndarray
    held_out: np.ndarray
    macro_auroc: Interval
    macro_auroc_fitted_on: float


@dataclass(frozen=True, eq=False)
class Choice:
    """Which weights stand.

    Attributes:
        candidates: equal weights, and the fitted ones if there are any.
        chosen: one of them.
        gain: of the fitted ones over equal ones, held out; None where none were fitted.
        folds: of patients; 0 where none were fitted.
        reason: a clause that says why.
    """

    candidates: tuple[Candidate, ...]
    chosen: Candidate
    gain: Interval | None
    folds: int
    reason: str


def choose(
    logits: np.ndarray,
    labels: np.ndarray,
    patient_ids: np.ndarray,
    *,
    rule: str,
    method: str,
    draws: int,
) -> Choice:
    """Fit weights, and keep them only if they are to be trusted.

    Args:
        logits: (M, N, F), finite.
        labels: (N, F) of 0 and 1.
        patient_ids: (N,).
        rule: of `combine.RULES`.
        method: of `weights.METHODS`.
        draws: of the bootstrap.
    """
    macro_auroc = weighting.MacroAuroc(logits, labels, rule)
    patients = len(np.unique(patient_ids))
    even = combine(logits, rule)

    def candidate(name: str, shares: np.ndarray, held_out: np.ndarray) -> Candidate:
        judged = ranking_intervals(labels, held_out, patient_ids, draws=draws).macro_auroc
        here = macro_auroc(shares) if macro_auroc.is_defined else float("nan")
        return Candidate(name, shares, held_out, judged, here)

    equal = candidate(weighting.EQUAL, weighting.equal(len(logits)), even)
    if why_not := _why_none_can_be_fitted(method, macro_auroc.is_defined, patients):
        return Choice((equal,), equal, None, 0, why_not)
    folds = min(FOLDS, patients)
    held_out = _held_out(logits, labels, patient_folds(patient_ids, folds), rule=rule, method=method)
    fitted = candidate(method, weighting.fit(macro_auroc, method), held_out)
    gain = paired_macro_gain(labels, held_out, even, patient_ids, draws=draws)
    passed = gain.low > 0  # an undefined interval, NaN, is not
    return Choice(
        (equal, fitted), fitted if passed else equal, gain, folds, _verdict(method, gain, passed=passed)
    )


def patient_folds(patient_ids: np.ndarray, folds: int) -> np.ndarray:
    """Deal patients into folds, evenly and always alike; (N,) int fold of each image."""
    patients, of_image = np.unique(patient_ids, return_inverse=True)
    dealt = np.random.default_rng(_SEED).permutation(len(patients)) % folds
    return dealt[of_image]


def _held_out(
    logits: np.ndarray, labels: np.ndarray, fold_of: np.ndarray, *, rule: str, method: str
) -> np.ndarray:
    """(N, F) logits, those of each fold with the weights that the other folds give."""
    combined = np.empty(logits.shape[1:])
    for fold in np.unique(fold_of):
        held = fold_of == fold
        others = weighting.MacroAuroc(logits[:, ~held], labels[~held], rule)
        combined[held] = combine(logits[:, held], rule, weighting.fit(others, method))
    return combined


def _why_none_can_be_fitted(method: str, is_defined: bool, patients: int) -> str | None:
    if method == weighting.EQUAL:
        return "equal weights were asked for"
    if not is_defined:
        return "no finding has both positive and negative validation images to fit weights to"
    if patients < 2:
        return "all validation images are of one patient, so fitted weights can't be checked on another"
    return None


def _verdict(method: str, gain: Interval, *, passed: bool) -> str:
    found = f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] in macro AUROC"
    gained = f"on patients left out of the fit, {method} weights gain {found} over equal ones"
    return gained if passed else f"{gained}, not told apart from none"
