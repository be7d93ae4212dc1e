"""The same records at every step whatever the number of replicas, in a process with four logical devices."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np

from engine.input.order import EpochOrder, Part
from engine.input.pipeline import padded_evaluation_batches
from engine.input.reader import ShardReader

PROGRAM = """
import json, sys
from engine import backend
backend.load()
import numpy as np
import tensorflow as tf
from engine.input import pipeline
from engine.input.order import EpochOrder
from engine.input.reader import ShardReader
from records import manifest

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
data_set = manifest.load(sys.argv[1])
found = {}
with ShardReader(data_set, "train") as reader:
    order = EpochOrder(reader.shard_sizes, 4, 2)
    for replicas in (1, 2, 4):
        strategy = tf.distribute.MirroredStrategy([f"/cpu:{n}" for n in range(replicas)])
        batches = iter(strategy.experimental_distribute_dataset(pipeline.training_batches(reader, order, 8)))
        found[replicas] = []
        for _ in range(5):
            images, _ = next(batches)
            parts = strategy.experimental_local_results(images)
            if {len(part) for part in parts} != {8 // replicas}:
                sys.exit(f"parts of {[len(part) for part in parts]}")
            pixels = np.concatenate([part.numpy() for part in parts]).reshape(8, -1).astype(np.int64)
            found[replicas].append((pixels @ np.arange(1, 1025)).tolist())
print(json.dumps(found))
"""


def fingerprints(images: np.ndarray) -> list[int]:
    return (images.reshape(len(images), -1).astype(np.int64) @ np.arange(1, 1025)).tolist()


def test_mirrored_replicas_share_each_step_of_the_one_order(data_set) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, data_set.location], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    with ShardReader(data_set, "train") as reader:
        order = EpochOrder(reader.shard_sizes, 4, 2)
        wanted = [
            fingerprints(reader.gather(order.batch(*divmod(number, 2), 8).rows)[0]) for number in range(5)
        ]
    assert found == {"1": wanted, "2": wanted, "4": wanted}


def test_an_evaluation_in_parts_sees_each_record_once_in_batches_of_one_size(data_set) -> None:
    with ShardReader(data_set, "train") as reader:
        for parts in (1, 2, 4):
            seen = []
            for index in range(parts):
                batches = list(padded_evaluation_batches(reader, 8, Part(index, parts)))
                assert len(batches) == 3
                for images, labels, weights in batches:
                    assert (len(images), len(labels), len(weights)) == (8 // parts,) * 3
                    seen += [
                        mark
                        for mark, weight in zip(fingerprints(images.numpy()), weights.numpy(), strict=True)
                        if weight
                    ]
            assert sorted(seen) == sorted(fingerprints(reader.gather(np.arange(20))[0]))
