"""Models and losses on JAX against TensorFlow: a model saved by one, trained a step by both."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from settings import DENSENET, GUIDE, build

from engine.losses import BCE, DynamicWeightedBCE, WeightedBCE
from engine.model import densenet_cbam

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX isn't installed"),
]

LOSSES = [BCE(), WeightedBCE([2.0] * 7 + [9.0] * 7), DynamicWeightedBCE(smoothing=0.1)]
MODELS = ("densenet121_cbam", "guide_cnn")
RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (6, 64, 64, 1), np.uint8)
LABELS = RNG.integers(0, 2, (6, 14)).astype(np.float32)


def _first_stages(**settings) -> keras.Model:
    """DenseNet121 to its first transition: each kind of its layers, in a tenth of the time to compile."""
    whole = keras.applications.DenseNet121(**settings)
    return keras.Model(whole.input, whole.get_layer("pool2_pool").output, name=whole.name)


def _on_tensorflow(model: keras.Model) -> dict[str, np.ndarray]:
    """What on_jax.py gives for the model, by name."""
    with tf.GradientTape(persistent=True) as tape:
        logits = model(IMAGES, training=True)
        losses = [loss(LABELS, logits) for loss in LOSSES]
    arrays = {"logits": logits, "losses": np.array(losses)}
    arrays |= {f"statistics_{n}": variable.value for n, variable in enumerate(model.non_trainable_variables)}
    for number, loss in enumerate(losses):
        gradient = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        arrays |= {f"gradient_{number}_{n}": array for n, array in enumerate(gradient)}
    return {name: np.asarray(array) for name, array in arrays.items()}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, tuple[dict, dict]]:
    """Per model, what TensorFlow and what JAX give."""
    folder: Path = tmp_path_factory.mktemp("second_back_end")
    keras.utils.set_random_seed(6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(densenet_cbam.BACKBONES, "densenet121", _first_stages)
        densenet = build(replace(DENSENET, dropout=0.0))
    models = {"densenet121_cbam": densenet, "guide_cnn": build(replace(GUIDE, dropout=0.0))}
    for name, model in models.items():
        model.save(folder / f"{name}.keras")
    np.savez(folder / "inputs.npz", images=IMAGES, labels=LABELS)
    serialised = [keras.saving.serialize_keras_object(loss) for loss in LOSSES]
    (folder / "losses.json").write_text(json.dumps(serialised))
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name("on_jax.py")), str(folder)],
        check=True,
        # Unoptimised code takes half as long to compile, and runs once.
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
        },
    )
    return {
        name: (_on_tensorflow(model), dict(np.load(folder / f"{name}.npz"))) for name, model in models.items()
    }


def _assert_alike(results: tuple[dict, dict], prefix: str, share: float) -> None:
    tensorflow, jax = (
        {name: array for name, array in some.items() if name.startswith(prefix)} for some in results
    )
    assert tensorflow.keys() == jax.keys()
    largest = max(np.abs(array).max() for array in tensorflow.values())
    for name, expected in tensorflow.items():
        # Sums in another order: of the largest number in an array, not of each, which may cancel to nothing.
        # Where one normalisation follows another, a whole gradient does: of the largest of all then.
        tolerance = share * np.abs(expected).max() + 1e-6 * largest
        np.testing.assert_allclose(jax[name], expected, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_saved_on_tensorflow_gives_the_same_logits_on_jax(name: str, results) -> None:
    assert results[name][0]["logits"].shape == (6, 14)
    _assert_alike(results[name], "logits", 1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_running_statistics_move_alike(name: str, results) -> None:
    _assert_alike(results[name], "statistics_", 1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_losses_cost_the_same(name: str, results) -> None:
    tensorflow, jax = results[name]
    np.testing.assert_allclose(jax["losses"], tensorflow["losses"], rtol=1e-5)


@pytest.mark.parametrize("number", range(len(LOSSES)), ids=[loss.name for loss in LOSSES])
@pytest.mark.parametrize("name", MODELS)
def test_every_variable_has_the_same_gradient(name: str, number: int, results) -> None:
    _assert_alike(results[name], f"gradient_{number}_", 1e-3)
