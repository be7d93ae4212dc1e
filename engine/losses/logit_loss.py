"""What all losses share: float32 from logits, one value per sample, and the form that validates.

B = samples in the batch, F = findings. A loss per sample lets sample weights work, and starting from
logits needs no clipping: -log(sigmoid(z)) = softplus(-z), whose gradient doesn't vanish however wrong z is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


class LogitLoss(keras.losses.Loss):
    """A loss of (B, F) labels and (B, F) logits that returns (B,) float32, the mean over findings.

    A subclass writes `weights`, and `get_config` where it has settings.
    """

    def __init__(self, name: str | None = None, reduction: str = "sum_over_batch_size") -> None:
        # Not the policy's dtype: in half precision, sums over a batch lose the rare findings.
        super().__init__(name=name, reduction=reduction, dtype="float32")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each sample.

        Args:
            y_true: (B, F), 1 where the finding is reported, else 0; any dtype.
            y_pred: (B, F) logits, any floating dtype.

        Returns:
            (B,) float32: mean over findings of w+ y softplus(-z) + w- (1 - y) softplus(z).

        Raises:
            ValueError: labels and logits have different numbers of findings.
        """
        if y_true.shape[-1] != y_pred.shape[-1]:
            raise ValueError(f"labels of {y_true.shape[-1]} findings, logits of {y_pred.shape[-1]}")
        labels = ops.cast(y_true, "float32")
        logits = ops.cast(y_pred, "float32")
        positive, negative = self.weights(labels)
        losses = positive * labels * ops.softplus(-logits)
        losses = losses + negative * (1.0 - labels) * ops.softplus(logits)
        return ops.mean(losses, axis=-1)

    def weights(self, labels: Any) -> tuple[Any, Any]:
        """w+ and w-, each a number or (F,) float32, for a batch of (B, F) float32 labels."""
        raise NotImplementedError

    def for_validation(self, training_prevalence: Sequence[float]) -> LogitLoss:  # noqa: ARG002
        """The form whose mean over a data set doesn't depend on how the set is cut into batches.

        Args:
            training_prevalence: share of positives per finding in the training split, F numbers.
        """
        return self
