"""Probabilities of logits."""

import keras
import numpy as np

from engine.model import probabilities


def test_probabilities_are_float32_sigmoids_that_never_overflow():
    logits = np.array([-1000, -50, -1, 0, 12, 1000], np.float32)
    out = probabilities(logits)
    assert out.dtype == np.float32
    np.testing.assert_allclose(
        out, [0, np.exp(-50.0), 1 / (1 + np.e), 0.5, 1 / (1 + np.exp(-12.0)), 1], rtol=1e-6
    )
    assert probabilities(np.float16([[12]]))[0, 0] < 1
    assert probabilities(keras.ops.zeros((2, 3))).shape == (2, 3)
