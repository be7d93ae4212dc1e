"""A DenseNet with CBAM attention, as Fisher (2025) builds it on DenseNet121.

One thing differs from the article's code on purpose: attention and preprocessing are registered layers,
because `Lambda` layers don't load in safe mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from engine.config.model import DenseNetCbamConfig
from engine.model.batch_norm import FusedBatchNormalization
from engine.model.cbam import ChannelAttention, SpatialAttention

BACKBONES = {
    "densenet121": keras.applications.DenseNet121,
    "densenet169": keras.applications.DenseNet169,
    "densenet201": keras.applications.DenseNet201,
}
# How the names of a stage's layers begin in keras.applications, its transition included.
STAGE_PREFIXES = {
    "stem": ("conv1_",),
    "conv2": ("conv2_", "pool2_"),
    "conv3": ("conv3_", "pool3_"),
    "conv4": ("conv4_", "pool4_"),
    "conv5": ("conv5_", "bn"),
}


def features(pixels: Any, config: DenseNetCbamConfig) -> Any:
    """Turn (B, T, T, 3) normalised pictures into (B, U) features.

    B = pictures, T = `config.image_side_px`, U = the last of `config.head_units`, or the backbone's channels
    where there are none.
    """
    x = _backbone(config)(pixels)
    x = ChannelAttention(config.cbam_reduction, name="channel_attention")(x)
    x = SpatialAttention(name="spatial_attention")(x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    for position, units in enumerate(config.head_units, start=1):
        penalty = keras.regularizers.L2(config.l2) if config.l2 else None
        dense = keras.layers.Dense(
            units, activation="relu", kernel_regularizer=penalty, name=f"head_dense_{position}"
        )
        x = keras.layers.Dropout(config.dropout, name=f"head_dropout_{position}")(dense(x))
    return x


def _backbone(config: DenseNetCbamConfig) -> keras.Model:
    side_px = config.image_side_px
    backbone = BACKBONES[config.backbone](
        include_top=False, weights=None, input_shape=(side_px, side_px, 3), name=config.backbone
    )
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # In place: made anew, the network would be initialised twice.
            layer.__class__ = FusedBatchNormalization
            layer.momentum = config.batch_norm_momentum
    freeze(backbone, config.frozen)
    return backbone


def freeze(backbone: keras.Model, stages: Sequence[str]) -> None:
    """Keep training from changing some stages of a DenseNet; it is changed in place, and saved so.

    Batch normalisation that is frozen runs by its running statistics, in training too.

    Args:
        backbone: of keras.applications.
        stages: keys of `STAGE_PREFIXES`.
    """
    prefixes = tuple(prefix for stage in stages for prefix in STAGE_PREFIXES[stage])
    for layer in backbone.layers:
        if layer.name.startswith(prefixes):
            layer.trainable = False
