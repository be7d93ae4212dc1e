"""Binary cross-entropy with fixed weights for positives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from engine.losses.logit_loss import LogitLoss
from records.errors import ConfigError


@keras.saving.register_keras_serializable(package="cxr_engine")
class WeightedBCE(LogitLoss):
    """-(pos_weight y log p + (1 - y) log(1 - p)), mean over findings, per sample, from logits.

    Source: `WeightedBinaryCrossentropy` of Fisher (2025), which starts from probabilities.

    Args:
        pos_weight: one positive number for all findings, or one each.

    Raises:
        ConfigError: a weight is not a positive, finite number.
    """

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
        """`pos_weight` and 1; raises ValueError when it has neither one number nor F."""
        if len(self.pos_weight) not in (1, labels.shape[-1]):
            raise ValueError(f"{len(self.pos_weight)} positive weights for {labels.shape[-1]} findings")
        return ops.convert_to_tensor(self.pos_weight, dtype="float32"), 1.0

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "pos_weight": list(self.pos_weight)}
