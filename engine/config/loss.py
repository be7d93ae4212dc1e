"""What is minimised: section `loss`, whose keys are those of the loss that its `name` chooses.

The losses themselves, with their formulas and sources, are in `engine.losses`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.config.checks import at_least, below_one, between, choice

PREVALENCES = ("batch", "training")


@dataclass(frozen=True)
class LossConfig:
    """What is minimised; by itself, a loss without keys of its own.

    Attributes:
        choices: the dataclass that holds each loss's keys, by the loss's name.
        name: one of `choices`.
    """

    choices: ClassVar[dict[str, type[LossConfig]]]
    name: str


@dataclass(frozen=True)
class WeightedBCEConfig(LossConfig):
    """Keys of `weighted_bce`.

    Attributes:
        pos_weight: of every finding's positives; 0 takes N- / N+ of the training set, finding by finding.
    """

    pos_weight: float

    def __post_init__(self) -> None:
        at_least("loss.pos_weight", self.pos_weight, 0)


@dataclass(frozen=True)
class SmoothedBCEConfig(LossConfig):
    """Keys of `smoothed_bce`.

    Attributes:
        smoothing: how far labels are drawn towards one half.
    """

    smoothing: float

    def __post_init__(self) -> None:
        between("loss.smoothing", self.smoothing, 0, 1)


@dataclass(frozen=True)
class DynamicWeightedBCEConfig(LossConfig):
    """Keys of `dynamic_weighted_bce`.

    Attributes:
        smoothing: how far the ratios are drawn towards one half; 0: not at all.
        prevalence: what the ratios are: the batch's, as published, or the training set's.
    """

    smoothing: float
    prevalence: str

    def __post_init__(self) -> None:
        between("loss.smoothing", self.smoothing, 0, 1)
        choice("loss.prevalence", self.prevalence, PREVALENCES)


@dataclass(frozen=True)
class RunningWeightedBCEConfig(LossConfig):
    """Keys of `running_weighted_bce`.

    Attributes:
        smoothing: how far the ratios are drawn towards one half; 0: not at all.
        momentum: what each batch leaves of the ratios that were.
    """

    smoothing: float
    momentum: float

    def __post_init__(self) -> None:
        between("loss.smoothing", self.smoothing, 0, 1)
        below_one("loss.momentum", self.momentum)


@dataclass(frozen=True)
class FocalConfig(LossConfig):
    """Keys of `focal`.

    Attributes:
        alpha: weight of positives; negatives have 1 - alpha.
        gamma: how fast the loss of what is already right fades.
    """

    alpha: float
    gamma: float

    def __post_init__(self) -> None:
        between("loss.alpha", self.alpha, 0, 1)
        at_least("loss.gamma", self.gamma, 0)


@dataclass(frozen=True)
class ClassBalancedFocalConfig(LossConfig):
    """Keys of `class_balanced_focal`.

    Attributes:
        beta: of the effective number of samples, (1 - beta^n) / (1 - beta).
        gamma: how fast the loss of what is already right fades.
    """

    beta: float
    gamma: float

    def __post_init__(self) -> None:
        below_one("loss.beta", self.beta)
        at_least("loss.gamma", self.gamma, 0)


@dataclass(frozen=True)
class AsymmetricConfig(LossConfig):
    """Keys of `asymmetric`.

    Attributes:
        gamma_positive: focusing of positives.
        gamma_negative: focusing of negatives.
        margin: negatives of a lower probability cost nothing.
    """

    gamma_positive: float
    gamma_negative: float
    margin: float

    def __post_init__(self) -> None:
        at_least("loss.gamma_positive", self.gamma_positive, 0)
        at_least("loss.gamma_negative", self.gamma_negative, 0)
        below_one("loss.margin", self.margin)


@dataclass(frozen=True)
class DistributionBalancedConfig(LossConfig):
    """Keys of `distribution_balanced`.

    Attributes:
        map_alpha: lowest weight.
        map_beta: steepness of the map from rebalancing ratios to weights.
        map_mu: ratio at its centre.
        negative_scale: of negatives' logits; their loss is divided by it.
        bias_scale: of the logits' shift by the log odds of each finding.
    """

    map_alpha: float
    map_beta: float
    map_mu: float
    negative_scale: float
    bias_scale: float

    def __post_init__(self) -> None:
        at_least("loss.map_alpha", self.map_alpha, 0)
        at_least("loss.map_beta", self.map_beta, 0)
        at_least("loss.map_mu", self.map_mu, 0)
        at_least("loss.negative_scale", self.negative_scale, 1)
        at_least("loss.bias_scale", self.bias_scale, 0)


@dataclass(frozen=True)
class HillConfig(LossConfig):
    """Keys of `hill`.

    Attributes:
        offset: lambda of the negatives' weight, lambda - p.
        margin: that a positive's logit has to exceed.
        gamma: focusing of positives.
    """

    offset: float
    margin: float
    gamma: float

    def __post_init__(self) -> None:
        at_least("loss.offset", self.offset, 1)
        at_least("loss.margin", self.margin, 0)
        at_least("loss.gamma", self.gamma, 0)


@dataclass(frozen=True)
class DiceConfig(LossConfig):
    """Keys of `dice`.

    Attributes:
        smooth: added to numerator and denominator.
    """

    smooth: float

    def __post_init__(self) -> None:
        at_least("loss.smooth", self.smooth, 0)


@dataclass(frozen=True)
class TverskyConfig(LossConfig):
    """Keys of `tversky`.

    Attributes:
        false_positive_weight: of the batch's false positives.
        false_negative_weight: of its false negatives.
        smooth: added to numerator and denominator.
    """

    false_positive_weight: float
    false_negative_weight: float
    smooth: float

    def __post_init__(self) -> None:
        at_least("loss.false_positive_weight", self.false_positive_weight, 0)
        at_least("loss.false_negative_weight", self.false_negative_weight, 0)
        at_least("loss.smooth", self.smooth, 0)


@dataclass(frozen=True)
class FocalTverskyConfig(TverskyConfig):
    """Keys of `focal_tversky`.

    Attributes:
        gamma: the Tversky loss is raised to 1 / gamma.
    """

    gamma: float

    def __post_init__(self) -> None:
        super().__post_init__()
        between("loss.gamma", self.gamma, 1, 3)


@dataclass(frozen=True)
class Poly1Config(LossConfig):
    """Keys of `poly1`.

    Attributes:
        epsilon: added to the first coefficient of the cross-entropy's expansion.
    """

    epsilon: float

    def __post_init__(self) -> None:
        at_least("loss.epsilon", self.epsilon, -1)


@dataclass(frozen=True)
class AUCMarginConfig(LossConfig):
    """Keys of `auc_margin`.

    Attributes:
        margin: by which the mean probability of positives should exceed that of negatives.
    """

    margin: float

    def __post_init__(self) -> None:
        between("loss.margin", self.margin, 0, 1)


LossConfig.choices = {
    "bce": LossConfig,
    "weighted_bce": WeightedBCEConfig,
    "guide_weighted_bce": LossConfig,
    "dynamic_weighted_bce": DynamicWeightedBCEConfig,
    "running_weighted_bce": RunningWeightedBCEConfig,
    "smoothed_bce": SmoothedBCEConfig,
    "focal": FocalConfig,
    "class_balanced_focal": ClassBalancedFocalConfig,
    "asymmetric": AsymmetricConfig,
    "distribution_balanced": DistributionBalancedConfig,
    "hill": HillConfig,
    "poly1": Poly1Config,
    "squared_hinge": LossConfig,
    "dice": DiceConfig,
    "tversky": TverskyConfig,
    "focal_tversky": FocalTverskyConfig,
    "macro_f1": LossConfig,
    "pairwise_ranking": LossConfig,
    "auc_margin": AUCMarginConfig,
}
