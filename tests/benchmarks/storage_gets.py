"""The limit: all shards of a split by parallel ranged GETs into memory, by the client that the input uses.

    python storage_gets.py JOB

As many requests are in flight, and each asks for as many bytes, as when the input fetches shards; what comes
is dropped at once, unchecked. Of obstore's ways this one was the fastest. The manifest, which names the
shards, is read before the clock starts.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

import obstore
from obstore.store import S3Store
from storage_consumer import Taken, cpu_s, job, say

from engine.input.fetch import IN_FLIGHT, RANGE_BYTES
from records import manifest


async def get_all(source: str, found: manifest.Manifest) -> int:
    """Fetch all training shards; return how many bytes came."""
    bucket = source.removeprefix("s3://").partition("/")[0]
    store = S3Store(bucket, client_options={"allow_http": True})
    spans = each_range(found, f"s3://{bucket}/")

    async def get_some() -> int:
        size_bytes = 0
        for key, offset, wanted in spans:
            size_bytes += len(await obstore.get_range_async(store, key, start=offset, length=wanted))
        return size_bytes

    return sum(await asyncio.gather(*(get_some() for _ in range(IN_FLIGHT))))


def each_range(found: manifest.Manifest, bucket: str) -> Iterator[tuple[str, int, int]]:
    """Yield key, first byte and size of each range of the shards."""
    for shard in found.splits["train"].shards:
        key = found.locate(shard).removeprefix(bucket)
        for offset in range(0, shard.size_bytes, RANGE_BYTES):
            yield key, offset, min(RANGE_BYTES, shard.size_bytes - offset)


def main() -> None:
    """Fetch; print what it took."""
    asked, begin = job(), time.perf_counter()
    found = manifest.load(asked.source)
    taken = Taken(open_s=time.perf_counter() - begin)
    before, start = cpu_s(), time.perf_counter()
    taken.size_bytes = asyncio.run(get_all(asked.source, found))
    taken.wall_s, taken.cpu_s = time.perf_counter() - start, cpu_s() - before
    say([taken])
    # The client's threads now and then abort a process that ends in the usual way.
    os._exit(0)


if __name__ == "__main__":
    main()
