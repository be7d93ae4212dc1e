"""Losses of single labels beyond weighted cross-entropy: smoothed, with a polynomial term, or a hinge."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from engine.losses.logit_loss import LogitLoss
from engine.losses.weighted_bce import BCE


@keras.saving.register_keras_serializable(package="cxr_engine")
class SmoothedBCE(BCE):
    """-(t log p + (1 - t) log(1 - p)), t = y (1 - a) + a / 2: cross-entropy with smoothed labels.

    Source: Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer Vision", CVPR, section 7,
    for the two classes of each finding; a = 0.1 there.

    Args:
        smoothing: a, in [0, 1].
    """

    settings = ("smoothing",)

    def __init__(
        self, smoothing: float = 0.1, name: str = "smoothed_bce", reduction: str = "sum_over_batch_size"
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        self.smoothing = float(smoothing)

    def elements(self, labels: Any, logits: Any) -> Any:
        """Cross-entropy of t."""
        return super().elements(labels * (1.0 - self.smoothing) + 0.5 * self.smoothing, logits)


@keras.saving.register_keras_serializable(package="cxr_engine")
class Poly1(BCE):
    """-log p_t + e (1 - p_t), p_t = p where y = 1, else 1 - p.

    Source: Leng et al. 2022, "PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions",
    ICLR; e = 2 for its image classification, from a search between -1 and 8.

    Args:
        epsilon: e, at least -1.
    """

    settings = ("epsilon",)

    def __init__(
        self, epsilon: float = 2.0, name: str = "poly1", reduction: str = "sum_over_batch_size"
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        self.epsilon = float(epsilon)

    def elements(self, labels: Any, logits: Any) -> Any:
        """Cross-entropy with the first coefficient raised by e."""
        missed = labels * ops.sigmoid(-logits) + (1.0 - labels) * ops.sigmoid(logits)
        return super().elements(labels, logits) + self.epsilon * missed


@keras.saving.register_keras_serializable(package="cxr_engine")
class SquaredHinge(LogitLoss):
    """max(0, 1 - (2y - 1) z)^2.

    Source: Tang 2013, "Deep Learning using Linear Support Vector Machines", ICML workshop on challenges in
    representation learning: the L2-SVM's loss on a network's outputs.
    """

    def __init__(self, name: str = "squared_hinge", reduction: str = "sum_over_batch_size") -> None:
        super().__init__(name=name, reduction=reduction)

    def elements(self, labels: Any, logits: Any) -> Any:
        """The formula."""
        return ops.square(ops.relu(1.0 - (2.0 * labels - 1.0) * logits))
