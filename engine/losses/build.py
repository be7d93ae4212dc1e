"""The losses by the names that a config knows them by."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.losses.bce import BCE
from engine.losses.dynamic_weighted_bce import DynamicWeightedBCE
from engine.losses.logit_loss import LogitLoss
from engine.losses.weighted_bce import WeightedBCE
from records.errors import ConfigError


@dataclass(frozen=True)
class LossSettings:
    """What any of the losses may be asked to take; each reads its own."""

    smoothing: float
    prevalence: str
    pos_weight: float | Sequence[float] | None
    training_prevalence: Sequence[float] | None


def _weighted_bce(settings: LossSettings) -> WeightedBCE:
    if settings.pos_weight is None:
        raise ConfigError("the loss `weighted_bce` needs pos_weight: one number, or one per finding")
    return WeightedBCE(settings.pos_weight)


def _dynamic_weighted_bce(settings: LossSettings) -> DynamicWeightedBCE:
    return DynamicWeightedBCE(settings.smoothing, settings.prevalence, settings.training_prevalence)


LOSSES: dict[str, Callable[[LossSettings], LogitLoss]] = {
    "bce": lambda _: BCE(),
    "weighted_bce": _weighted_bce,
    "dynamic_weighted_bce": _dynamic_weighted_bce,
}


def build_loss(
    name: str,
    *,
    smoothing: float = 0.1,
    prevalence: str = "batch",
    pos_weight: float | Sequence[float] | None = None,
    training_prevalence: Sequence[float] | None = None,
) -> LogitLoss:
    """Build the loss that trains; its `for_validation(training_prevalence)` is the one that validates.

    Args:
        name: a key of `LOSSES`.
        smoothing: of `dynamic_weighted_bce`.
        prevalence: of `dynamic_weighted_bce`: `batch`, `training` or `none`.
        pos_weight: of `weighted_bce`; one number, or one per finding.
        training_prevalence: of `dynamic_weighted_bce` with prevalence `training`; one share per finding.

    Raises:
        ConfigError: the name is unknown, or a setting that the loss reads is wrong or missing.
    """
    if name not in LOSSES:
        nearest = difflib.get_close_matches(name, LOSSES, n=1)
        hint = f"did you mean `{nearest[0]}`?" if nearest else f"expected one of {', '.join(LOSSES)}"
        raise ConfigError(f"unknown loss `{name}`; {hint}")
    return LOSSES[name](LossSettings(smoothing, prevalence, pos_weight, training_prevalence))
