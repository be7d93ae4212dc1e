"""Plain binary cross-entropy: the baseline that every weighting is compared with."""

from __future__ import annotations

from typing import Any

import keras

from engine.losses.logit_loss import LogitLoss


@keras.saving.register_keras_serializable(package="cxr_engine")
class BCE(LogitLoss):
    """-(y log p + (1 - y) log(1 - p)), mean over findings, per sample, from logits.

    Source: the maximum-likelihood loss of independent Bernoulli labels, e.g. Goodfellow et al. 2016,
    "Deep Learning", section 6.2.2.2.
    """

    def weights(self, labels: Any) -> tuple[float, float]:  # noqa: ARG002
        """1 and 1."""
        return 1.0, 1.0
