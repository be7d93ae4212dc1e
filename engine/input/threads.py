"""How tf.data runs an input: a private pool of few threads, and nothing left to its tuner."""

from __future__ import annotations

import tensorflow as tf

from records.machine import usable_cores
from records.manifest import Manifest

# Two threads keep one batch ahead of the other; more don't copy faster than the memory allows.
_PARSING_THREADS = 2
# One copies nearly as fast as the memory allows; a second one would cost a tenth more CPU time, in turns
# taken and in waiting for the interpreter, and reads cold files no faster.
_COPYING_THREADS = 1


def parsing_threads(manifest: Manifest) -> int:
    """Return how many threads parse records: two with raw pictures, one a CPU where they must be decoded."""
    return _PARSING_THREADS if manifest.image["encoding"] == "raw" else usable_cores()


def gather_threads(manifest: Manifest) -> int:
    """Return how many threads gather: one for raw pictures, one a CPU for those that must be decoded."""
    return _COPYING_THREADS if manifest.image["encoding"] == "raw" else usable_cores()


def options(threads: int, *, deterministic: bool) -> tf.data.Options:
    """Return the options of an input that runs in `threads` threads of its own."""
    options = tf.data.Options()
    options.deterministic = deterministic
    # Everything is set by hand, so there is nothing for the tuner to spend time on.
    options.autotune.enabled = False
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    return options
