"""DenseNet121 with CBAM attention, as Fisher (2025) builds it, from uint8 pictures to logits.

Two things differ from the article's code on purpose. The model ends in float32 logits, because a float16
sigmoid rounds 12 to 1.0 and losses that start from logits keep the gradient of confident mistakes. And
attention and preprocessing are registered layers, because `Lambda` layers don't load in safe mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from engine.model.cbam import ChannelAttention, SpatialAttention
from engine.model.preprocess import DenseNetPreprocess
from engine.model.weights import BACKBONE, NO_WEIGHTS, load_weights
from records.errors import ConfigError

# keras.applications builds DenseNets for no less: five halvings would leave no pixel.
MIN_SIDE_PX = 32


def build_densenet121_cbam(
    *,
    stored_side_px: int,
    stored_channels: int,
    image_side_px: int,
    findings: int,
    head_units: Sequence[int] = (128, 64),
    dropout: float,
    l2: float,
    cbam_reduction: int,
    batch_norm_momentum: float = 0.99,
    mean_and_deviation: tuple[float, float] | None = None,
    weights: str | None,
) -> keras.Model:
    """Build the model under Keras's current dtype policy, every layer trainable.

    B = pictures, S = `stored_side_px`, C = `stored_channels`, F = `findings`. At the article's settings
    (320 px, 14 findings, dropout 0.3, l2 0.001, reduction 2) it has 8,228,081 parameters, 7,037,504 of
    them in the backbone.

    Args:
        stored_side_px: side of the pictures that the model is given.
        stored_channels: 1 (grey) or 3.
        image_side_px: side that the backbone sees, from 32 to `stored_side_px`.
        findings: outputs.
        head_units: widths of the head's hidden layers.
        dropout: share of units dropped after each hidden layer, in [0, 1).
        l2: L2 penalty on the kernels of the hidden layers; the output layer has none.
        cbam_reduction: narrowing of the channel attention's MLP; it must divide 1024.
        batch_norm_momentum: of the backbone's running statistics; 0.99 needs some hundred steps to forget
            where they began, so a run of few steps wants less.
        mean_and_deviation: grey levels, 0 to 255, that pictures are normalised by; None: ImageNet's.
        weights: None or `none`, `imagenet`, or a path; see `engine.model.weights.load_weights`.

    Returns:
        A model from (B, S, S, C) uint8, 0 is black, to (B, F) float32 logits, from a layer `logits`.

    Raises:
        ConfigError: a setting is out of its range, or no file stands at the path of `weights`.
        RunError: the weights can't be fetched or belong to another architecture.
    """
    _check_sides(stored_side_px, stored_channels, image_side_px)
    _check_head(findings, head_units, dropout, l2, cbam_reduction)
    images = keras.Input((stored_side_px, stored_side_px, stored_channels), dtype="uint8", name="image")
    mean, deviation = mean_and_deviation or (None, None)
    x = DenseNetPreprocess(image_side_px, mean, deviation, name="preprocess")(images)
    x = _backbone(image_side_px, batch_norm_momentum)(x)
    x = ChannelAttention(cbam_reduction, name="channel_attention")(x)
    x = SpatialAttention(name="spatial_attention")(x)
    logits = _head(x, findings=findings, head_units=head_units, dropout=dropout, l2=l2)
    model = keras.Model(images, logits, name="densenet121_cbam")
    if weights not in (None, NO_WEIGHTS):
        load_weights(model, weights)
    return model


def probabilities(logits: Any) -> np.ndarray:
    """Turn logits of any shape into float32 probabilities of the same shape.

    Near 1, float32 holds few of them apart: from a logit of about 17 on they are all 1.0. So rank by
    logits where ties would matter.
    """
    wide = np.asarray(logits, np.float64)
    # exp(-softplus(-x)) is the sigmoid that overflows nowhere.
    return np.exp(-np.logaddexp(0.0, -wide)).astype(np.float32)


def _backbone(image_side_px: int, batch_norm_momentum: float) -> keras.Model:
    backbone = keras.applications.DenseNet121(
        include_top=False, weights=None, input_shape=(image_side_px, image_side_px, 3), name=BACKBONE
    )
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = batch_norm_momentum
    return backbone


def _head(features: Any, *, findings: int, head_units: Sequence[int], dropout: float, l2: float) -> Any:
    """(B, H, W, 1024) features -> (B, F) float32 logits."""
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(features)
    for position, units in enumerate(head_units, start=1):
        penalty = keras.regularizers.L2(l2) if l2 else None
        x = keras.layers.Dense(
            units, activation="relu", kernel_regularizer=penalty, name=f"head_dense_{position}"
        )(x)
        x = keras.layers.Dropout(dropout, name=f"head_dropout_{position}")(x)
    return keras.layers.Dense(findings, dtype="float32", name="logits")(x)


def _check_sides(stored_side_px: int, stored_channels: int, image_side_px: int) -> None:
    if stored_channels not in (1, 3):
        raise ConfigError(f"the records hold {stored_channels} channels; the model takes 1 or 3")
    if not MIN_SIDE_PX <= image_side_px <= stored_side_px:
        raise ConfigError(
            f"the image side is {image_side_px} px; expected {MIN_SIDE_PX} px to the stored "
            f"{stored_side_px} px"
        )


def _check_head(findings: int, head_units: Sequence[int], dropout: float, l2: float, reduction: int) -> None:
    if findings < 1:
        raise ConfigError(f"the number of findings is {findings}; expected at least 1")
    if any(units < 1 for units in head_units):
        raise ConfigError(f"the head's units are {tuple(head_units)}; expected positive numbers")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout is {dropout}; expected at least 0 and below 1")
    if not l2 >= 0:
        raise ConfigError(f"l2 is {l2}; expected 0 or more")
    if reduction < 1 or 1024 % reduction:
        raise ConfigError(f"the CBAM reduction is {reduction}; expected a divisor of 1024")
