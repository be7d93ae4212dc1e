"""Statistics of a global batch, where each replica of a distributed step sees only its part.

Outside `tf.distribute`, and on Keras's other back ends (where a sharded step already sees the global batch),
they are plain sums. Inside a replica, parts are exchanged; parts of different sizes count right. Gradients go
through: what a sample changes in the other replicas' losses comes back to it, so that gradients added up over
replicas are those of the global batch. The exchange doesn't run inside `jit_compile=True`; Keras's "auto"
turns compilation off under `tf.distribute`.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def global_sums(*values: Any) -> list[Any]:
    """Sum each over the first axis of the whole global batch, in one exchange.

    Args:
        values: (B, F) float32 each, this replica's part.

    Returns:
        (F,) float32 each, the same on every replica.
    """
    sums = ops.stack([ops.sum(value, axis=0) for value in values])
    context = _replica_context()
    if context is not None:
        import tensorflow as tf

        sums = context.all_reduce(tf.distribute.ReduceOp.SUM, sums)
    return [sums[number] for number in range(len(values))]


def global_batch_mean(values: Any) -> Any:
    """Mean over the first axis of the whole global batch.

    Args:
        values: (B, F) float32, this replica's part.

    Returns:
        (F,) float32, the same on every replica.
    """
    total, count = global_sums(values, ops.ones_like(values))
    return total / count


def global_batch(*values: Any) -> list[Any]:
    """Gather the whole global batch.

    Args:
        values: (B, F) float32 each, this replica's part.

    Returns:
        (global B, F) float32 each, the same on every replica.
    """
    context = _replica_context()
    if context is None:
        return list(values)
    gathered = context.all_gather(ops.stack(values, axis=1), axis=0)
    return [gathered[:, number] for number in range(len(values))]


def _replica_context() -> Any:
    """TensorFlow's, when this runs in one of several replicas."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return None if context is None or context.num_replicas_in_sync == 1 else context
