"""Small networks for tests: 64 x 64 pictures, reduced to 32 for a DenseNet."""

from __future__ import annotations

import keras

from engine.config.model import DenseNetCbamConfig, GuideCnnConfig, ModelConfig
from engine.model import build_model

DENSENET = DenseNetCbamConfig(
    name="densenet121_cbam",
    weights="none",
    image_side_px=32,
    normalisation="imagenet",
    dropout=0.3,
    head_units=(128, 64),
    l2=0.001,
    cbam_reduction=2,
    batch_norm_momentum=0.99,
    frozen=(),
)
GUIDE = GuideCnnConfig(
    name="guide_cnn",
    weights="none",
    image_side_px=64,
    normalisation="data_set",
    dropout=0.2,
    filters=(4, 8),
    kernel_px=7,
)


def build(config: ModelConfig, *, side_px: int = 64, channels: int = 1, findings: int = 14) -> keras.Model:
    """The model for pictures of a side, of a data set with a mean of 130 and a deviation of 60."""
    return build_model(
        config,
        stored_side_px=side_px,
        stored_channels=channels,
        mean_and_deviation=(130.0, 60.0),
        findings=findings,
    )
