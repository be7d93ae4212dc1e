"""A remote data set's training shards as a local one, so that stages are measured without the store."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engine.input import cache
from engine.input.cache import CacheSettings
from records import index, storage
from records.manifest import Manifest, Shard, StoredFile, crc32c, read_checked

# Enough for any processor's cache to be of no help; the rest of a large data set is like it.
LIMIT_BYTES = 2 << 30
_FETCHES = 8


def local_view(
    manifest: Manifest,
    split: str,
    folder: Path,
    settings: CacheSettings | None = None,
    limit_bytes: int = LIMIT_BYTES,
) -> Manifest:
    """Return a manifest of a split's first shards as local files; a local data set is its own view, whole.

    Args:
        manifest: of the data set.
        split: the only one that the view of a remote data set has.
        folder: empty; the view stands there, as links to the cache's copies.
        settings: of the cache, which keeps the copies until the process ends; None: the user's.
        limit_bytes: of all shards taken; the first is taken in any case.

    Raises:
        CxrError: a shard can't be fetched, or isn't the manifest's.
    """
    if not storage.is_remote(manifest.location):
        return manifest
    shards = _first(manifest.splits[split].shards, limit_bytes)

    def fetch(shard: Shard) -> None:
        link = folder / shard.path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(cache.local_path(manifest, shard, settings).resolve())

    with ThreadPoolExecutor(_FETCHES) as threads:
        list(threads.map(fetch, shards))
    return _over(manifest, split, shards, folder)


def _first(shards: tuple[Shard, ...], limit_bytes: int) -> tuple[Shard, ...]:
    taken_bytes = 0
    for number, shard in enumerate(shards):
        taken_bytes += shard.size_bytes
        if number and taken_bytes > limit_bytes:
            return shards[:number]
    return shards


def _over(manifest: Manifest, split: str, shards: tuple[Shard, ...], folder: Path) -> Manifest:
    """Write the index of the first shards and return a manifest of them."""
    held = manifest.splits[split]
    rows = index.from_bytes(read_checked(manifest, held.index), manifest.locate(held.index))
    rows = rows[rows["shard"] < len(shards)]
    data = index.to_bytes(rows)
    file = StoredFile(path=held.index.path, size_bytes=len(data), crc32c=crc32c(data))
    storage.write_bytes(str(folder / file.path), data)
    view = dataclasses.replace(held, images=len(rows), shards=shards, index=file)
    location = str(folder / storage.name(manifest.location))
    return dataclasses.replace(manifest, splits={split: view}, location=location)
