"""All that a run goes on from, as arrays: weights, optimiser, random generators, a loss's own state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from engine.training.checkpoints import Arrays
from records.errors import RunError


def variables(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, others: Sequence[keras.Variable] = ()
) -> dict[str, keras.Variable]:
    """Return everything that steps change, by name.

    Args:
        model: with the state of its dropout's random generators among its variables.
        optimizer: built; with the loss scale and the running mean of the weights, if it has them.
        others: such as a loss's running prevalence.
    """
    parts = {"model": model.variables, "optimizer": optimizer.variables, "loss": others}
    return {
        f"{part}/{number:04d}/{variable.path}": variable
        for part, held in parts.items()
        for number, variable in enumerate(held)
    }


def take(held: Mapping[str, keras.Variable]) -> Arrays:
    """Copy the values to the host's memory; of replicas, which hold the same, the first one's."""
    return {name: np.array(keras.ops.convert_to_numpy(variable)) for name, variable in held.items()}


def put_back(held: Mapping[str, keras.Variable], arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Give the variables the values of a snapshot.

    Raises:
        RunError: it is of another model or optimiser; nothing was changed.
    """
    if strange := sorted(held.keys() ^ arrays.keys()):
        raise RunError(
            f"{source}: a checkpoint of another model or optimiser: {strange[0]} is "
            f"{'not in this run' if strange[0] in arrays else 'not in it'}; resume with the config and the "
            "versions that the run began with"
        )
    for name, variable in held.items():
        if tuple(variable.shape) != arrays[name].shape:
            raise RunError(
                f"{source}: a checkpoint of another model: {name} is of {arrays[name].shape} there, of "
                f"{tuple(variable.shape)} here; resume with the config that the run began with"
            )
    for name, variable in held.items():
        variable.assign(arrays[name])
