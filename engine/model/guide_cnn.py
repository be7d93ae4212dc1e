"""The plain network of the class-imbalance guide: convolutions, poolings and batch normalisation in turn."""

from __future__ import annotations

from typing import Any

import keras

from engine.config.model import GuideCnnConfig
from engine.model.batch_norm import FusedBatchNormalization


def features(pixels: Any, config: GuideCnnConfig) -> Any:
    """Turn (B, T, T, 1) normalised pictures into (B, U) features.

    B = pictures, T = `config.image_side_px`, U = the last of `config.filters`.
    """
    x = pixels
    for position, filters in enumerate(config.filters, start=1):
        x = keras.layers.Conv2D(filters, config.kernel_px, activation="relu", name=f"conv_{position}")(x)
        x = keras.layers.MaxPooling2D(2, name=f"pool_{position}")(x)
        x = FusedBatchNormalization(name=f"norm_{position}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    return keras.layers.Dropout(config.dropout, name="head_dropout")(x)
