"""Losses from logits, one file each; importing this package registers all of them with Keras."""

from engine.losses.bce import BCE
from engine.losses.build import LOSSES, build_loss
from engine.losses.dynamic_weighted_bce import DynamicWeightedBCE
from engine.losses.logit_loss import LogitLoss
from engine.losses.weighted_bce import WeightedBCE

__all__ = ["BCE", "LOSSES", "DynamicWeightedBCE", "LogitLoss", "WeightedBCE", "build_loss"]
