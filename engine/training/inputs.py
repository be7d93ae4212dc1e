"""What a config's words become of the training input: the order, the batches, and who is in a step."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import tensorflow as tf

from engine import config as configs
from engine.input import cache, order, oversampling, pipeline, reader, tfio_reader, tfrecord_reader
from engine.training import devices
from engine.training.cluster import this_worker
from records.errors import ConfigError
from records.labels import FINDINGS
from records.manifest import Manifest


def cache_settings(config: configs.Config) -> cache.CacheSettings:
    """Return where copies of remote shards lie, and how much room they may take."""
    return cache.CacheSettings(cache.default_folder(), config.input.cache_bytes)


def epoch_order(config: configs.Config, data_set: Manifest, training: reader.ShardReader) -> order.EpochOrder:
    """Return the order of the training records."""
    # Labels lie in every shard, so those of a remote data set are read only where they are needed.
    labels = training.labels() if config.input.oversampled_findings else np.empty((0, len(FINDINGS)))
    sizes = tuple(shard.records for shard in data_set.splits["train"].shards)
    repeats = oversampling.repeats(labels, config.input.oversampled_findings)
    return order.EpochOrder(sizes, config.train.seed, config.input.shuffle_block_shards, repeats)


def check_shares(config: configs.Config, records: order.EpochOrder, replicas: int) -> None:
    """Check that a batch divides into the parts that it is computed in.

    Raises:
        ConfigError: it doesn't.
    """
    size, parts = records.batch_records(config.train.global_batch), replicas * config.train.micro_batches
    if size % parts:
        raise ConfigError(
            f"a batch has {size} records; expected a multiple of {parts} (devices: {replicas}, "
            f"micro-batches: {config.train.micro_batches}): change train.global_batch, train.replicas or "
            "train.micro_batches"
        )


def training_batches(
    config: configs.Config,
    data_set: Manifest,
    training: reader.ShardReader,
    records: order.EpochOrder,
    start: order.Token | None = None,
) -> tf.data.Dataset:
    """Return the batches of pictures, with transforms if the config asks for any, and labels.

    Args:
        config: of the run.
        data_set: its manifest.
        training: reader of the training split.
        records: its order.
        start: where to go on; TensorFlow's readers, which have no order of their own, go on anywhere.
    """
    if config.input.reader != "index":
        return _tensorflows_batches(config, data_set, start)
    return pipeline.training_batches(
        training,
        records,
        config.train.global_batch,
        start=start,
        epochs=config.train.epochs,
        part=order.Part(*this_worker()),
        augment=config.augment if config.augment.is_on else None,
        prefetch=config.input.prefetch_batches,
    )


def _tensorflows_batches(
    config: configs.Config, data_set: Manifest, start: order.Token | None
) -> tf.data.Dataset:
    if (workers := this_worker().workers) > 1:
        raise ConfigError(
            f"input.reader is `{config.input.reader}`, which can't share batches between {workers} workers; "
            "use index"
        )
    if start and start.epoch + start.step:
        print(
            f"note: the reader `{config.input.reader}` can't go on in the order of the run before; other "
            "records come than in a run without a pause",
            file=sys.stderr,
        )
    from_s3 = config.input.reader == "tfio"
    return tfrecord_reader.training_batches(
        data_set,
        config.train.global_batch,
        seed=config.train.seed,
        shuffle_buffer=config.input.shuffle_buffer_records,
        augment=config.augment if config.augment.is_on else None,
        prefetch=config.input.prefetch_batches,
        cache_settings=cache_settings(config),
        serialized=tfio_reader.serialized_records(data_set, "train") if from_s3 else None,
    )


def on_devices(
    batches: tf.data.Dataset, config: configs.Config, strategy: tf.distribute.Strategy
) -> Iterator[tuple[Any, Any]]:
    """Iterate over the batches on the devices of a strategy, each with its own part of them."""
    if strategy.num_replicas_in_sync > 1:
        return iter(devices.distributed(batches, strategy))
    if config.input.prefetch_to_device and tf.config.list_physical_devices("GPU"):
        return iter(pipeline.to_device(batches, "/gpu:0", config.input.prefetch_batches))
    return iter(batches)


def faults_raised(config: configs.Config, data_set: Manifest) -> AbstractContextManager[None]:
    """Raise the errors of the reader that the config names as lines of ours, inside the block."""
    return tfio_reader.faults_raised(data_set) if config.input.reader == "tfio" else nullcontext()


def image_ids_of_step(
    config: configs.Config, training: reader.ShardReader, records: order.EpochOrder, epoch: int, step: int
) -> list[str]:
    """Name the records of a step, both counted from 0; none where TensorFlow's reader chose them."""
    if config.input.reader != "index":
        return []
    rows = records.batch(epoch, step, config.train.global_batch).rows
    return [record.image_id for record in training.records(rows)]
