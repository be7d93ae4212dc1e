"""The optimisers that a config names: kinds, clipping, running means and loss scaling."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from engine.config.optimizer import AdamConfig, AdamWConfig, SGDConfig
from engine.training.optimizers import build_optimizer, innermost, loss_scale

ADAM = AdamConfig("adam", 0.01, 0.0, 0.0)
GRADIENTS = [np.array([3.0, -4.0]), np.array([0.5, 2.0]), np.array([-1.0, 0.0])]


def _weights_after(settings, gradients=GRADIENTS) -> np.ndarray:
    weight = keras.Variable([1.0, -2.0], name="weight")
    optimizer = build_optimizer(settings, "float32")
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [weight])
    return weight.numpy()


def _adam(weight_decay: float = 0.0, rate: float = 0.01) -> np.ndarray:
    """Algorithm 1 of the Adam paper, with the decay of AdamW's, in float64."""
    weight, mean, square = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for step, gradient in enumerate(GRADIENTS, start=1):
        weight -= rate * weight_decay * weight
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        weight -= rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-7)
    return weight


def test_adam_and_adamw_move_weights_as_their_papers_say():
    np.testing.assert_allclose(_weights_after(ADAM), _adam(), rtol=1e-5)
    decayed = AdamWConfig("adamw", 0.01, 0.0, 0.0, 0.1)
    np.testing.assert_allclose(_weights_after(decayed), _adam(0.1), rtol=1e-5)
    assert not np.allclose(_adam(), _adam(0.1), rtol=1e-4)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_has_the_momentum_that_the_config_says(nesterov):
    weight, velocity = np.array([1.0, -2.0]), np.zeros(2)
    for gradient in GRADIENTS:
        velocity = 0.9 * velocity - 0.01 * gradient
        weight += 0.9 * velocity - 0.01 * gradient if nesterov else velocity
    found = _weights_after(SGDConfig("sgd", 0.01, 0.0, 0.0, 0.9, nesterov))
    np.testing.assert_allclose(found, weight, rtol=1e-5)


def test_the_whole_gradient_is_scaled_down_to_the_norm_and_never_up():
    settings = SGDConfig("sgd", 1.0, 2.5, 0.0, 0.0, False)
    moved = _weights_after(settings, [np.array([3.0, -4.0])])
    np.testing.assert_allclose(moved, [1.0 - 1.5, -2.0 + 2.0], rtol=1e-6)
    moved = _weights_after(settings, [np.array([0.3, -0.4])])
    np.testing.assert_allclose(moved, [0.7, -1.6], rtol=1e-6)


def test_only_mixed_float16_scales_the_loss():
    plain = build_optimizer(ADAM, "mixed_bfloat16")
    assert innermost(plain) is plain
    assert loss_scale(plain) is None
    scaled = build_optimizer(ADAM, "mixed_float16")
    scaled.build([keras.Variable([1.0])])
    assert loss_scale(scaled) == 2.0**15
    assert isinstance(innermost(scaled), keras.optimizers.Adam)
