"""Losses from logits, a file for each family; importing this package registers all of them with Keras."""

from engine.losses.build import build_loss
from engine.losses.distribution_balanced import DistributionBalanced
from engine.losses.dynamic_weighted_bce import DynamicWeightedBCE, RunningWeightedBCE
from engine.losses.focusing import Asymmetric, ClassBalancedFocal, Focal, Hill
from engine.losses.logit_loss import LogitLoss
from engine.losses.overlap import Dice, FocalTversky, MacroF1, Tversky
from engine.losses.pointwise import Poly1, SmoothedBCE, SquaredHinge
from engine.losses.prevalence import training_prevalence
from engine.losses.ranking import AUCMargin, PairwiseRanking
from engine.losses.weighted_bce import BCE, GuideWeightedBCE, WeightedBCE

__all__ = [
    "BCE",
    "AUCMargin",
    "Asymmetric",
    "ClassBalancedFocal",
    "Dice",
    "DistributionBalanced",
    "DynamicWeightedBCE",
    "Focal",
    "FocalTversky",
    "GuideWeightedBCE",
    "Hill",
    "LogitLoss",
    "MacroF1",
    "PairwiseRanking",
    "Poly1",
    "RunningWeightedBCE",
    "SmoothedBCE",
    "SquaredHinge",
    "Tversky",
    "WeightedBCE",
    "build_loss",
    "training_prevalence",
]
