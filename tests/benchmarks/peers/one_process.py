"""The usual script: one process that decodes, resizes and writes one TFRecord file.

python one_process.py WORK.json OUTPUT 1 pillow|tensorflow
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from decoders import SIDE_PX, read_command_line


def by_tensorflow(path: str) -> np.ndarray:
    """Return (320, 320, 1) uint8 by TensorFlow's decoder and its default of resizing."""
    image = tf.io.decode_png(tf.io.read_file(path), channels=1)
    return tf.cast(tf.image.resize(image, (SIDE_PX, SIDE_PX)), tf.uint8).numpy()


def serialize(pixels: bytes, labels: list[int]) -> bytes:
    """Return one `tf.train.Example`."""
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[pixels])),
        "labels": tf.train.Feature(int64_list=tf.train.Int64List(value=labels)),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def main() -> int:
    """Convert; print how many images there were."""
    work = read_command_line(tensorflow=by_tensorflow)
    work.output.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(work.output / "all.tfrecord")) as writer:
        for path, labels in work.rows:
            writer.write(serialize(work.decode(path).tobytes(), labels))
    print(f"images {len(work.rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
