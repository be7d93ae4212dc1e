"""Losses that let what is easy, or likely mislabelled, fade: focal and its kin.

A power of a probability is taken as exp(-gamma softplus(.)), whose gradient is finite at any gamma and logit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from engine.losses.logit_loss import LogitLoss
from engine.losses.prevalence import checked_prevalence, per_finding
from engine.losses.weighted_bce import WeightedLogLoss


class FocusedLogLoss(WeightedLogLoss):
    """-w_t (1 - p_t)^gamma log p_t, p_t = p where y = 1, else 1 - p; a subclass writes `weights`."""

    gamma: float

    def elements(self, labels: Any, logits: Any) -> Any:
        """Weighted cross-entropy times (1 - p_t)^gamma."""
        minus_log_missed = labels * ops.softplus(logits) + (1.0 - labels) * ops.softplus(-logits)
        return ops.exp(-self.gamma * minus_log_missed) * super().elements(labels, logits)


@keras.saving.register_keras_serializable(package="cxr_engine")
class Focal(FocusedLogLoss):
    """-a_t (1 - p_t)^gamma log p_t, a_t = a where y = 1, else 1 - a.

    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", ICCV; a = 0.25, gamma = 2 there.

    Args:
        alpha: a, in [0, 1].
        gamma: at least 0.
    """

    settings = ("alpha", "gamma")

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        name: str = "focal",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        self.alpha, self.gamma = float(alpha), float(gamma)

    def weights(self, labels: Any) -> tuple[float, float]:  # noqa: ARG002
        """Alpha and 1 - alpha."""
        return self.alpha, 1.0 - self.alpha


@keras.saving.register_keras_serializable(package="cxr_engine")
class ClassBalancedFocal(FocusedLogLoss):
    """-w_t (1 - p_t)^gamma log p_t, w = (1 - beta) / (1 - beta^n), n = n+ where y = 1, else n-.

    (1 - beta^n) / (1 - beta) is the effective number of n samples. Presence and absence of a finding are its
    two classes; their weights are scaled to add up to 2, as the source scales its to the number of classes.

    Source: Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of Samples", CVPR; beta = 0.9999,
    gamma = 2 in its program.

    Args:
        training_prevalence: n+ / N per finding, in (0, 1).
        records: N, of the training split.
        beta: in [0, 1).
        gamma: at least 0.

    Raises:
        ConfigError: a share is out of its range.
    """

    settings = ("training_prevalence", "records", "beta", "gamma")

    def __init__(
        self,
        training_prevalence: Sequence[float],
        records: int,
        beta: float = 0.9999,
        gamma: float = 2.0,
        name: str = "class_balanced_focal",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        self.training_prevalence = checked_prevalence(training_prevalence)
        self.records, self.beta, self.gamma = int(records), float(beta), float(gamma)

    def weights(self, labels: Any) -> tuple[Any, Any]:
        """Inverse effective numbers of positives and negatives, each (F,), scaled to a sum of 2."""
        shares = np.asarray(self.training_prevalence)
        positive, negative = (1 / (1 - self.beta ** (self.records * part)) for part in (shares, 1 - shares))
        scale = 2 / (positive + negative)
        return per_finding(scale * positive, labels), per_finding(scale * negative, labels)


@keras.saving.register_keras_serializable(package="cxr_engine")
class Asymmetric(LogitLoss):
    """-y (1 - p)^g+ log p - (1 - y) m^g- log(1 - m), m = max(p - margin, 0).

    Source: Ridnik et al. 2021, "Asymmetric Loss For Multi-Label Classification" (ASL), ICCV; g+ = 0, g- = 4,
    margin = 0.05 there.

    Args:
        gamma_positive: g+, at least 0.
        gamma_negative: g-, at least 0.
        margin: in [0, 1).
    """

    settings = ("gamma_positive", "gamma_negative", "margin")

    def __init__(
        self,
        gamma_positive: float = 0.0,
        gamma_negative: float = 4.0,
        margin: float = 0.05,
        name: str = "asymmetric",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        self.gamma_positive, self.gamma_negative = float(gamma_positive), float(gamma_negative)
        self.margin = float(margin)

    def elements(self, labels: Any, logits: Any) -> Any:
        """The formula."""
        positive = ops.exp(-self.gamma_positive * ops.softplus(logits)) * ops.softplus(-logits)
        return labels * positive + (1.0 - labels) * self._negative(logits)

    def _negative(self, logits: Any) -> Any:
        if not self.margin:
            return ops.exp(-self.gamma_negative * ops.softplus(-logits)) * ops.softplus(logits)
        # Above 0, where a power below 1 has no derivative; there the other factor is 0 anyway.
        shifted = ops.maximum(ops.sigmoid(logits) - self.margin, 1e-7)
        return -ops.power(shifted, self.gamma_negative) * ops.log(
            ops.minimum(ops.sigmoid(-logits) + self.margin, 1.0)
        )


@keras.saving.register_keras_serializable(package="cxr_engine")
class Hill(LogitLoss):
    """-y (1 - q)^gamma log q + (1 - y) (lambda - p) p^2, q = sigmoid(z - margin).

    The negatives' gradient falls again where p is high, for those are likely findings that the labels miss.

    Source: Zhang et al. 2021, "Simple and Robust Loss Design for Multi-Label Learning with Missing Labels",
    arXiv:2112.07368; lambda = 1.5, margin = 1, gamma = 2 there.

    Args:
        offset: lambda, at least 1.
        margin: at least 0, on the logit.
        gamma: at least 0.
    """

    settings = ("offset", "margin", "gamma")

    def __init__(
        self,
        offset: float = 1.5,
        margin: float = 1.0,
        gamma: float = 2.0,
        name: str = "hill",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        self.offset, self.margin, self.gamma = float(offset), float(margin), float(gamma)

    def elements(self, labels: Any, logits: Any) -> Any:
        """The formula."""
        above = logits - self.margin
        positive = ops.exp(-self.gamma * ops.softplus(above)) * ops.softplus(-above)
        p = ops.sigmoid(logits)
        return labels * positive + (1.0 - labels) * (self.offset - p) * ops.square(p)
