"""The running mean of the weights, against NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from engine.config.optimizer import SGDConfig
from engine.training.averages import averaged_weights
from engine.training.optimizers import build_optimizer


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_the_mean_stands_in_the_model_within_the_block_alone(precision):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    (weight,) = model.trainable_variables
    optimizer = build_optimizer(SGDConfig("sgd", 0.1, 0.0, 0.75, 0.0, False), precision)
    optimizer.build([weight])
    mean = None
    for gradient in (1.0, -3.0, 2.0):
        scaled = keras.ops.convert_to_tensor([[gradient * (2.0**15 if "float16" in precision else 1)]])
        optimizer.apply([scaled], [weight])
        mean = weight.numpy() if mean is None else 0.75 * mean + 0.25 * weight.numpy()
    raw = weight.numpy()
    assert not np.allclose(raw, mean)
    with averaged_weights(model, optimizer):
        np.testing.assert_allclose(weight.numpy(), mean, rtol=1e-6)
    np.testing.assert_array_equal(weight.numpy(), raw)
    with pytest.raises(KeyboardInterrupt), averaged_weights(model, optimizer):
        raise KeyboardInterrupt
    np.testing.assert_array_equal(weight.numpy(), raw)


def test_without_one_the_weights_themselves_stand():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    optimizer = build_optimizer(SGDConfig("sgd", 0.1, 0.0, 0.0, 0.0, False), "float32")
    optimizer.build(model.trainable_variables)
    before = model.get_weights()[0]
    with averaged_weights(model, optimizer):
        np.testing.assert_array_equal(model.get_weights()[0], before)
