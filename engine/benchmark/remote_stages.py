"""What stands between a store and the machine: the network, the fetch, and the input through an empty cache.

network: plain ranged GETs by the engine's client into memory, as many at once as the engine makes.
fetch: whole shards into a cache folder, checked and published; each is removed as soon as it is there.
whole pipeline: first epochs, each with a reader of its own and a cache that is empty at its start.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from engine.benchmark import input_stages
from engine.benchmark.ceilings import NETWORK
from engine.benchmark.diagnosis import FETCH, WHOLE
from engine.benchmark.input_stages import Source
from engine.benchmark.windows import Images, Start, in_threads
from engine.input import object_ranges, pipeline
from engine.input.fetch import DEADLINE_S, IN_FLIGHT, RANGE_BYTES, STALL_S
from engine.input.order import EpochOrder
from engine.input.reader import ShardReader
from engine.input.shard_cache import CacheSettings, ShardCache
from records.manifest import Manifest, Shard

TEMPORARY_PREFIX = "cxr-engine-benchmark-"
# Enough for all ranges to be in flight, whatever the shards' size.
_SHARDS_AT_ONCE = 8


def stages(manifest: Manifest, source: Source, cache_bytes: int) -> dict[str, Start]:
    """Return what starts each of the module's measurements by name.

    Args:
        manifest: of the remote data set.
        source: of what its local view has; batch, threads, device and augmentation are taken from it, and
            the order is made alike.
        cache_bytes: limit of each temporary cache.
    """
    shards = manifest.splits[source.reader.split].shards
    return {
        FETCH: lambda number: _fetches(manifest, shards, number, cache_bytes),
        WHOLE: lambda number: _first_epochs(manifest, source, number, cache_bytes),
        NETWORK: lambda number: _plain_gets(manifest, shards, number),
    }


def remote_source(source: Source, reader: ShardReader) -> Source:
    """Return a source of a remote reader's batches, in an order like that of a local view; no repeats."""
    order = source.order
    whole_order = EpochOrder(reader.shard_sizes, order.seed, order.shuffle_block_shards)
    return dataclasses.replace(source, reader=reader, order=whole_order)


def _plain_gets(manifest: Manifest, shards: tuple[Shard, ...], first: int) -> Images:
    ranges = [
        (shard, start, min(start + RANGE_BYTES, shard.size_bytes))
        for shard in shards
        for start in range(0, shard.size_bytes, RANGE_BYTES)
    ]

    def get(number: int) -> float:
        shard, start, end = ranges[number % len(ranges)]
        asyncio.run(_get(manifest.locate(shard), start, end))
        return shard.records * (end - start) / shard.size_bytes

    yield from in_threads(get, first * len(ranges) // 2, IN_FLIGHT)


async def _get(location: str, start: int, end: int) -> list[bytes]:
    return [piece async for _, piece in object_ranges.pieces(location, start, end, STALL_S, DEADLINE_S)]


def _fetches(manifest: Manifest, shards: tuple[Shard, ...], first: int, cache_bytes: int) -> Images:
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as folder:
        cache = ShardCache(CacheSettings(Path(folder), cache_bytes))

        def fetch(number: int) -> float:
            shard = shards[number % len(shards)]
            cache.folder.discard(shard, cache.open(manifest.locate(shard), shard))
            return float(shard.records)

        yield from in_threads(fetch, first * len(shards) // 2, _SHARDS_AT_ONCE)


def _first_epochs(manifest: Manifest, source: Source, first: int, cache_bytes: int) -> Images:
    for epoch in itertools.count(first):
        yield from _first_epoch(manifest, source, epoch, cache_bytes)


def _first_epoch(manifest: Manifest, source: Source, epoch: int, cache_bytes: int) -> Iterator[float]:
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as folder:
        settings = CacheSettings(Path(folder), cache_bytes)
        with (
            ShardReader(manifest, source.reader.split, cache_settings=settings) as reader,
            pipeline.faults_raised(reader),
        ):
            cold = remote_source(source, reader)
            steps = cold.order.steps_per_epoch(cold.batch)
            yield from input_stages.images_of(input_stages.whole(cold, epoch).take(steps))
