"""The loss that a config names, for a training set."""

from __future__ import annotations

from collections.abc import Sequence

from engine.config import loss as keys
from engine.losses.distribution_balanced import DistributionBalanced
from engine.losses.dynamic_weighted_bce import DynamicWeightedBCE, RunningWeightedBCE
from engine.losses.focusing import Asymmetric, ClassBalancedFocal, Focal, Hill
from engine.losses.logit_loss import LogitLoss
from engine.losses.overlap import Dice, FocalTversky, MacroF1, Tversky
from engine.losses.pointwise import Poly1, SmoothedBCE, SquaredHinge
from engine.losses.prevalence import training_prevalence
from engine.losses.ranking import AUCMargin, PairwiseRanking
from engine.losses.weighted_bce import BCE, GuideWeightedBCE, WeightedBCE
from records.errors import ConfigError

WITHOUT_KEYS = {
    "bce": BCE,
    "squared_hinge": SquaredHinge,
    "macro_f1": MacroF1,
    "pairwise_ranking": PairwiseRanking,
}


def build_loss(settings: keys.LossConfig, positives: Sequence[int], records: int) -> LogitLoss:
    """Build the loss that trains; its `for_validation(training_prevalence)` is the one that validates.

    Under `tf.distribute`, build it in the strategy's scope: one of them has a variable.

    Args:
        settings: section `loss` of a config.
        positives: records of the training split with each finding, F numbers.
        records: of the training split.

    Raises:
        ConfigError: no loss has that name.
    """
    prevalence = training_prevalence(positives, records).tolist()
    match settings:
        case keys.WeightedBCEConfig():
            return WeightedBCE(settings.pos_weight or [(1 - share) / share for share in prevalence])
        case keys.DynamicWeightedBCEConfig():
            return DynamicWeightedBCE(settings.smoothing, settings.prevalence, prevalence)
        case keys.RunningWeightedBCEConfig():
            return RunningWeightedBCE(prevalence, settings.smoothing, settings.momentum)
        case keys.ClassBalancedFocalConfig():
            return ClassBalancedFocal(prevalence, records, settings.beta, settings.gamma)
        case keys.DistributionBalancedConfig():
            return _distribution_balanced(settings, prevalence)
        case keys.LossConfig(name="guide_weighted_bce"):
            return GuideWeightedBCE(prevalence)
    return _of_the_batch_alone(settings)


def _of_the_batch_alone(settings: keys.LossConfig) -> LogitLoss:
    match settings:
        case keys.SmoothedBCEConfig():
            return SmoothedBCE(settings.smoothing)
        case keys.FocalConfig():
            return Focal(settings.alpha, settings.gamma)
        case keys.AsymmetricConfig():
            return Asymmetric(settings.gamma_positive, settings.gamma_negative, settings.margin)
        case keys.HillConfig():
            return Hill(settings.offset, settings.margin, settings.gamma)
        case keys.Poly1Config():
            return Poly1(settings.epsilon)
        case keys.DiceConfig():
            return Dice(settings.smooth)
        case keys.FocalTverskyConfig():
            weights = settings.false_positive_weight, settings.false_negative_weight
            return FocalTversky(*weights, settings.smooth, settings.gamma)
        case keys.TverskyConfig():
            weights = settings.false_positive_weight, settings.false_negative_weight
            return Tversky(*weights, settings.smooth)
        case keys.AUCMarginConfig():
            return AUCMargin(settings.margin)
    if settings.name not in WITHOUT_KEYS:
        raise ConfigError(f"no loss `{settings.name}`; expected one of {', '.join(settings.choices)}")
    return WITHOUT_KEYS[settings.name]()


def _distribution_balanced(
    settings: keys.DistributionBalancedConfig, prevalence: Sequence[float]
) -> DistributionBalanced:
    return DistributionBalanced(
        prevalence,
        settings.map_alpha,
        settings.map_beta,
        settings.map_mu,
        settings.negative_scale,
        settings.bias_scale,
    )
