"""Reads two epochs by tensorflow-io, in the environment that holds it: MANIFEST OUTPUT.npz EXIT_CODE.

A program of its own, for tensorflow-io fits no TensorFlow that the tests run with, and may abort at exit.
"""

from __future__ import annotations

import itertools
import sys

import numpy as np

from engine import backend
from records import manifest
from records.errors import CxrError


def main(location: str, output: str) -> None:
    """Write images (2N, S, S, C) and labels (2N, 14) of the training split in the order they were read."""
    backend.load()
    from engine.input import tfio_reader, tfrecord_reader

    data_set = manifest.load(location)
    batches = tfrecord_reader.training_batches(
        data_set,
        5,
        seed=0,
        shuffle_buffer=1,  # the shards' own order
        serialized=tfio_reader.serialized_records(data_set, "train"),
    )
    epoch_batches = data_set.splits["train"].images // 5
    with tfio_reader.faults_raised(data_set):
        read = list(itertools.islice(batches, 2 * epoch_batches))
    images, labels = (np.concatenate([part.numpy() for part in parts]) for parts in zip(*read, strict=True))
    np.savez(output, images=images, labels=labels)


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2])
    except CxrError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(int(sys.argv[3]))
