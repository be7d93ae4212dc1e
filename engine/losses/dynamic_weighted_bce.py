"""Binary cross-entropy whose weights follow the prevalence of each finding, with a smoothed ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from engine.config.checks import choice
from engine.config.loss import PREVALENCES
from engine.losses.prevalence import checked_prevalence, per_finding
from engine.losses.replicas import global_batch_mean
from engine.losses.weighted_bce import WeightedLogLoss
from records.errors import ConfigError

EPSILON = 1e-7


class RatioWeightedBCE(WeightedLogLoss):
    """-(w+ y log p + w- (1 - y) log(1 - p)), w+ = 1 / (s + e), w- = 1 / (1 - s + e), s = r (1 - a) + 0.5 a.

    r is the positive ratio per finding, which a subclass gives as `ratio`, a the smoothing and e = 1e-7. The
    smoothing draws the ratio, not the labels, towards one half, and so caps w+ at 2 / a.
    """

    smoothing: float

    def weights(self, labels: Any) -> tuple[Any, Any]:
        """w+ and w-, each (F,) float32."""
        smoothed = self.ratio(labels) * (1.0 - self.smoothing) + 0.5 * self.smoothing
        return 1.0 / (smoothed + EPSILON), 1.0 / (1.0 - smoothed + EPSILON)

    def ratio(self, labels: Any) -> Any:
        """The ratio r, (F,) float32, for a batch of (B, F) float32 labels."""
        raise NotImplementedError

    def for_validation(self, training_prevalence: Sequence[float]) -> RatioWeightedBCE:
        """The same loss with the training split's fixed ratio in place of each batch's.

        With the batch's own, the same predictions cost 1.05 to 1.55 depending on how they are batched.
        """
        return DynamicWeightedBCE(self.smoothing, "training", training_prevalence, self.name, self.reduction)


@keras.saving.register_keras_serializable(package="cxr_engine")
class DynamicWeightedBCE(RatioWeightedBCE):
    """`DynamicWeightedBCE_wgt_smooth` of Fisher (2025), from logits and per sample.

    The formula is `RatioWeightedBCE`'s.

    Args:
        smoothing: a, in [0, 1]; 0.1 in the article, 0.05 for clean and 0.2 for noisy labels, 0 for none.
        prevalence: where r comes from. `batch` (the article's): the labels of the global batch, whatever
            their sample weights; at 16 samples one positive then gives w+ = 9.41 whatever the finding.
            `training`: the fixed `training_prevalence`.
        training_prevalence: share of positives per finding in the training split, in (0, 1); needed with
            `training`, ignored and dropped otherwise.

    Raises:
        ConfigError: the prevalence is of no known kind, or a share is out of its range or missing.
    """

    settings = ("smoothing", "prevalence", "training_prevalence")

    def __init__(
        self,
        smoothing: float = 0.1,
        prevalence: str = "batch",
        training_prevalence: Sequence[float] | None = None,
        name: str = "dynamic_weighted_bce",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        choice("prevalence", prevalence, PREVALENCES)
        if prevalence == "training" and training_prevalence is None:
            raise ConfigError("prevalence `training` needs the training split's prevalence per finding")
        self.smoothing = float(smoothing)
        self.prevalence = prevalence
        fixed = training_prevalence if prevalence == "training" else None
        self.training_prevalence = None if fixed is None else checked_prevalence(fixed)

    def ratio(self, labels: Any) -> Any:
        """The global batch's, or the training split's."""
        if self.training_prevalence is None:
            return global_batch_mean(labels)
        return per_finding(self.training_prevalence, labels)

    def for_validation(self, training_prevalence: Sequence[float]) -> RatioWeightedBCE:
        """With the training split's ratio, as `RatioWeightedBCE` has it; itself where it has one."""
        return super().for_validation(training_prevalence) if self.training_prevalence is None else self


@keras.saving.register_keras_serializable(package="cxr_engine")
class RunningWeightedBCE(RatioWeightedBCE):
    """The dynamic loss with a running ratio: r <- m r + (1 - m) x the global batch's.

    It starts from the training set's.

    It follows the batches that are really drawn, oversampling included, without the noise of one batch: with
    m = 0.99 and 16 samples, r is of about 1,600 records. Every call in training moves r, and the weights are
    of the moved r; the form that validates has the training split's fixed ratio and moves nothing.

    Source: Fisher (2025) for the weights; the running mean is that of batch normalisation (Ioffe and Szegedy
    2015, "Batch Normalization", ICML). The formula is `RatioWeightedBCE`'s.

    Args:
        training_prevalence: share of positives per finding in the training split, in (0, 1).
        smoothing: a, in [0, 1].
        momentum: m, in [0, 1).

    Raises:
        ConfigError: a share is out of its range.
    """

    settings = ("training_prevalence", "smoothing", "momentum")

    def __init__(
        self,
        training_prevalence: Sequence[float],
        smoothing: float = 0.1,
        momentum: float = 0.99,
        name: str = "running_weighted_bce",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        self.training_prevalence = checked_prevalence(training_prevalence)
        self.smoothing, self.momentum = float(smoothing), float(momentum)
        self.running_prevalence = keras.Variable(
            np.asarray(self.training_prevalence, np.float32),
            dtype="float32",
            trainable=False,
            aggregation="only_first_replica",  # all replicas move it alike
            name="running_prevalence",
        )

    def ratio(self, labels: Any) -> Any:
        """The running ratio, moved by this batch."""
        per_finding(self.training_prevalence, labels)  # raises if the findings don't match
        ratio = self.momentum * self.running_prevalence + (1.0 - self.momentum) * global_batch_mean(labels)
        self.running_prevalence.assign(ratio)
        return ratio

    @property
    def variables(self) -> list[keras.Variable]:
        """The running ratio, (F,) float32."""
        return [self.running_prevalence]
