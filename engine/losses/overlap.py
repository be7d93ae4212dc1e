"""Losses of the overlap between what is predicted and what is there, over the batch.

All sums run over the global batch, finding by finding, and the loss is the mean over findings (macro): in
sums over all findings at once, the rare ones would drown. With e the errors and h the hits of a sample,
1 - overlap = sum(e) / (sum(h) + sum(e) + s), so a sample's share of it is B e / (sum(h) + sum(e) + s). All
denominators have 1e-7 added, which keeps them off 0.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import ops

from engine.losses.logit_loss import LogitLoss
from engine.losses.replicas import global_batch_mean, global_sums

EPSILON = 1e-7


class OverlapLoss(LogitLoss):
    """1 - (sum(h) + s) / (sum(h) + sum(e) + s); a subclass writes `errors_and_hits`."""

    smooth: float

    def elements(self, labels: Any, logits: Any) -> Any:
        """Each sample's share, B e / (sum(h) + sum(e) + s)."""
        errors, hits = self.errors_and_hits(labels, logits)
        covered, samples = global_sums(errors + hits, ops.ones_like(errors))
        return samples * errors / (covered + self.smooth + EPSILON)

    def errors_and_hits(self, labels: Any, logits: Any) -> tuple[Any, Any]:
        """The errors e and the hits h, each (B, F) float32."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="cxr_engine")
class Dice(OverlapLoss):
    """1 - (2 sum(p y) + s) / (sum(p^2) + sum(y^2) + s) per finding, sums over the global batch.

    Source: Milletari et al. 2016, "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image
    Segmentation", 3DV, with samples in place of voxels; s is an addition, so that a batch without the
    finding is defined.

    Args:
        smooth: s, at least 0.
    """

    settings = ("smooth",)

    def __init__(
        self, smooth: float = 1.0, name: str = "dice", reduction: str = "sum_over_batch_size"
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        self.smooth = float(smooth)

    def errors_and_hits(self, labels: Any, logits: Any) -> tuple[Any, Any]:
        """The errors (p - y)^2 and the hits 2 p y, which add up to p^2 + y^2."""
        p = ops.sigmoid(logits)
        return ops.square(p - labels), 2.0 * p * labels


@keras.saving.register_keras_serializable(package="cxr_engine")
class Tversky(OverlapLoss):
    """1 - (TP + s) / (TP + a FP + b FN + s) per finding, sums over the global batch.

    TP = sum(p y), FP = sum(p (1 - y)), FN = sum((1 - p) y).

    Source: Salehi et al. 2017, "Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional
    Deep Networks", MLMI; a = 0.3, b = 0.7 there. s is an addition, as in `Dice`.

    Args:
        false_positive_weight: a, at least 0.
        false_negative_weight: b, at least 0.
        smooth: s, at least 0.
    """

    settings: ClassVar[tuple[str, ...]] = ("false_positive_weight", "false_negative_weight", "smooth")

    def __init__(
        self,
        false_positive_weight: float = 0.3,
        false_negative_weight: float = 0.7,
        smooth: float = 1.0,
        name: str = "tversky",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        self.false_positive_weight = float(false_positive_weight)
        self.false_negative_weight = float(false_negative_weight)
        self.smooth = float(smooth)

    def errors_and_hits(self, labels: Any, logits: Any) -> tuple[Any, Any]:
        """The weighted errors a p (1 - y) + b (1 - p) y, and the hits p y."""
        p = ops.sigmoid(logits)
        errors = self.false_positive_weight * p * (1.0 - labels)
        return errors + self.false_negative_weight * ops.sigmoid(-logits) * labels, p * labels


@keras.saving.register_keras_serializable(package="cxr_engine")
class FocalTversky(Tversky):
    """T^(1 / gamma) per finding, T the Tversky loss over the global batch.

    Source: Abraham and Khan 2019, "A Novel Focal Tversky Loss Function With Improved Attention U-Net for
    Lesion Segmentation", ISBI; gamma = 4/3, a = 0.3, b = 0.7 there.

    Args:
        false_positive_weight: a, at least 0.
        false_negative_weight: b, at least 0.
        smooth: s, at least 0.
        gamma: 1 to 3.
    """

    settings = (*Tversky.settings, "gamma")

    def __init__(
        self,
        false_positive_weight: float = 0.3,
        false_negative_weight: float = 0.7,
        smooth: float = 1.0,
        gamma: float = 4 / 3,
        name: str = "focal_tversky",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(false_positive_weight, false_negative_weight, smooth, name, reduction)
        self.gamma = float(gamma)

    def elements(self, labels: Any, logits: Any) -> Any:
        """Each sample's share: T's, times T^(1 / gamma - 1)."""
        shares = super().elements(labels, logits)
        # Kept off 0, where a root has no derivative.
        loss = ops.maximum(global_batch_mean(shares), EPSILON)
        return shares * ops.power(loss, 1.0 / self.gamma - 1.0)


@keras.saving.register_keras_serializable(package="cxr_engine")
class MacroF1(Tversky):
    """1 - 2 TP / (2 TP + FP + FN) per finding, sums of probabilities over the global batch: 1 - soft F1.

    That is the Tversky loss at one half each, unsmoothed. A finding that the batch doesn't show costs 1, with
    next to no gradient, until its probabilities are 0.

    Source: Bénédict et al. 2022, "sigmoidF1: A Smooth F1 Score Surrogate Loss for Multilabel
    Classification", TMLR, with its sigmoid's slope 1 and offset 0, and per finding.
    """

    settings = ()

    def __init__(self, name: str = "macro_f1", reduction: str = "sum_over_batch_size") -> None:
        super().__init__(0.5, 0.5, 0.0, name, reduction)
