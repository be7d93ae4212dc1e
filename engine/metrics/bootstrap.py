"""95 % intervals from a bootstrap over patients: of ranking metrics, of paired gains and of means.

A value is undefined on a draw that has no positives or no negatives of a finding. Such draws are left out
for that finding, so its interval is of the draws that define it; where more than half don't, it is undefined.
With one patient all draws are the same, which says nothing, so no interval is defined either; nor is that of
a finding whose positives, or negatives, are all of one patient. Source: Davison and Hinkley 1997, "Bootstrap
Methods and their Application", 3.8 (clusters are drawn whole).

Intervals of few patients are too narrow: in simulations, 95 % ones of AUROC held the truth in 78 of 100 data
sets with 6 positives, and in 90 with 30.

N = images, F = findings, P = patients, D = draws, B = draws of a block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from engine.metrics import intervals
from engine.metrics.drawn_ranking import DrawnRanking
from engine.metrics.draws import DRAWS, PatientDraws, check_draws
from engine.metrics.intervals import Interval
from engine.metrics.predictions import checked_labels, checked_scores
from engine.metrics.ranking import auroc, average_precision, macro, micro_auroc, micro_average_precision
from records.errors import RunError

__all__ = [
    "DRAWS",
    "Interval",
    "PatientDraws",
    "RankingIntervals",
    "check_draws",
    "macro_auroc_on_draws",
    "mean_interval",
    "paired_gains",
    "paired_macro_gain",
    "ranking_intervals",
]


@dataclass(frozen=True)
class RankingIntervals:
    """How well findings are ranked.

    Attributes:
        auroc: one interval a finding, F.
        auprc: average precision, F.
        macro_auroc: mean over the findings that are defined, in each draw anew.
        macro_auprc: likewise.
        micro_auroc: of all N x F pairs of image and finding as one list.
        micro_auprc: likewise.
    """

    auroc: list[Interval]
    auprc: list[Interval]
    macro_auroc: Interval
    macro_auprc: Interval
    micro_auroc: Interval
    micro_auprc: Interval


def ranking_intervals(
    labels: ArrayLike, scores: ArrayLike, patient_ids: ArrayLike, *, draws: int = DRAWS, seed: int = 0
) -> RankingIntervals:
    """AUROC and average precision per finding, macro and micro, all from the same draws.

    Args:
        labels: (N, F) of 0 and 1.
        scores: (N, F), higher where the finding is likelier; logits, since probabilities may saturate.
        patient_ids: (N,).
        draws: D.
        seed: of the draws.

    Raises:
        RunError: shapes differ, a label is neither 0 nor 1, or a score is NaN.
    """
    positive = checked_labels(labels)
    ranked = checked_scores(scores, positive)
    drawn = _patient_draws(patient_ids, len(positive), draws, seed)
    rankings = [*_rankings(positive, ranked, drawn), _pooled(positive, ranked, drawn)]
    values = drawn.on_all(
        lambda counts: np.stack([each.auroc_and_average_precision(counts) for each in rankings], axis=1)
    )
    exact_auroc, exact_auprc = auroc(positive, ranked), average_precision(positive, ranked)
    return RankingIntervals(
        auroc=_per_finding(exact_auroc, values[0, :-1], positive, drawn),
        auprc=_per_finding(exact_auprc, values[1, :-1], positive, drawn),
        macro_auroc=intervals.of_draws(macro(exact_auroc), _macro(values[0, :-1])),
        macro_auprc=intervals.of_draws(macro(exact_auprc), _macro(values[1, :-1])),
        micro_auroc=intervals.of_draws(micro_auroc(positive, ranked), values[0, -1]),
        micro_auprc=intervals.of_draws(micro_average_precision(positive, ranked), values[1, -1]),
    )


def paired_macro_gain(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    patient_ids: ArrayLike,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Macro AUROC of a minus that of b, on the same draws; the draws are `ranking_intervals`'s of that seed.

    The macro is over the findings that a draw has both positives and negatives of, the same for a and b.
    Arguments and errors are `ranking_intervals`'s, with two scores.
    """
    positive = checked_labels(labels)
    drawn = _patient_draws(patient_ids, len(positive), draws, seed)
    exact, on_draws = _gains(positive, scores_a, scores_b, drawn)
    return intervals.of_draws(macro(exact), _macro(on_draws))


def paired_gains(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    patient_ids: ArrayLike,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Interval]:
    """AUROC of a minus that of b per finding, F, on the same draws; see `paired_macro_gain`."""
    positive = checked_labels(labels)
    drawn = _patient_draws(patient_ids, len(positive), draws, seed)
    return _per_finding(*_gains(positive, scores_a, scores_b, drawn), positive, drawn)


