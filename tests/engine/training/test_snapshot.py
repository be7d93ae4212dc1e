"""A snapshot holds all that steps change, and goes back into the same run only."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from engine.config.optimizer import AdamConfig, SGDConfig
from engine.training import snapshot
from engine.training.optimizers import build_optimizer
from records.errors import RunError


def _held(units: int = 3, settings=None) -> dict[str, keras.Variable]:
    keras.utils.clear_session()
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(units, name="first"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.5, name="drop"),
            keras.layers.Dense(1, name="last"),
        ]
    )
    optimizer = build_optimizer(settings or AdamConfig("adam", 0.1, 0.0, 0.9), "mixed_float16")
    optimizer.build(model.trainable_variables)
    running = keras.Variable([0.5], trainable=False, name="running_prevalence")
    return snapshot.variables(model, optimizer, [running])


def test_it_holds_weights_statistics_moments_means_scale_rate_step_random_state_and_the_losss_own():
    names = " ".join(_held())
    for part in (
        "first/kernel", "norm/moving_mean", "seed_generator_state", "momentum", "velocity", "average",
        "dynamic_scale", "step_counter", "learning_rate", "iteration", "loss/0000/running_prevalence",
    ):  # fmt: skip
        assert part in names


def test_what_is_taken_does_not_change_with_the_variables_and_goes_back():
    held = _held()
    taken = snapshot.take(held)
    kept = {name: array.copy() for name, array in taken.items()}
    for variable in held.values():
        variable.assign(keras.ops.ones_like(variable) * 3)
    for name, array in taken.items():
        np.testing.assert_array_equal(array, kept[name])
    snapshot.put_back(held, taken, "step-1.npz")
    for name, variable in held.items():
        np.testing.assert_array_equal(variable.numpy(), kept[name])
        assert variable.numpy().dtype == kept[name].dtype


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (
            {"units": 4},
            "another model: model/0000/sequential/first/kernel is of (2, 4) there, of (2, 3) here",
        ),
        ({"settings": SGDConfig("sgd", 0.1, 0.0, 0.0, 0.9, False)}, "another model or optimiser: optimizer/"),
    ],
)
def test_another_models_or_optimisers_is_refused_and_changes_nothing(other, expected):
    strange = snapshot.take(_held(**other))
    held = _held()
    before = snapshot.take(held)
    with pytest.raises(RunError) as raised:
        snapshot.put_back(held, strange, "step-1.npz")
    assert str(raised.value).startswith("step-1.npz: ")
    assert expected in str(raised.value)
    for name, array in snapshot.take(held).items():
        np.testing.assert_array_equal(array, before[name])
