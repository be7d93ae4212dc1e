"""The hand-over to tf.data: training batches in the epoch's order, evaluation batches, and the second reader.

The batches of training and evaluation are gathered by `reader` inside the data set's own threads and given to
TensorFlow without a copy, in memory of the reader's pools (`buffers`).

B = records in the batch, S = stored side in pixels, C = stored channels.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from engine.input import cache
from engine.input.order import EpochOrder
from engine.input.reader import ShardReader, image_shape
from records.errors import RunError
from records.labels import FINDINGS
from records.manifest import Manifest

# Two threads keep one batch ahead of the other; more don't copy faster than the memory allows.
_COPY_THREADS = 2


def training_batches(
    reader: ShardReader,
    order: EpochOrder,
    global_batch: int,
    *,
    epoch: int = 0,
    step: int = 0,
    prefetch: int = 2,
    threads: int | None = None,
) -> tf.data.Dataset:
    """Return the endless stream of training batches from a resume token on.

    Which records make which batch follows from `order` alone, whatever the threads.

    Args:
        reader: of the training split; must stay open while the stream is read.
        order: of the same split.
        global_batch: records a step, over all devices.
        epoch: of the first batch, counted from 0.
        step: of the first batch within its epoch, 0 <= step <= steps in an epoch.
        prefetch: batches to have ready.
        threads: that gather; None: two for raw pictures, one a CPU for compressed ones.

    Returns:
        images: (B, S, S, C) uint8, and labels: (B, 14) float32, B = `order.batch_records(global_batch)`.

    Raises:
        RunError: the token or the order isn't of this split and batch.
    """
    steps = order.steps_per_epoch(global_batch)
    if order.shard_sizes != reader.shard_sizes:
        raise RunError(f"an order of shards of {order.shard_sizes}; the split has {reader.shard_sizes}")
    if epoch < 0 or not 0 <= step <= steps:
        raise RunError(
            f"resume at epoch {epoch}, step {step}; an epoch has {steps} steps of {global_batch}: "
            "resume with the data set and the batch that the run began with"
        )

    def rows(number: int) -> np.ndarray:
        return order.batch_rows(*divmod(number, steps), global_batch)

    numbers = tf.data.Dataset.counter(epoch * steps + step)
    batch = order.batch_records(global_batch)
    return _gathered(reader, numbers, rows, batch, batch, threads).prefetch(prefetch)


def evaluation_batches(
    reader: ShardReader, batch: int, *, prefetch: int = 2, threads: int | None = None
) -> tf.data.Dataset:
    """Return each record of a split once, in the index's order; the last batch may be smaller.

    Args:
        reader: of the split; must stay open while the batches are read.
        batch: records in a batch.
        prefetch: batches to have ready.
        threads: as in `training_batches`.

    Returns:
        images: (B, S, S, C) uint8, and labels: (B, 14) float32; as many as `cardinality` says.
    """

    def rows(number: int) -> np.ndarray:
        return np.arange(number * batch, min((number + 1) * batch, len(reader)))

    numbers = tf.data.Dataset.range(-(-len(reader) // batch))
    static = None if len(reader) % batch else batch
    return _gathered(reader, numbers, rows, min(batch, len(reader)), static, threads).prefetch(prefetch)


@contextlib.contextmanager
def faults_raised(reader: ShardReader) -> Iterator[None]:
    """Raise the reader's own error where tf.data, iterated inside the block, fails because of it."""
    try:
        yield
    except tf.errors.OpError:
        if reader.fault is None:
            raise
        raise reader.fault from None


