"""What all losses share: float32 from logits, one value per sample, and the form that validates.

B = samples in the batch, F = findings. A loss per sample lets sample weights work, and starting from
logits needs no clipping: -log(sigmoid(z)) = softplus(-z), whose gradient doesn't vanish however wrong z is.

Some losses are of a whole batch: overlaps and rankings. They too give a value per sample, its share, so that
the mean over the batch is the batch's loss; a sample's weight weighs its share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops


class LogitLoss(keras.losses.Loss):
    """A loss of (B, F) labels and (B, F) logits that returns (B,) float32, the mean over findings.

    A subclass writes `elements` and names its settings, whose ranges `engine.config.loss` checks.

    Attributes:
        settings: the constructor's arguments that are kept under their own names, to be saved with the loss.
    """

    settings: ClassVar[tuple[str, ...]] = ()

    def __init__(self, name: str | None = None, reduction: str = "sum_over_batch_size") -> None:
        # Not the policy's dtype: in half precision, sums over a batch lose the rare findings.
        super().__init__(name=name, reduction=reduction, dtype="float32")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each sample.

        Args:
            y_true: (B, F), 1 where the finding is reported, else 0; any dtype.
            y_pred: (B, F) logits, any floating dtype.

        Returns:
            (B,) float32.

        Raises:
            ValueError: labels and logits have different numbers of findings.
        """
        if y_true.shape[-1] != y_pred.shape[-1]:
            raise ValueError(f"labels of {y_true.shape[-1]} findings, logits of {y_pred.shape[-1]}")
        return ops.mean(self.elements(ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")), axis=-1)

    def elements(self, labels: Any, logits: Any) -> Any:
        """(B, F) float32: what each finding of each sample costs, for (B, F) float32 labels and logits."""
        raise NotImplementedError

    def for_validation(self, training_prevalence: Sequence[float]) -> LogitLoss:  # noqa: ARG002
        """The form that validates: nothing in it depends on how the training data are batched.

        A loss that is a sum over samples then has the same mean however a set is cut. One of a whole batch
        (overlap, ranking) has not: it is the whole set's when it is called once with all of it, as
        `of_data_set` does.

        Args:
            training_prevalence: share of positives per finding in the training split, F numbers.
        """
        return self

    def of_data_set(self, labels: np.ndarray, logits: np.ndarray) -> float:
        """The loss of a whole set, of (N, F) labels and logits at once.

        Call it on what `for_validation` returns.
        """
        per_sample = ops.convert_to_numpy(self.call(np.asarray(labels, np.float32), logits))
        return float(per_sample.mean(dtype=np.float64))

    @property
    def variables(self) -> list[keras.Variable]:
        """What the loss learns while it trains, and a checkpoint keeps; most have none."""
        return []

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), **{key: getattr(self, key) for key in self.settings}}
