"""The usual way, for comparison only: decode and resize the original PNGs in the training loop.

It is tf.data as the projects that train on NIH's PNGs write it: read, decode, resize, scale, batch, with the
tuner choosing the parallelism. Nothing else uses it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def png_batches(paths: Sequence[str], labels: np.ndarray, side_px: int, batch: int) -> tf.data.Dataset:
    """Return an endless shuffled stream of batches from PNG files.

    Args:
        paths: (N,) of local PNGs.
        labels: (N, 14) float32.
        side_px: rows and columns of the result, S; resized by TensorFlow's default, bilinear.
        batch: records in a batch, B; the last of an epoch may be smaller.

    Returns:
        images: (B, S, S, 3) float32 from 0 to 1, and labels: (B, 14) float32.
    """

    def load(path: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.image.decode_png(tf.io.read_file(path), channels=3)
        return tf.image.resize(image, (side_px, side_px)) / 255.0, target

    files = tf.data.Dataset.from_tensor_slices((tf.constant(list(paths), tf.string), labels))
    files = files.shuffle(max(1, len(paths))).repeat()
    return files.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(batch).prefetch(tf.data.AUTOTUNE)
