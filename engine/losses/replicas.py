"""Statistics of a global batch, where each replica of a distributed step sees only its part."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def global_batch_mean(values: Any) -> Any:
    """Mean over the first axis of the whole global batch.

    Outside `tf.distribute`, and on Keras's other back ends (where a sharded step already sees the global
    batch), that is the plain mean. Inside a replica, sums and counts are added up across replicas, so that
    parts of different sizes count right. The exchange doesn't run inside `jit_compile=True`; Keras's "auto"
    turns compilation off under `tf.distribute`.

    Args:
        values: (B, F) float32, this replica's part.

    Returns:
        (F,) float32, the same on every replica.
    """
    if keras.backend.backend() != "tensorflow":
        return ops.mean(values, axis=0)
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return ops.mean(values, axis=0)
    part = [ops.sum(values, axis=0), ops.cast(ops.shape(values)[0], "float32")]
    total, count = context.all_reduce(tf.distribute.ReduceOp.SUM, part)
    return total / count
