"""The dynamic loss on two replicas: the ratio is that of the global batch, also with uneven parts."""

import json
import subprocess
import sys

import numpy as np
import pytest

from engine.losses import DynamicWeightedBCE

# In a process of its own, since logical devices can only be set before TensorFlow starts.
SCRIPT = """
import json, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_visible_devices([], "GPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from engine.losses import DynamicWeightedBCE
data = json.load(sys.stdin)
labels, logits = tf.constant(data["labels"]), tf.constant(data["logits"])
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
loss = DynamicWeightedBCE(0.1)
cuts = [slice(0, 5), slice(5, 8)]

def part(tensor):
    give = lambda context: tensor[cuts[context.replica_id_in_sync_group]]
    return strategy.experimental_distribute_values_from_function(give)

def step(labels, logits):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        values = loss.call(labels, logits)
    return values, tape.gradient(values, logits)

values, gradients = tf.function(lambda a, b: strategy.run(step, (a, b)))(part(labels), part(logits))
join = lambda parts: tf.concat(strategy.experimental_local_results(parts), 0).numpy().tolist()
json.dump({"values": join(values), "gradients": join(gradients)}, sys.stdout)
"""


@pytest.mark.slow
def test_two_replicas_weigh_by_the_prevalence_of_the_global_batch():
    rng = np.random.default_rng(5)
    labels = (rng.random((8, 14)) < 0.3).astype(np.float32)
    logits = rng.normal(size=(8, 14)).astype(np.float32)
    given = json.dumps({"labels": labels.tolist(), "logits": logits.tolist()})
    done = subprocess.run([sys.executable, "-c", SCRIPT], input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    replicated = json.loads(done.stdout)
    loss = DynamicWeightedBCE(0.1)
    np.testing.assert_allclose(replicated["values"], loss.call(labels, logits), rtol=1e-6)
    local = np.concatenate([loss.call(labels[:5], logits[:5]), loss.call(labels[5:], logits[5:])])
    assert np.abs(local - replicated["values"]).max() > 0.05
    positive, negative = (np.asarray(weight) for weight in loss.weights(labels))
    p = 1 / (1 + np.exp(-logits))
    gradient = (negative * (1 - labels) * p - positive * labels * (1 - p)) / 14
    np.testing.assert_allclose(replicated["gradients"], gradient, rtol=1e-4, atol=1e-7)
