"""What a saved model gives on Keras's JAX back end; test_second_back_end runs this in a process of its own.

Usage: on_jax.py FOLDER, which holds
    inputs.npz: images (B, S, S, C) uint8 and labels (B, F) float32.
    losses.json: serialised losses.
    NAME.keras: models without dropout.
It writes NAME.npz: the training pass's `logits`, the running statistics after it as `statistics_N`, the
losses' values as `losses`, and the gradient of loss L for trainable variable N as `gradient_L_N`.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np

import engine.losses
import engine.model  # noqa: F401 - registers the layers


def results(model: keras.Model, losses: list[keras.losses.Loss], images: Any, labels: Any) -> dict[str, Any]:
    """One pass forward, and for each loss one back."""
    fixed = [variable.value for variable in model.non_trainable_variables]

    @jax.jit
    def forward(trained: list[Any]) -> tuple[Any, list[Any]]:
        return model.stateless_call(trained, fixed, images, training=True)

    trained = [variable.value for variable in model.trainable_variables]
    logits, pull_back, statistics = jax.vjp(forward, trained, has_aux=True)
    arrays = {"logits": logits, **{f"statistics_{n}": array for n, array in enumerate(statistics)}}
    values = []
    for number, loss in enumerate(losses):
        value, from_loss = jax.value_and_grad(lambda found, loss=loss: loss(labels, found))(logits)
        values.append(value)
        (gradient,) = pull_back(from_loss)
        arrays |= {f"gradient_{number}_{n}": array for n, array in enumerate(gradient)}
    return {**arrays, "losses": np.array(values)}


def main(folder: Path) -> None:
    # Ours alone; what other packages say of each other changes with their versions.
    warnings.filterwarnings("error", module=r"engine\.")
    assert keras.backend.backend() == "jax"
    inputs = np.load(folder / "inputs.npz")
    losses = [
        keras.saving.deserialize_keras_object(loss)
        for loss in json.loads((folder / "losses.json").read_text())
    ]
    for path in folder.glob("*.keras"):
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        np.savez(path.with_suffix(".npz"), **results(model, losses, inputs["images"], inputs["labels"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
