"""This project's input from object storage: block after block through an empty cache, as in training.

    python storage_stream.py JOB

The cache's limit is above the data set's size, so that a second epoch finds all shards there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import storage_server
from storage_consumer import job, say, take

from engine.input import pipeline
from engine.input.cache import CacheSettings
from engine.input.order import EpochOrder
from engine.input.reader import ShardReader
from records import manifest

SEED = 17
CACHE_BYTES = 50_000_000_000


def main() -> None:
    """Go through the split; print what each epoch took."""
    asked = job()
    begin = time.perf_counter()
    found = manifest.load(asked.source)
    settings = CacheSettings(Path(asked.folder), CACHE_BYTES)
    with ShardReader(found, "train", cache_settings=settings) as reader:
        open_s = time.perf_counter() - begin
        order = EpochOrder(reader.shard_sizes, SEED, asked.block_shards)

        def batches() -> Iterator:
            # Made when the first batch is asked for, so that the clock runs from here.
            yield from pipeline.training_batches(reader, order, asked.batch)

        stream, epochs = batches(), []
        with pipeline.faults_raised(reader):
            for _ in range(asked.epochs):
                gets = storage_server.gets()
                taken = take(stream, asked.step_ms, order.steps_per_epoch(asked.batch))
                taken.gets = storage_server.gets() - gets
                taken.open_s = open_s
                epochs.append(taken)
        stream.close()
    say(epochs)


if __name__ == "__main__":
    main()