def tfrecord_batches(
    manifest: Manifest,
    split: str,
    batch: int,
    *,
    shuffle_buffer: int = 0,
    deterministic: bool = True,
    repeat: bool = False,
    verify: bool = True,
    cache_folder: str | Path | None = None,
) -> tf.data.Dataset:
    """Return a split's records, read by TensorFlow's own reader, for comparison with the gather.

    One shard after the other with TensorFlow's own buffer, and records parsed by the batch: on warm local
    files the fastest settings found, ahead of interleaved shards and larger buffers. It needs no index; its
    order is the index's or, with a buffer, an approximate shuffle.

    Args:
        manifest: of the data set.
        split: train, validation or test.
        batch: records in a batch; the last one may be smaller.
        shuffle_buffer: records to shuffle among; 0: none.
        deterministic: whether batches must leave in the order they came.
        repeat: whether to begin again at the end, without end.
        verify: check each shard's CRC32C before this returns, unless this process has done so before.
        cache_folder: for downloads of a remote data set, which are all made before this returns.

    Returns:
        images: (B, S, S, C) uint8, and labels: (B, 14) float32.

    Raises:
        ShardError: a shard is missing, of another size or, with `verify`, damaged.
    """
    paths = []
    for shard in manifest.splits[split].shards:
        path = cache.local_path(manifest, shard, cache_folder)
        if verify:
            cache.check_once(path, shard)
        paths.append(str(path))
    serialized: tf.data.Dataset = tf.data.TFRecordDataset(tf.constant(paths, tf.string))
    if shuffle_buffer:
        serialized = serialized.shuffle(shuffle_buffer)
    if repeat:
        serialized = serialized.repeat()
    threads = _default_threads(manifest)
    batches = serialized.batch(batch).map(
        record_parser(manifest), num_parallel_calls=threads, deterministic=deterministic
    )
    return batches.with_options(_options(threads, deterministic=deterministic)).prefetch(2)


def record_parser(manifest: Manifest) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Return a function from (B,) serialized records to (B, S, S, C) uint8 images and (B, 14) labels."""
    shape, encoding = image_shape(manifest), manifest.image["encoding"]
    spec = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "labels": tf.io.FixedLenFeature([len(FINDINGS)], tf.int64),
    }

    def decode(picture: tf.Tensor) -> tf.Tensor:
        if encoding == "png":
            return tf.io.decode_png(picture, channels=shape[2])
        # The decoder's default is a faster transform that is a level off here and there.
        return tf.io.decode_jpeg(picture, channels=shape[2], dct_method="INTEGER_ACCURATE")

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        fields = tf.io.parse_example(serialized, spec)
        if encoding == "raw":
            pixels = tf.io.decode_raw(fields["image"], tf.uint8, fixed_length=int(np.prod(shape)))
            images = tf.reshape(pixels, (-1, *shape))
        else:
            images = tf.map_fn(decode, fields["image"], fn_output_signature=tf.TensorSpec(shape, tf.uint8))
        return images, tf.cast(fields["labels"], tf.float32)

    return parse


def _gathered(
    reader: ShardReader,
    numbers: tf.data.Dataset,
    rows_of: Callable[[int], np.ndarray],
    most: int,
    static: int | None,
    threads: int | None,
) -> tf.data.Dataset:
    """Turn batch numbers into batches of at most `most` records; `static`: their number, if it is fixed."""
    # TensorFlow keeps the function below, and all that it names, for the life of the process: the memory is
    # the reader's, shared by its data sets and freed when it closes.
    buffers = reader.buffers(most)
    threads = threads or _default_threads(reader.manifest)

    def gather(number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = rows_of(int(number))
        return reader.gather(rows, buffers.take(len(rows)))

    def load(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = tf.numpy_function(gather, [number], [tf.uint8, tf.float32])
        return tf.ensure_shape(images, (static, *reader.image_shape)), tf.ensure_shape(
            labels, (static, len(FINDINGS))
        )

    batches = numbers.map(load, num_parallel_calls=threads, deterministic=True)
    return batches.with_options(_options(threads, deterministic=True))


def _default_threads(manifest: Manifest) -> int:
    return _COPY_THREADS if manifest.image["encoding"] == "raw" else os.cpu_count() or 1


def _options(threads: int, *, deterministic: bool) -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = deterministic
    # Everything is set by hand, so there is nothing for the tuner to spend time on.
    options.autotune.enabled = False
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    return options
