"""What is minimised: section `loss`."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config.checks import between, choice

LOSSES = ("bce", "weighted_bce", "dynamic_weighted_bce")
PREVALENCES = ("batch", "training")


@dataclass(frozen=True)
class LossConfig:
    """What is minimised.

    Attributes:
        name: of a loss in `engine.losses`.
        smoothing: of the dynamic loss's ratios towards one half.
        prevalence: what those ratios are: the batch's, as published, or the training set's.
    """

    name: str
    smoothing: float
    prevalence: str

    def __post_init__(self) -> None:
        choice("loss.name", self.name, LOSSES)
        between("loss.smoothing", self.smoothing, 0, 1)
        choice("loss.prevalence", self.prevalence, PREVALENCES)
