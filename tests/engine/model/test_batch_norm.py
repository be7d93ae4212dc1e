"""Fused batch normalisation gives what Keras's own gives, and loads in safe mode."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from engine.model.batch_norm import FusedBatchNormalization

# Of the outputs' own size; a half precision keeps as few bits in both.
TOLERANCES = {"float32": 1e-5, "mixed_bfloat16": 1e-2, "mixed_float16": 2e-3}


def _results(
    kind: type[keras.layers.BatchNormalization], policy: str, shape: tuple[int, ...]
) -> list[np.ndarray]:
    """Outputs in training, gradients, running statistics and outputs behind them."""
    images = tf.constant(np.random.default_rng(0).normal(2, 3, shape).astype(np.float32))
    layer = kind(momentum=0.9, epsilon=1.001e-5, dtype=policy)
    layer.build(shape)
    layer.gamma.assign(np.linspace(0.5, 1.5, shape[-1]))
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images, training=True)
        total = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 3)
    gradients = tape.gradient(total, [images, layer.gamma.value, layer.beta.value])
    statistics = [layer.moving_mean.value, layer.moving_variance.value]
    return [np.asarray(tf.cast(v, tf.float32)) for v in (outputs, *gradients, *statistics, layer(images))]


@pytest.mark.parametrize("policy", TOLERANCES)
@pytest.mark.parametrize("shape", [(4, 5, 6, 7), (8, 7)])
def test_outputs_gradients_and_running_statistics_are_those_of_keras(
    policy: str, shape: tuple[int, ...]
) -> None:
    own = _results(FusedBatchNormalization, policy, shape)
    for fused, plain in zip(own, _results(keras.layers.BatchNormalization, policy, shape), strict=True):
        np.testing.assert_allclose(fused, plain, atol=TOLERANCES[policy] * np.abs(plain).max())


def test_a_frozen_layer_runs_by_its_running_statistics_in_training_too() -> None:
    layer = FusedBatchNormalization()
    images = np.random.default_rng(0).normal(2, 3, (2, 3, 3, 4)).astype(np.float32)
    layer.build(images.shape)
    layer.trainable = False
    np.testing.assert_allclose(layer(images, training=True), layer(images, training=False))
    assert not np.any(layer.moving_mean.numpy())


def test_a_saved_model_loads_in_safe_mode(tmp_path) -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), FusedBatchNormalization()])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images = np.ones((2, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(loaded(images), model(images))
