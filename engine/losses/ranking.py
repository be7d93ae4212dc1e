"""Losses of the order of a batch's samples: every finding's positives above its negatives, as AUROC asks.

Pairs and means are of the global batch, finding by finding; a finding that no sample shows, or each, has no
pairs and costs 0. The loss is the mean over all findings, so its scale doesn't depend on which have pairs.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from engine.losses.logit_loss import LogitLoss
from engine.losses.replicas import global_batch, global_sums

BLOCK_PAIRS = 2**24  # compared at once: 64 MiB of float32, so that a whole validation set fits


@keras.saving.register_keras_serializable(package="cxr_engine")
class PairwiseRanking(LogitLoss):
    """Mean over pairs of a positive i and a negative j of log(1 + exp(z_j - z_i)), per finding.

    Half of a pair's loss is its positive's share, half its negative's.

    Source: Burges et al. 2005, "Learning to Rank using Gradient Descent" (RankNet), ICML; that it is
    consistent with AUROC: Gao and Zhou 2015, "On the Consistency of AUC Pairwise Optimization", IJCAI.
    """

    def __init__(self, name: str = "pairwise_ranking", reduction: str = "sum_over_batch_size") -> None:
        super().__init__(name=name, reduction=reduction)

    def elements(self, labels: Any, logits: Any) -> Any:
        """Each sample's share, B / (2 n+ n-) times the sum over its pairs."""
        all_labels, all_logits = global_batch(labels, logits)
        positives = ops.sum(all_labels, axis=0)
        negatives = ops.sum(1.0 - all_labels, axis=0)
        sums = [_pair_losses(labels[rows], logits[rows], all_labels, all_logits) for rows in _blocks(labels)]
        # Where there are no pairs, the sums are 0.
        pairs = ops.maximum(positives * negatives, 1.0)
        return ops.concatenate(sums) * (positives + negatives) / (2.0 * pairs)


def _blocks(labels: Any) -> list[slice]:
    """Cut a large batch of known size into rows that can be compared with all at once."""
    samples, findings = labels.shape
    if samples is None:
        return [slice(None)]
    rows = max(1, BLOCK_PAIRS // max(1, samples * findings))
    return [slice(start, start + rows) for start in range(0, max(1, samples), rows)]


def _pair_losses(labels: Any, logits: Any, all_labels: Any, all_logits: Any) -> Any:
    """Sum for each of (b, F) samples over its pairs among the (B, F): (b, F) float32."""
    own, other = labels[:, None], all_labels[None]
    is_pair = own * (1.0 - other) + (1.0 - own) * other
    wrong_by = (2.0 * own - 1.0) * (all_logits[None] - logits[:, None])
    return ops.sum(is_pair * ops.softplus(wrong_by), axis=1)


@keras.saving.register_keras_serializable(package="cxr_engine")
class AUCMargin(LogitLoss):
    """min over a, b, max over c >= 0 of E+[(p - a)^2] + E-[(p - b)^2] + 2 c (m + E-[p] - E+[p]) - c^2.

    E+ and E- are means over the positives and negatives of a finding, and m the margin. The source learns
    a, b and c beside the network; here they are the optimum in closed form over the global batch, so that
    the loss has no state: a = E+[p], b = E-[p], c = max(0, m + b - a), which leaves the two variances + c^2.

    Source: Yuan et al. 2021, "Large-scale Robust Deep AUC Maximization: A New Surrogate Loss and Empirical
    Studies on Medical Image Classification", ICCV; m = 1 there.

    Args:
        margin: m, in [0, 1].
    """

    settings = ("margin",)

    def __init__(
        self, margin: float = 1.0, name: str = "auc_margin", reduction: str = "sum_over_batch_size"
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        self.margin = float(margin)

    def elements(self, labels: Any, logits: Any) -> Any:
        """Each sample's share: B / n+ ((p - a)^2 + c (m/2 - p)), or B / n- ((p - b)^2 + c (m/2 + p))."""
        p, absent = ops.sigmoid(logits), 1.0 - labels
        positives, negatives, positive_sum, negative_sum = global_sums(labels, absent, labels * p, absent * p)
        a = positive_sum / ops.maximum(positives, 1.0)
        b = negative_sum / ops.maximum(negatives, 1.0)
        c = ops.relu(self.margin + b - a)
        of_positive = (ops.square(p - a) + c * (0.5 * self.margin - p)) / ops.maximum(positives, 1.0)
        of_negative = (ops.square(p - b) + c * (0.5 * self.margin + p)) / ops.maximum(negatives, 1.0)
        has_pairs = ops.cast(positives * negatives > 0, "float32")
        samples = positives + negatives
        return has_pairs * samples * (labels * of_positive + absent * of_negative)