def mean_interval(
    values: ArrayLike, patient_ids: ArrayLike, *, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """Mean of what images or boxes have each, such as hits of the pointing game, drawn by patient.

    Args:
        values: (N,); NaN: left out.
        patient_ids: (N,).
        draws: D.
        seed: of the draws, which are of the patients that have a value.

    Raises:
        RunError: there is not one patient per value.
    """
    given, ids = np.asarray(values, np.float64), np.asarray(patient_ids)
    if given.ndim != 1 or given.shape != ids.shape:
        raise RunError(f"values of shape {given.shape} for patients of shape {ids.shape}")
    defined = ~np.isnan(given)
    # By patient and value, since a sum in another order differs in its last bits.
    order = np.lexsort((given[defined], ids[defined]))
    given, ids = given[defined][order], ids[defined][order]
    if not len(given):
        return Interval(math.nan, math.nan, math.nan)
    drawn = PatientDraws(ids, draws, seed)
    sums = np.bincount(drawn.of_image, given)
    sizes = np.bincount(drawn.of_image)
    return intervals.of_draws(
        float(given.mean()),
        drawn.on_all(lambda counts: np.einsum("p,pb->b", sums, counts) / (sizes @ counts)),
    )


def macro_auroc_on_draws(labels: ArrayLike, scores: ArrayLike, drawn: PatientDraws) -> np.ndarray:
    """Macro AUROC of one model on each draw.

    Args:
        labels: (N, F) of 0 and 1.
        scores: (N, F).
        drawn: of the images' patients.

    Returns:
        (D,) float64: the mean over the findings that a draw has both positives and negatives of, NaN where
        there is none.

    Raises:
        RunError: as for `ranking_intervals`.
    """
    positive = checked_labels(labels)
    return _macro(_aurocs_on_draws(positive, checked_scores(scores, positive), drawn))


def _gains(
    positive: np.ndarray, scores_a: ArrayLike, scores_b: ArrayLike, drawn: PatientDraws
) -> tuple[np.ndarray, np.ndarray]:
    """Gains per finding, on all images (F,) and on the draws (F, D)."""
    a, b = checked_scores(scores_a, positive), checked_scores(scores_b, positive)
    exact = auroc(positive, a) - auroc(positive, b)
    return exact, _aurocs_on_draws(positive, a, drawn) - _aurocs_on_draws(positive, b, drawn)


def _patient_draws(patient_ids: ArrayLike, images: int, draws: int, seed: int) -> PatientDraws:
    ids = np.asarray(patient_ids)
    if ids.shape != (images,):
        raise RunError(f"patients of shape {ids.shape} for {images} images")
    return PatientDraws(ids, draws, seed)


def _rankings(positive: np.ndarray, scores: np.ndarray, drawn: PatientDraws) -> list[DrawnRanking]:
    return [
        DrawnRanking(positive[:, finding], scores[:, finding], drawn.of_image, drawn.patients)
        for finding in range(positive.shape[1])
    ]


def _pooled(positive: np.ndarray, scores: np.ndarray, drawn: PatientDraws) -> DrawnRanking:
    of_pair = np.repeat(drawn.of_image, positive.shape[1])
    return DrawnRanking(positive.ravel(), scores.ravel(), of_pair, drawn.patients)


def _aurocs_on_draws(positive: np.ndarray, scores: np.ndarray, drawn: PatientDraws) -> np.ndarray:
    """AUROC per finding on each draw, (F, D)."""
    rankings = _rankings(positive, scores, drawn)
    return drawn.on_all(lambda counts: np.stack([ranking.auroc(counts) for ranking in rankings]))


def _per_finding(
    exact: np.ndarray, on_draws: np.ndarray, positive: np.ndarray, drawn: PatientDraws
) -> list[Interval]:
    """Intervals of values (F,) and what they are on draws (F, D)."""
    found = [intervals.of_draws(value, values) for value, values in zip(exact, on_draws, strict=True)]
    return [
        interval._replace(low=math.nan, high=math.nan) if _is_of_one_patient(rows, drawn) else interval
        for interval, rows in zip(found, positive.T, strict=True)
    ]


def _is_of_one_patient(positive: np.ndarray, drawn: PatientDraws) -> bool:
    """Whether all positives, or all negatives, are of one: how patients differ isn't seen then."""
    return any(np.ptp(drawn.of_image[rows]) == 0 for rows in (positive, ~positive) if rows.any())


def _macro(values: np.ndarray) -> np.ndarray:
    """(F, D) -> (D,): the mean of what is defined in each draw, NaN where nothing is."""
    defined = ~np.isnan(values)
    sums = np.where(defined, values, 0.0).sum(axis=0)
    return np.divide(sums, defined.sum(axis=0), out=np.full(len(sums), np.nan), where=defined.any(axis=0))
