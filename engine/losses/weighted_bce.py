"""Binary cross-entropy, plain and with fixed weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from engine.losses.logit_loss import LogitLoss
from engine.losses.prevalence import checked_prevalence, per_finding
from records.errors import ConfigError


class WeightedLogLoss(LogitLoss):
    """-(w+ y log p + w- (1 - y) log(1 - p)); a subclass writes `weights`."""

    def elements(self, labels: Any, logits: Any) -> Any:
        """w+ y softplus(-z) + w- (1 - y) softplus(z)."""
        positive, negative = self.weights(labels)
        losses = positive * labels * ops.softplus(-logits)
        return losses + negative * (1.0 - labels) * ops.softplus(logits)

    def weights(self, labels: Any) -> tuple[Any, Any]:
        """w+ and w-, each a number or (F,) or (B, F) float32, for a batch of (B, F) float32 labels."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="cxr_engine")
class BCE(WeightedLogLoss):
    """-(y log p + (1 - y) log(1 - p)): the baseline that every other loss is compared with.

    Source: the maximum-likelihood loss of independent Bernoulli labels, e.g. Goodfellow et al. 2016,
    "Deep Learning", section 6.2.2.2.
    """

    def __init__(self, name: str = "bce", reduction: str = "sum_over_batch_size") -> None:
        super().__init__(name=name, reduction=reduction)

    def weights(self, labels: Any) -> tuple[float, float]:  # noqa: ARG002
        """1 and 1."""
        return 1.0, 1.0


@keras.saving.register_keras_serializable(package="cxr_engine")
class WeightedBCE(WeightedLogLoss):
    """-(pos_weight y log p + (1 - y) log(1 - p)).

    Source: `WeightedBinaryCrossentropy` of Fisher (2025), which starts from probabilities.

    Args:
        pos_weight: one positive number for all findings, or one each.

    Raises:
        ConfigError: a weight is not a positive, finite number.
    """

    settings = ("pos_weight",)

    def __init__(
        self,
        pos_weight: float | Sequence[float],
        name: str = "weighted_bce",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        numbers = np.asarray(pos_weight, np.float64).reshape(-1)
        if not numbers.size or not np.all(np.isfinite(numbers) & (numbers > 0)):
            raise ConfigError(f"pos_weight is {pos_weight}; expected positive, finite numbers")
        self.pos_weight = numbers.tolist()

    def weights(self, labels: Any) -> tuple[Any, float]:
        """`pos_weight` and 1."""
        return per_finding(self.pos_weight, labels), 1.0


@keras.saving.register_keras_serializable(package="cxr_engine")
class GuideWeightedBCE(WeightedLogLoss):
    """-(w+ y log p + w- (1 - y) log(1 - p)), w+ = N / 2n+ and w- = N / 2n- of the training set.

    Both kinds of label then weigh half of each finding. Source: the guide to chest disease detection with
    CNNs, whose loss is the sum over findings; here it is the mean, so that it compares with the others.

    Args:
        training_prevalence: n+ / N per finding, in (0, 1).

    Raises:
        ConfigError: a share is out of its range.
    """

    settings = ("training_prevalence",)

    def __init__(
        self,
        training_prevalence: Sequence[float],
        name: str = "guide_weighted_bce",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        self.training_prevalence = checked_prevalence(training_prevalence)

    def weights(self, labels: Any) -> tuple[Any, Any]:
        """N / 2n+ and N / 2n-, each (F,)."""
        shares = np.asarray(self.training_prevalence)
        return per_finding(0.5 / shares, labels), per_finding(0.5 / (1 - shares), labels)
