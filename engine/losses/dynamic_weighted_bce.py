"""Binary cross-entropy whose weights follow the prevalence of each finding, with a smoothed ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from engine.losses.logit_loss import LogitLoss
from engine.losses.replicas import global_batch_mean
from records.errors import ConfigError

EPSILON = 1e-7
PREVALENCES = ("batch", "training", "none")


@keras.saving.register_keras_serializable(package="cxr_engine")
class DynamicWeightedBCE(LogitLoss):
    """`DynamicWeightedBCE_wgt_smooth` of Fisher (2025), from logits and per sample.

    s = r (1 - a) + 0.5 a, w+ = 1 / (s + e), w- = 1 / (1 - s + e), with r the positive ratio per finding,
    a the smoothing and e = 1e-7; loss = -mean(w+ y log p + w- (1 - y) log(1 - p)). The smoothing draws the
    ratio, not the labels, towards one half, and so caps w+ at 2 / a.

    Args:
        smoothing: a, in [0, 1]; 0.1 in the article, 0.05 for clean and 0.2 for noisy labels.
        prevalence: where r comes from. `batch` (the article's): the labels of the global batch, whatever
            their sample weights; at 16 samples one positive then gives w+ = 9.41 whatever the finding.
            `training`: the fixed `training_prevalence`. `none`: one half, which weighs all alike (by 2),
            the control for the other two.
        training_prevalence: share of positives per finding in the training split, in (0, 1); needed with
            `training`, ignored and dropped otherwise.

    Raises:
        ConfigError: an argument is out of its range or missing.
    """

    def __init__(
        self,
        smoothing: float = 0.1,
        prevalence: str = "batch",
        training_prevalence: Sequence[float] | None = None,
        name: str = "dynamic_weighted_bce",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        if not 0 <= smoothing <= 1:
            raise ConfigError(f"the smoothing is {smoothing}; expected 0 to 1")
        if prevalence not in PREVALENCES:
            raise ConfigError(f"unknown prevalence `{prevalence}`; expected one of {', '.join(PREVALENCES)}")
        self.smoothing = float(smoothing)
        self.prevalence = prevalence
        self.training_prevalence = _checked(training_prevalence) if prevalence == "training" else None

    def weights(self, labels: Any) -> tuple[Any, Any]:
        """w+ and w-, each (F,) float32."""
        smoothed = self._ratio(labels) * (1.0 - self.smoothing) + 0.5 * self.smoothing
        return 1.0 / (smoothed + EPSILON), 1.0 / (1.0 - smoothed + EPSILON)

    def for_validation(self, training_prevalence: Sequence[float]) -> DynamicWeightedBCE:
        """The same loss with the training split's fixed ratio in place of each batch's.

        With the batch's own, the same predictions cost 1.05 to 1.55 depending on how they are batched.
        """
        if self.prevalence != "batch":
            return self
        return DynamicWeightedBCE(self.smoothing, "training", training_prevalence, self.name, self.reduction)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "smoothing": self.smoothing,
            "prevalence": self.prevalence,
            "training_prevalence": self.training_prevalence,
        }

    def _ratio(self, labels: Any) -> Any:
        """(F,) float32, or one number for all."""
        if self.prevalence == "batch":
            return global_batch_mean(labels)
        if self.training_prevalence is None:
            return ops.convert_to_tensor(0.5, dtype="float32")
        if len(self.training_prevalence) != labels.shape[-1]:
            raise ValueError(
                f"a training prevalence of {len(self.training_prevalence)} findings for labels of "
                f"{labels.shape[-1]}"
            )
        return ops.convert_to_tensor(self.training_prevalence, dtype="float32")


def _checked(training_prevalence: Sequence[float] | None) -> list[float]:
    if training_prevalence is None:
        raise ConfigError("prevalence `training` needs the training split's prevalence per finding")
    shares = [float(share) for share in training_prevalence]
    if not shares or not all(0 < share < 1 for share in shares):
        raise ConfigError(
            f"the training prevalence is {shares}; expected shares above 0 and below 1 "
            "(a finding that no training image shows can't be weighed)"
        )
    return shares
