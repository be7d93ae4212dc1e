"""Two devices take the steps that one takes: the same records, and equal losses within 1e-5 of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

STEPS = 20
# Sums over a batch are added up in another order, and 20 steps of Adam carry that on.
RELATIVE_TOLERANCE = 1e-5
# In a process of its own, since logical devices can only be set before TensorFlow starts.
PROGRAM = """
import json, sys, zlib
given = json.load(sys.stdin)
from engine import backend
backend.load()
import keras, numpy as np
from engine import config as configs
from engine.config.optimizer import AdamConfig
from engine.input.reader import ShardReader
from engine.training import devices, fit, inputs
from engine.training.optimizers import build_optimizer, loss_scale
from engine.training.step import TrainingStep
from records import manifest
from records.errors import ConfigError

data_set = manifest.load(given["data"])
strategy = devices.strategy_of(given["replicas"])

def network():
    penalty = keras.regularizers.L2(1e-3)
    return keras.Sequential([
        keras.Input((32, 32, 1), dtype="uint8"), keras.layers.Rescaling(1 / 255), keras.layers.Flatten(),
        keras.layers.Dense(8, activation="tanh", kernel_regularizer=penalty),
        keras.layers.Dense(14, dtype="float32"),
    ])

def join(value):
    parts = strategy.experimental_local_results(value)
    return np.concatenate([np.asarray(part) for part in parts])

def run(loss, micro_batches, precision):
    config = configs.load("configs/demo.yaml", [f"loss={loss}", "train.global_batch=4", "train.epochs=9"])
    keras.utils.set_random_seed(3)
    keras.config.set_dtype_policy(precision)
    with strategy.scope(), ShardReader(data_set, "train") as training:
        order = inputs.epoch_order(config, data_set, training)
        batches = inputs.training_batches(config, data_set, training, order)
        model = network()
        loss = fit.build_training_loss(config.loss, data_set.splits["train"])
        optimizer = build_optimizer(AdamConfig("adam", 1e-3, 0.5, 0.9), precision)
        step = TrainingStep(model, loss, optimizer, records=4, micro_batches=micro_batches)
        losses, seen = [], []
        shared = inputs.on_devices(batches, config, strategy)
        for _ in range(given["steps"]):
            pictures, labels = next(shared)
            seen.append(zlib.crc32(join(pictures).tobytes() + join(labels).tobytes()))
            losses.append(float(step(pictures, labels).loss))
        weights = [np.linalg.norm(weight).item() for weight in model.get_weights()]
        own = [np.asarray(variable).tolist() for variable in loss.variables]
    return {"losses": losses, "seen": seen, "weights": weights, "own": own, "scale": loss_scale(optimizer)}

def refusal():
    try:
        return devices.is_compiled("always", strategy)
    except ConfigError as error:
        return str(error)

told = [devices.device_name(strategy), devices.is_compiled("auto", strategy), refusal()]
print(json.dumps([[run(*case) for case in given["cases"]], told]))
"""
BCE = "{name: bce}"
DYNAMIC = "{name: dynamic_weighted_bce, smoothing: 0.1, prevalence: batch}"
RUNNING = "{name: running_weighted_bce, smoothing: 0.1, momentum: 0.9}"
CASES = [
    (BCE, 1, "float32"),
    (BCE, 2, "float32"),
    (DYNAMIC, 1, "float32"),
    (RUNNING, 1, "float32"),
    (BCE, 1, "mixed_float16"),
]


@pytest.fixture(scope="module")
def printed(lasting_data_set) -> list[tuple[list[dict[str, Any]], list[Any]]]:
    """What the cases give, and what is said of the devices: on one device, and on two."""
    both = []
    for replicas in (1, 2):
        given = {"data": lasting_data_set.location, "replicas": replicas, "steps": STEPS, "cases": CASES}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        )
        assert done.returncode == 0, done.stderr
        both.append(json.loads(done.stdout.splitlines()[-1]))
    return both


def test_a_cpu_may_be_cut_into_parts_that_are_never_compiled(printed):
    (_, (name, compiled, asked)), (_, (parts_name, parts_compiled, refused)) = printed
    assert name.startswith("CPU, ")
    assert parts_name == f"{name} in 2 parts"
    assert not compiled
    assert not parts_compiled
    assert asked is True
    assert refused.startswith("train.compilation is `always` for several devices")


@pytest.fixture(scope="module")
def found(printed) -> dict[tuple[int, tuple[str, int, str]], dict[str, Any]]:
    """What each case gives on so many devices."""
    return {
        (replicas, case): result
        for replicas, (results, _) in enumerate(printed, start=1)
        for case, result in zip(CASES, results, strict=True)
    }


def test_each_global_step_has_the_same_records_in_the_same_order(found):
    seen = [result["seen"] for result in found.values()]
    assert len(set(seen[0])) == STEPS
    assert all(other == seen[0] for other in seen)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0][7:-1].split(',')[0]}-{case[1]}-{case[2]}")
def test_two_devices_have_the_losses_of_one(found, case):
    one, two = found[1, case], found[2, case]
    tolerance = RELATIVE_TOLERANCE if case[2] == "float32" else 2e-3
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=tolerance)
    np.testing.assert_allclose(two["weights"], one["weights"], rtol=10 * tolerance)
    if one["own"]:
        np.testing.assert_allclose(two["own"], one["own"], rtol=1e-6)
    assert two["scale"] == one["scale"]


def test_micro_batches_have_the_losses_of_whole_ones(found):
    whole, cut = found[1, CASES[0]], found[2, CASES[1]]
    np.testing.assert_allclose(cut["losses"], whole["losses"], rtol=RELATIVE_TOLERANCE)
