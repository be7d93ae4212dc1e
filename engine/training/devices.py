"""The devices that share each step, and how TensorFlow uses them; set before it makes its first tensor."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from engine.training.cluster import this_worker
from records.errors import ConfigError, RunError
from records.machine import usable_cores

# Spot machines of one request may come minutes apart.
START_LIMIT_S = 600.0


def strategy_of(
    replicas: int, *, precision: str = "float32", deterministic: bool = False
) -> tf.distribute.Strategy:
    """Return the strategy in whose scope model, optimiser and step are to be made.

    Args:
        replicas: devices that share a batch; 0: all GPUs, or one CPU. More than one where no GPU is are parts
            of the CPU, with which runs for several GPUs can be tried out.
        precision: Keras's dtype policy; one that this machine is slow in is told.
        deterministic: whether each operation must repeat its result bit for bit.

    Raises:
        ConfigError: there are fewer GPUs, or a number is given for a run of several workers.
    """
    gpus = tf.config.list_physical_devices("GPU")
    wanted = replicas or len(gpus) or 1
    if gpus and wanted > len(gpus):
        raise ConfigError(
            f"train.replicas is {replicas}, but TensorFlow finds {len(gpus)} GPUs; expected at most those"
        )
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    if not gpus:
        if precision == "mixed_float16":
            print(
                "note: no GPU is here, and a CPU is slow in mixed_float16; train.precision=mixed_bfloat16 "
                "or float32 is faster",
                file=sys.stderr,
            )
        # Operations that run at the same time add up gradients in the order in which they end.
        tf.config.threading.set_inter_op_parallelism_threads(1)
    if this_worker().workers > 1:
        return _of_workers(replicas)
    if wanted == 1:
        return tf.distribute.get_strategy()
    if gpus:
        return tf.distribute.MirroredStrategy([f"/gpu:{number}" for number in range(wanted)])
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * wanted)
    return tf.distribute.MirroredStrategy([f"/cpu:{number}" for number in range(wanted)])


def _of_workers(replicas: int) -> tf.distribute.Strategy:
    if replicas:
        raise ConfigError(
            f"train.replicas is {replicas} in a run of several workers; expected 0: all GPUs of each"
        )
    # TensorFlow waits for the others without an end that we can set, deaf to SIGTERM and with Python's lock
    # held, though one may have left with an error. `faulthandler` alone then still ends a process.
    print(
        f"waiting for all {this_worker().workers} workers to start; if they don't within "
        f"{START_LIMIT_S:g} s, this one ends with exit code 1: look at what the others said, and start all "
        "of them again",
        file=sys.stderr,
        flush=True,
    )
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - for the trace of what it waited in
        faulthandler.dump_traceback_later(START_LIMIT_S, exit=True, file=nowhere)
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        finally:
            faulthandler.cancel_dump_traceback_later()


def distributed(batches: tf.data.Dataset, strategy: tf.distribute.Strategy) -> Any:
    """Return this worker's part of each batch as the distributed batches of its replicas."""
    workers = this_worker().workers
    if workers == 1:
        return strategy.experimental_distribute_dataset(batches)
    parts = _of_replicas(batches, strategy.num_replicas_in_sync // workers)
    return strategy.distribute_datasets_from_function(lambda _: parts)


def _of_replicas(batches: tf.data.Dataset, replicas: int) -> tf.data.Dataset:
    """Cut each batch of a worker into those of its replicas, one after the other."""
    if replicas == 1:
        return batches

    def cut(whole: tf.Tensor) -> tf.Tensor:
        return tf.reshape(whole, [replicas, whole.shape[0] // replicas, *whole.shape[1:]])

    return batches.map(lambda *batch: tf.nest.map_structure(cut, batch)).unbatch()


@contextlib.contextmanager
def losses_told() -> Iterator[None]:
    """Say in a line that another worker is gone, where TensorFlow fails because of that inside the block.

    Raises:
        RunError: in its place.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError) as error:
        if this_worker().workers == 1:
            raise
        raise RunError(
            "another worker doesn't answer any more; start all of them again with --resume auto "
            f"({type(error).__name__})"
        ) from error


def agreed(value: int, strategy: tf.distribute.Strategy) -> bool:
    """Tell whether all workers of a run have the same number; all of them must ask."""

    own = tf.constant([value, value**2], tf.float64)

    def total() -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(own))

    numbers, squares = strategy.experimental_local_results(strategy.run(tf.function(total)))[0].numpy()
    # The mean of the squares is the square of the mean where, and only where, all are equal.
    return bool(squares * strategy.num_replicas_in_sync == numbers**2)


def is_compiled(compilation: str, strategy: tf.distribute.Strategy) -> bool:
    """Tell whether XLA compiles the step; on a CPU it costs minutes and slows the step down.

    Args:
        compilation: `auto`, `always` or `never`.
        strategy: of the run.

    Raises:
        ConfigError: it is `always` for several devices.
    """
    several = strategy.num_replicas_in_sync > 1
    if compilation == "always" and several:
        raise ConfigError(
            "train.compilation is `always` for several devices, which exchange gradients within the step; "
            "expected `auto` or `never`"
        )
    return compilation == "always" or (
        compilation == "auto" and not several and bool(tf.config.list_physical_devices("GPU"))
    )


def device_name(strategy: tf.distribute.Strategy) -> str:
    """Name what the step runs on."""
    replicas = strategy.num_replicas_in_sync
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        parts = f" in {replicas} parts" if replicas > 1 else ""
        return f"CPU, {usable_cores()} cores{parts}"
    details = tf.config.experimental.get_device_details(gpus[0])
    return f"{replicas} x {details.get('device_name', 'GPU')}"
