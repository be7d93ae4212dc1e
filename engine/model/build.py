"""Builds the network that a config names, from stored uint8 pictures to float32 logits.

Both ends are the same for all of them: preprocessing inside the model, so that a saved one takes what the
records hold, and logits without a sigmoid. A float16 sigmoid rounds 12 to 1.0, and losses that start from
logits keep the gradient of confident mistakes.
"""

from __future__ import annotations

from typing import Any

import keras

from engine.config.model import DenseNetCbamConfig, GuideCnnConfig, ModelConfig
from engine.model import densenet_cbam, guide_cnn
from engine.model.preprocess import Preprocess
from engine.model.weights import NO_WEIGHTS, load_weights
from records.errors import ConfigError


def build_model(
    config: ModelConfig,
    *,
    stored_side_px: int,
    stored_channels: int,
    mean_and_deviation: tuple[float, float],
    findings: int,
) -> keras.Model:
    """Build the model under Keras's current dtype policy.

    B = pictures, S = `stored_side_px`, C = `stored_channels`, F = `findings`. At the article's settings
    (densenet121_cbam, 320 px, 14 findings, head (128, 64), reduction 2) it has 8,228,081 parameters,
    7,037,504 of them in the backbone; at the guide's (guide_cnn, four 7 x 7 convolutions) 530,638.

    Args:
        config: which network; weights are loaded if it names any, see `engine.model.weights.load_weights`.
        stored_side_px: side of the pictures that the model is given, at least `config.image_side_px`.
        stored_channels: 1 (grey) or 3.
        mean_and_deviation: of the training pictures' grey levels, 0 to 255; pictures are normalised by them
            where `config.normalisation` is `data_set`.
        findings: outputs.

    Returns:
        A model from (B, S, S, C) uint8, 0 is black, to (B, F) float32 logits, from a layer `logits`.

    Raises:
        ConfigError: the pictures don't fit the config, or no file stands at the path of its weights.
        RunError: the weights can't be fetched or belong to another architecture.
    """
    _check(config, stored_side_px, stored_channels, findings)
    images = keras.Input((stored_side_px, stored_side_px, stored_channels), dtype="uint8", name="image")
    mean, deviation = mean_and_deviation if config.normalisation == "data_set" else (None, None)
    features = _features(images, config, mean, deviation)
    logits = keras.layers.Dense(findings, dtype="float32", name="logits")(features)
    model = keras.Model(images, logits, name=config.name)
    if config.weights != NO_WEIGHTS:
        load_weights(model, config.weights)
    return model


def _features(images: Any, config: ModelConfig, mean: float | None, deviation: float | None) -> Any:
    """(B, S, S, C) uint8 -> (B, U), U as the network has it."""
    if isinstance(config, DenseNetCbamConfig):
        pixels = Preprocess(config.image_side_px, mean, deviation, name="preprocess")(images)
        return densenet_cbam.features(pixels, config)
    if isinstance(config, GuideCnnConfig):
        pixels = Preprocess(config.image_side_px, mean, deviation, channels=1, name="preprocess")(images)
        return guide_cnn.features(pixels, config)
    raise TypeError(f"no network for a {type(config).__name__}")


def _check(config: ModelConfig, stored_side_px: int, stored_channels: int, findings: int) -> None:
    if stored_channels not in (1, 3):
        raise ConfigError(f"the records hold {stored_channels} channels; the model takes 1 or 3")
    if config.image_side_px > stored_side_px:
        raise ConfigError(
            f"model.image_side_px is {config.image_side_px}; expected at most the stored {stored_side_px}"
        )
    if findings < 1:
        raise ConfigError(f"the number of findings is {findings}; expected at least 1")
