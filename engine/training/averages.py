"""The running mean of the weights: put in their place while a model is judged or saved, then taken out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import numpy as np

from engine.training.optimizers import innermost


@contextlib.contextmanager
def averaged_weights(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Have a model hold the optimiser's running means of its weights while the block runs, if there are any.

    Args:
        model: the one that trains.
        optimizer: of all its trainable weights.
    """
    inner = innermost(optimizer)
    # Before the first update the mean is of nothing yet.
    if not inner.use_ema or not int(keras.ops.convert_to_numpy(inner.iterations)):
        yield
        return
    weights = model.trainable_variables
    kept = [np.array(keras.ops.convert_to_numpy(weight)) for weight in weights]
    try:
        inner.finalize_variable_values(weights)
        yield
    finally:
        for weight, value in zip(weights, kept, strict=True):
            weight.assign(value)
