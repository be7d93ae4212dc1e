"""The plain way to train the network: Fisher's article as it is written, `model.fit` fed by NumPy.

    python tests/benchmarks/step_seed_fit.py FOLDER STEPS

FOLDER holds `images.npy`, (N, 320, 320, 1) uint8, and `labels.npy`, (N, 14) float32. Batches of 16 are turned
into float32 RGB and normalised by `densenet.preprocess_input` in NumPy, in a `keras.utils.PyDataset`; the
model, its `Lambda` layers and its loss are the article's. Its ImageNet weights are left out, which change
nothing in the time of a step. Threads are TensorFlow's defaults. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

BATCH = 16
KERAS = tf.keras


class Batches(KERAS.utils.PyDataset):
    """Shuffled by `fit`; one array after the other is made when it is asked for."""

    def __init__(self, folder: Path, steps: int) -> None:
        super().__init__()
        self._images, self._labels = np.load(folder / "images.npy"), np.load(folder / "labels.npy")
        self._steps = steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        rows = np.arange(number * BATCH, (number + 1) * BATCH) % len(self._images)
        pixels = np.repeat(self._images[rows], 3, axis=-1).astype(np.float32)
        return KERAS.applications.densenet.preprocess_input(pixels), self._labels[rows]


class DynamicWeightedBCE(KERAS.losses.Loss):
    """The article's loss, whose weights follow the share of positives in the batch."""

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        epsilon = KERAS.backend.epsilon()
        y_pred = tf.clip_by_value(y_pred, epsilon, 1 - epsilon)
        ratio = tf.reduce_mean(y_true, axis=0) * 0.9 + 0.5 * 0.1
        positive, negative = 1.0 / (ratio + epsilon), 1.0 / (1.0 - ratio + epsilon)
        return -tf.reduce_mean(
            y_true * positive * tf.math.log(y_pred) + (1 - y_true) * negative * tf.math.log1p(-y_pred)
        )


class Timed(KERAS.callbacks.Callback):
    """Times all steps but the first two."""

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:  # noqa: ARG002
        if batch == 0:
            self.first_step_at = time.time()
        if batch == 1:
            self.start_s, self.cpu_start_s = time.perf_counter(), time.process_time()
        self.end_s, self.cpu_end_s = time.perf_counter(), time.process_time()


def create_model() -> KERAS.Model:
    """DenseNet121, channel and spatial attention, and two dense layers before the 14 findings."""
    layers = KERAS.layers
    inputs = layers.Input((320, 320, 3))
    x = KERAS.applications.DenseNet121(weights=None, include_top=False, input_tensor=inputs).output
    squeeze, excite = layers.Dense(512, activation="relu"), layers.Dense(1024)
    mean = layers.Reshape((1, 1, 1024))(layers.GlobalAveragePooling2D()(x))
    most = layers.Reshape((1, 1, 1024))(layers.GlobalMaxPooling2D()(x))
    channel = layers.Activation("sigmoid")(layers.Add()([excite(squeeze(mean)), excite(squeeze(most))]))
    x = layers.Multiply()([x, channel])
    mean = layers.Lambda(lambda x: tf.reduce_mean(x, axis=-1, keepdims=True))(x)
    most = layers.Lambda(lambda x: tf.reduce_max(x, axis=-1, keepdims=True))(x)
    both = layers.Concatenate()([mean, most])
    x = layers.Multiply()([x, layers.Conv2D(1, 7, padding="same", activation="sigmoid")(both)])
    x = layers.GlobalAveragePooling2D()(x)
    for units in (128, 64):
        penalty = KERAS.regularizers.L2(0.001)
        x = layers.Dropout(0.3)(layers.Dense(units, activation="relu", kernel_regularizer=penalty)(x))
    return KERAS.Model(inputs, layers.Dense(14, activation="sigmoid")(x))


def main() -> None:
    """Train for two steps and as many as are to be timed, and say how long those took."""
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    model, timed = create_model(), Timed()
    model.compile(optimizer="adam", loss=DynamicWeightedBCE(), metrics=["accuracy"])
    model.fit(Batches(folder, steps + 2), epochs=1, callbacks=[timed], verbose=0)
    said = {"images": steps * BATCH, "first_step_at": timed.first_step_at}
    said |= {"wall_s": timed.end_s - timed.start_s, "cpu_s": timed.cpu_end_s - timed.cpu_start_s}
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
