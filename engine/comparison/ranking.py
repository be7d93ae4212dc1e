"""Which loss ranks best, and how sure that is: means over seeds, with intervals over seeds and patients.

L = losses, S = seeds, N = validation images, F = 14 findings, D = draws. Everything is NumPy.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine import metrics
from engine.comparison.trainings import Outcome
from engine.metrics import bootstrap, intervals
from engine.metrics.intervals import Interval
from records.errors import RunError

_DRAWING_SEED = 0


@dataclass(frozen=True, eq=False)
class Ranked:
    """One loss's place.

    Attributes:
        number: of the loss in the config, from 0.
        macro_auroc: mean over the seeds on all validation images, and its interval.
        of_seeds: (S,) macro AUROC of each training.
        minus_baseline: paired difference from the baseline, None for the baseline itself.
        auroc: (F,) of each finding, mean over the seeds; NaN where not defined.
        seconds: of a training, mean over the seeds.
        diverged: trainings whose loss ended as no number.
    """

    number: int
    macro_auroc: Interval
    of_seeds: np.ndarray
    minus_baseline: Interval | None
    auroc: np.ndarray
    seconds: float
    diverged: int


@dataclass(frozen=True)
class Ranking:
    """All losses, the best first, those that diverged last.

    Attributes:
        rows: one a loss.
        pairs: of two losses that didn't diverge.
        pairs_apart: of those, whose paired difference has an interval without 0.
    """

    rows: tuple[Ranked, ...]
    pairs: int
    pairs_apart: int


def rank(
    outcomes: Sequence[Sequence[Outcome]],
    labels: np.ndarray,
    patient_ids: np.ndarray,
    *,
    baseline: int,
    draws: int,
) -> Ranking:
    """Rank losses by macro AUROC.

    A draw is one of seeds and one of validation patients, each as many as there are and with replacement,
    the same for all losses; a loss's value in it is the mean over the drawn seeds (see `seed_weights`) of the
    macro AUROC on the drawn patients' images. Intervals go from the 2.5th to the 97.5th percentile of all.

    Args:
        outcomes: of S trainings for each of L losses, seeds in the same order.
        labels: (N, F) of 0 and 1.
        patient_ids: (N,).
        baseline: number of the loss that the others are held against.
        draws: D.
    """
    drawn = _drawn_macros(outcomes, labels, patient_ids, draws)
    differences = drawn - drawn[baseline]
    of_seeds = np.array([[metrics.macro(outcome.auroc) for outcome in of_loss] for of_loss in outcomes])
    means = of_seeds.mean(axis=1)
    rows = [
        Ranked(
            number=number,
            macro_auroc=intervals.of_draws(means[number], drawn[number]),
            of_seeds=of_seeds[number],
            minus_baseline=(
                None
                if number == baseline
                else intervals.of_draws(means[number] - means[baseline], differences[number])
            ),
            auroc=np.mean([outcome.auroc for outcome in of_loss], axis=0),
            seconds=float(np.mean([outcome.seconds for outcome in of_loss])),
            diverged=sum(outcome.diverged for outcome in of_loss),
        )
        for number, of_loss in enumerate(outcomes)
    ]
    rows.sort(key=lambda row: (np.isnan(row.macro_auroc.value), -row.macro_auroc.value, row.number))
    return Ranking(tuple(rows), *_pairs_apart(drawn[~np.isnan(means)]))


def check_fair(outcomes: Sequence[Sequence[Outcome]], seeds: Sequence[int], names: Sequence[str]) -> None:
    """Check that all losses began with the same weights and had the same records in the same order.

    Args:
        outcomes: of S trainings for each of L losses.
        seeds: S.
        names: of the L losses.

    Raises:
        RunError: they didn't, so nothing can be compared.
    """
    for place, seed in enumerate(seeds):
        first = next((of_loss[place] for of_loss in outcomes if not of_loss[place].diverged), None)
        for name, of_loss in zip(names, outcomes, strict=True):
            found = of_loss[place]
            if first is None or found.diverged:  # it stopped on the way
                continue
            for what in ("initial_weights", "record_order", "steps"):
                if getattr(found, what) != getattr(first, what):
                    raise RunError(
                        f"{name}, seed {seed}: other {what.replace('_', ' ')} than the other losses had; "
                        "was it trained with other versions or on another device? compare again in another "
                        "--out"
                    )


def _drawn_macros(
    outcomes: Sequence[Sequence[Outcome]], labels: np.ndarray, patient_ids: np.ndarray, draws: int
) -> np.ndarray:
    """(L, D): each loss's value in each draw of seeds and patients."""
    patients = bootstrap.PatientDraws(patient_ids, draws, _DRAWING_SEED)
    macros = np.array(
        [[_macros_of_one(labels, outcome, patients) for outcome in of_loss] for of_loss in outcomes]
    )
    weights = seed_weights(len(outcomes[0]), draws, np.random.default_rng(_DRAWING_SEED))
    return np.einsum("lsd,sd->ld", macros, weights)


def _macros_of_one(labels: np.ndarray, outcome: Outcome, patients: bootstrap.PatientDraws) -> np.ndarray:
    """(D,): a training's macro AUROC in each draw, NaN if it diverged."""
    if outcome.diverged:
        return np.full(patients.draws, np.nan)
    return bootstrap.macro_auroc_on_draws(labels, outcome.logits, patients)


def seed_weights(seeds: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return how much each of S seeds counts in each of D draws, (S, D), 1 in all.

    A mean of S values drawn with replacement from S varies by (S - 1) / S of what a mean of S fresh ones
    does, a third too little for three seeds; so weights are spread about 1 / S by as much more (Davison and
    Hinkley 1997, "Bootstrap Methods and their Application").
    """
    even = 1 / seeds
    drawn = rng.multinomial(seeds, np.full(seeds, even), size=draws).T / seeds
    return even + np.sqrt(seeds / max(1, seeds - 1)) * (drawn - even)


def _pairs_apart(drawn: np.ndarray) -> tuple[int, int]:
    """How many pairs of losses there are, and how many the draws tell apart."""
    pairs = list(itertools.combinations(range(len(drawn)), 2))
    differences = (intervals.of_draws(0.0, drawn[one] - drawn[other]) for one, other in pairs)
    return len(pairs), sum(difference.excludes_zero for difference in differences)
