"""This project's shards through tf.data: TensorFlow's own reader in two ways, and this project's.

usual: as tutorials have it: one record parsed at a time, the tuner choosing all else, shuffled among 1,024.
tuned: `tfrecord_reader.tfrecord_batches`: parsed by the batch, everything set by hand, shuffled among 1,024.
engine: `pipeline.training_batches`, what `engine train` reads: shuffled among all records.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
from input_serving import BATCH, SEED, Batches, Settings, main
from input_source import Source

from engine.input import pipeline, tfrecord_reader
from engine.input.order import EpochOrder
from engine.input.reader import ShardReader
from records import manifest

SPLIT = "train"
SHUFFLE_RECORDS = 1024


def batches(source: Source, folder: Path, settings: Settings) -> Batches:
    """Return the batches of one way."""
    del source
    data_set = manifest.load(str(folder))
    return iter({"usual": usual, "tuned": tuned, "engine": engine}[settings["way"]](data_set))


def engine(data_set: manifest.Manifest) -> tf.data.Dataset:
    """Return the training input with the settings of configs/baseline.yaml."""
    reader = ShardReader(data_set, SPLIT)
    order = EpochOrder(reader.shard_sizes, seed=SEED, shuffle_block_shards=0)
    return pipeline.training_batches(reader, order, BATCH)


def tuned(data_set: manifest.Manifest) -> tf.data.Dataset:
    """Return TensorFlow's reader with every setting chosen by hand."""
    return tfrecord_reader.tfrecord_batches(
        data_set, SPLIT, BATCH, shuffle_buffer=SHUFFLE_RECORDS, deterministic=False, repeat=True
    )


def usual(data_set: manifest.Manifest) -> tf.data.Dataset:
    """Return TensorFlow's reader with nothing chosen."""
    parse = tfrecord_reader.record_parser(data_set)

    def parse_one(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = parse(serialized[None])
        return images[0], labels[0]

    records = (
        tf.data.TFRecordDataset(tfrecord_reader.local_paths(data_set, SPLIT))
        .shuffle(SHUFFLE_RECORDS)
        .repeat()
    )
    return records.map(parse_one, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)


if __name__ == "__main__":
    sys.exit(main(batches, packages=("tensorflow",)))
