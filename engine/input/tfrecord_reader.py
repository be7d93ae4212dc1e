"""The second reader: TensorFlow's own, for comparison and for TensorFlow I/O; it reads no index.

One shard after the other with TensorFlow's own buffer, and records parsed by the batch: on warm local files
the fastest settings found, ahead of interleaved shards and larger buffers.

B = records in the batch, S = stored side in pixels, C = stored channels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from engine.config import AugmentConfig
from engine.input import cache, threads, transforms
from engine.input.cache import CacheSettings
from engine.input.reader import image_shape
from records.labels import FINDINGS
from records.manifest import Manifest

# Keeps runs of neighbouring seeds from going through the same orders an epoch apart.
_SEED_STRIDE = 1_000_003
# Stands in for the process's own seed.
_GRAPH_SEED = 87_654_321


def training_batches(
    manifest: Manifest,
    batch: int,
    *,
    seed: int,
    shuffle_buffer: int,
    augment: AugmentConfig | None = None,
    prefetch: int = 2,
    serialized: tf.data.Dataset | None = None,
    cache_settings: CacheSettings | None = None,
) -> tf.data.Dataset:
    """Return an endless stream of training batches, shuffled approximately, anew in each epoch.

    What doesn't fill an epoch's last batch is left out; a split smaller than a batch is one partial batch.

    Args:
        manifest: of the data set.
        batch: records in a batch, B.
        seed: of the shuffle and of the transforms.
        shuffle_buffer: records to shuffle among.
        augment: how pictures are varied by `model.augment`; None: no transforms are given.
        prefetch: batches to have ready.
        serialized: the records, () string each, in the index's order; None: those of local copies, checked.
        cache_settings: for copies of a remote data set's shards, all made before this returns; None: the
            user's cache.

    Returns:
        As `pipeline.training_batches` does.

    Raises:
        ShardError: a shard is missing, of another size or damaged.
    """
    if serialized is None:
        paths = local_paths(manifest, "train", cache_settings=cache_settings)
        serialized = tf.data.TFRecordDataset(tf.constant(paths, tf.string))
    parse = record_parser(manifest)
    count = threads.parsing_threads(manifest)
    # As the indexed reader: what doesn't fill a batch is left out, another part in each epoch.
    whole = manifest.splits["train"].images >= batch

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        shuffled = _shuffled(serialized, shuffle_buffer, epoch + seed * _SEED_STRIDE)
        batches = shuffled.batch(batch, drop_remainder=whole)
        return batches.map(lambda rows, serialized: (epoch, rows, serialized))

    def draw(epoch: np.ndarray, rows: np.ndarray) -> np.ndarray:
        if augment is None:
            raise ValueError("nothing to draw: pictures are not varied")
        return transforms.draw(augment, seed, int(epoch), rows, np.zeros_like(rows))

    def load(epoch: tf.Tensor, rows: tf.Tensor, serialized: tf.Tensor):
        images, labels = parse(serialized)
        if augment is None:
            return images, labels
        drawn = tf.numpy_function(draw, [epoch, rows], tf.float32)
        return {"images": images, "transforms": tf.ensure_shape(drawn, (None, transforms.NUMBERS))}, labels

    epochs = tf.data.Dataset.counter()
    batches = epochs.flat_map(one_epoch).map(load, num_parallel_calls=count, deterministic=True)
    return batches.with_options(threads.options(count, deterministic=True)).prefetch(prefetch)


def _shuffled(serialized: tf.data.Dataset, buffer: int, seed: tf.Tensor) -> tf.data.Dataset:
    """Shuffle records, each behind its row; the seed is the epoch's, so that the order is, too.

    Only while a data set's function is traced.
    """
    # Of this graph alone: the order must not depend on the process's own seed, and beside a 0 there
    # TensorFlow asks whether the epoch's is 0, which a graph doesn't know.
    tf.random.set_seed(_GRAPH_SEED)
    return tf.data.Dataset.zip(tf.data.Dataset.counter(), serialized).shuffle(buffer, seed=seed)


def tfrecord_batches(
    manifest: Manifest,
    split: str,
    batch: int,
    *,
    shuffle_buffer: int = 0,
    deterministic: bool = True,
    repeat: bool = False,
    verify: bool = True,
    cache_settings: CacheSettings | None = None,
) -> tf.data.Dataset:
    """Return a split's records, read by TensorFlow's own reader, for comparison with the gather.

    It needs no index; its order is the index's or, with a buffer, an approximate shuffle.

    Args:
        manifest: of the data set.
        split: train, validation or test.
        batch: records in a batch; the last one may be smaller.
        shuffle_buffer: records to shuffle among; 0: none.
        deterministic: whether batches must leave in the order they came.
        repeat: whether to begin again at the end, without end.
        verify: check each shard's CRC32C before this returns, unless this process has done so before.
        cache_settings: for copies of a remote data set's shards, all made before this returns; None: the
            user's cache.

    Returns:
        images: (B, S, S, C) uint8, and labels: (B, 14) float32.

    Raises:
        ShardError: a shard is missing, of another size or, with `verify`, damaged.
    """
    paths = local_paths(manifest, split, verify=verify, cache_settings=cache_settings)
    serialized: tf.data.Dataset = tf.data.TFRecordDataset(tf.constant(paths, tf.string))
    if shuffle_buffer:
        serialized = serialized.shuffle(shuffle_buffer)
    if repeat:
        serialized = serialized.repeat()
    count = threads.parsing_threads(manifest)
    batches = serialized.batch(batch).map(
        record_parser(manifest), num_parallel_calls=count, deterministic=deterministic
    )
    return batches.with_options(threads.options(count, deterministic=deterministic)).prefetch(2)


def local_paths(
    manifest: Manifest, split: str, *, verify: bool = True, cache_settings: CacheSettings | None = None
) -> list[str]:
    """Return the paths of a split's shards; all of a remote data set are downloaded before this returns.

    Raises:
        ShardError: a shard is missing, of another size or, with `verify`, damaged.
    """
    paths = []
    for shard in manifest.splits[split].shards:
        path = cache.local_path(manifest, shard, cache_settings)
        if verify:
            cache.check_once(path, shard)
        paths.append(str(path))
    return paths


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
