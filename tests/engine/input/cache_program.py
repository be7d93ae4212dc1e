"""Opens shards of a remote data set through a cache and prints what it has: run as a process of its own.

python cache_program.py MANIFEST FOLDER SIZE_BYTES [stay]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from engine.input.shard_cache import CacheSettings, ShardCache
from records import manifest


def main() -> None:
    location, folder, size_bytes, *stay = sys.argv[1:]
    data_set = manifest.load(location)
    cache = ShardCache(CacheSettings(Path(folder), int(size_bytes)))
    print("begun", flush=True)
    for shard in data_set.splits["train"].shards:
        descriptor = cache.open(data_set.locate(shard), shard)
        print(manifest.crc32c(os.pread(descriptor, shard.size_bytes, 0)) == shard.crc32c, flush=True)
        if not stay:
            os.close(descriptor)
    if stay:
        sys.stdin.readline()


if __name__ == "__main__":
    main()
