"""The distribution-balanced loss: weights for findings that come together, tolerance for negatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from engine.losses.logit_loss import LogitLoss
from engine.losses.prevalence import checked_prevalence, per_finding


@keras.saving.register_keras_serializable(package="cxr_engine")
class DistributionBalanced(LogitLoss):
    """w (y softplus(-(z - v)) + (1 - y) softplus(lambda (z - v)) / lambda).

    w = alpha + sigmoid(beta (r - mu)) maps the rebalancing ratio r = (1 / n_f) / (sum over the sample's
    findings of 1 / n), the chance to draw the sample for this finding over that for all it has; where it has
    none, r is infinite and w = alpha + 1. v = kappa log(1 / p_f - 1) shifts logits by the finding's log odds
    (p_f = n_f / N), and lambda flattens the loss of negatives that are already right.

    Source: Wu et al. 2020, "Distribution-Balanced Loss for Multi-Label Classification in Long-Tailed
    Datasets", ECCV, without the focal factor; defaults as in its program's configuration for COCO. (That
    program divides kappa by lambda as well.)

    Args:
        training_prevalence: p_f, in (0, 1).
        map_alpha: alpha, at least 0.
        map_beta: beta, at least 0.
        map_mu: mu, at least 0.
        negative_scale: lambda, at least 1.
        bias_scale: kappa, at least 0.

    Raises:
        ConfigError: a share is out of its range.
    """

    settings = ("training_prevalence", "map_alpha", "map_beta", "map_mu", "negative_scale", "bias_scale")

    def __init__(
        self,
        training_prevalence: Sequence[float],
        map_alpha: float = 0.1,
        map_beta: float = 10.0,
        map_mu: float = 0.2,
        negative_scale: float = 2.0,
        bias_scale: float = 0.05,
        name: str = "distribution_balanced",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        self.training_prevalence = checked_prevalence(training_prevalence)
        self.map_alpha, self.map_beta, self.map_mu = float(map_alpha), float(map_beta), float(map_mu)
        self.negative_scale, self.bias_scale = float(negative_scale), float(bias_scale)

    def elements(self, labels: Any, logits: Any) -> Any:
        """The formula."""
        shares = np.asarray(self.training_prevalence)
        shifted = logits - per_finding(self.bias_scale * np.log(1 / shares - 1), labels)
        negative = ops.softplus(self.negative_scale * shifted) / self.negative_scale
        return self.sample_weights(labels) * (labels * ops.softplus(-shifted) + (1.0 - labels) * negative)

    def sample_weights(self, labels: Any) -> Any:
        """The weights w, (B, F) float32, for a batch of (B, F) float32 labels."""
        inverse = per_finding(1 / np.asarray(self.training_prevalence), labels)
        of_all_findings = ops.sum(labels * inverse, axis=-1, keepdims=True)
        # A sample without findings: a ratio so high that the map is at its top.
        ratio = ops.where(of_all_findings > 0, inverse / ops.maximum(of_all_findings, 1.0), 1e6)
        return self.map_alpha + ops.sigmoid(self.map_beta * (ratio - self.map_mu))
