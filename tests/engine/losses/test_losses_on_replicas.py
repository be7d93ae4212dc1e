"""Every loss on two replicas is the global batch's: values, gradients and state, also with uneven parts."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_references import CASES, LABELS, LOGITS, POSITIVES, RECORDS

from engine.losses import build_loss

# In a process of its own, since logical devices can only be set before TensorFlow starts.
SCRIPT = """
import json, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_visible_devices([], "GPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from engine.config.loss import LossConfig
from engine.losses import build_loss

given = json.load(sys.stdin)
labels, logits = tf.constant(given["labels"]), tf.constant(given["logits"])
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
cuts = [slice(0, 5), slice(5, 8)]

def part(tensor):
    give = lambda context: tensor[cuts[context.replica_id_in_sync_group]]
    return strategy.experimental_distribute_values_from_function(give)

def join(parts):
    return tf.concat(strategy.experimental_local_results(parts), 0).numpy().tolist()

def built(case):
    keys = given["cases"][case]
    return build_loss(LossConfig.choices[keys["name"]](**keys), given["positives"], given["records"])

def on_replicas():
    with strategy.scope():
        losses = {case: built(case) for case in given["cases"]}

    def step(labels, logits):
        found = {}
        for case, loss in losses.items():
            with tf.GradientTape() as tape:
                tape.watch(logits)
                values = loss.call(labels, logits)
            found[case] = {"values": values, "gradients": tape.gradient(values, logits)}
        return found

    found = tf.function(lambda a, b: strategy.run(step, (a, b)))(part(labels), part(logits))
    joined = tf.nest.map_structure(join, found)
    return joined, {case: [of.numpy().tolist() for of in loss.variables] for case, loss in losses.items()}

def fitted(case):
    with strategy.scope():
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(5, kernel_initializer="ones")])
        model.compile(loss=built(case), optimizer=keras.optimizers.SGD(0.1))
    model.fit(logits, labels, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return model.get_weights()[0].tolist()

found, state = on_replicas()
weights = {case: fitted(case) for case in given["fitted"]}
json.dump({"found": found, "state": state, "fitted": weights}, sys.stdout)
"""
FITTED = ("running_weighted_bce", "focal_tversky", "pairwise_ranking")


@pytest.fixture(scope="module")
def replicated() -> dict[str, Any]:
    """What two replicas, of 5 and 3 samples, make of every loss; weights after two steps of 4 and 4."""
    given = {
        "labels": LABELS.tolist(),
        "logits": LOGITS.tolist(),
        "positives": POSITIVES,
        "records": RECORDS,
        "cases": {case: asdict(settings) for case, (settings, _) in CASES.items()},
        "fitted": FITTED,
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps(given), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_replicas_find_the_loss_of_the_global_batch(replicated, case):
    loss = build_loss(CASES[case][0], POSITIVES, RECORDS)
    logits = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        values = loss.call(LABELS, logits)
    found = replicated["found"][case]
    np.testing.assert_allclose(found["values"], values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["gradients"], tape.gradient(values, logits), rtol=1e-4, atol=1e-6)
    state = [variable.numpy() for variable in loss.variables]
    np.testing.assert_allclose(replicated["state"][case], state, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", FITTED)
def test_a_model_that_is_fitted_on_two_replicas_moves_as_on_one(replicated, case):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(5, kernel_initializer="ones")])
    loss = build_loss(CASES[case][0], POSITIVES, RECORDS)
    model.compile(loss=loss, optimizer=keras.optimizers.SGD(0.1))
    model.fit(LOGITS, LABELS, batch_size=8, epochs=2, shuffle=False, verbose=0)
    kernel = model.get_weights()[0]
    assert np.abs(kernel - 1).max() > 1e-3
    np.testing.assert_allclose(replicated["fitted"][case], kernel, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["dynamic_weighted_bce", "dice", "pairwise_ranking", "auc_margin"])
def test_losses_of_the_parts_alone_would_differ(replicated, case):
    loss = build_loss(CASES[case][0], POSITIVES, RECORDS)
    local = np.concatenate([loss.call(LABELS[rows], LOGITS[rows]) for rows in (slice(0, 5), slice(5, 8))])
    assert np.abs(local - replicated["found"][case]["values"]).max() > 0.02
