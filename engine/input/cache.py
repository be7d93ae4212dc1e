"""Where a data set's files can be read by path: a local one's own files, or copies in the user's cache.

TensorFlow's own reader and programs that read each shard once come here; the gather reads through
`mapped_shards`. Copies, their folder and its limit are the business of `shard_cache`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from engine.input.shard_cache import CacheSettings, ShardCache
from engine.input.shard_check import check, check_once, check_size
from records import storage
from records.manifest import Manifest, StoredFile

__all__ = [
    "CacheSettings",
    "check",
    "check_once",
    "default_folder",
    "default_settings",
    "held_path",
    "local_path",
]

# About four times the whole data set, raw at 320 x 320 with one channel.
DEFAULT_SIZE_BYTES = 50_000_000_000

_kept: dict[Path, int] = {}
_kept_lock = threading.Lock()


def default_folder() -> Path:
    """Return `$XDG_CACHE_HOME/cxr-engine`, by default `~/.cache/cxr-engine`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cxr-engine"


def default_settings() -> CacheSettings:
    """Return the cache of programs that have no setting of their own."""
    return CacheSettings(default_folder(), DEFAULT_SIZE_BYTES)


def local_path(manifest: Manifest, file: StoredFile, settings: CacheSettings | None = None) -> Path:
    """Return a local path of one of the data set's files; fetch it first if it is remote.

    A copy that was fetched or found is kept until the process ends: the cache must hold all that are asked
    for. `held_path` lets go of them.

    Args:
        manifest: of the data set.
        file: one of its shards or indexes.
        settings: of the cache; None: `default_settings()`.

    Raises:
        ShardError: missing, or its size or (when it is fetched) its CRC32C isn't the manifest's.
        StorageError: the store can't be reached, or the cache can't be written or is full.
    """
    if not storage.is_remote(manifest.locate(file)):
        return _own_path(manifest, file)
    cache = ShardCache(settings or default_settings(), verify=False)
    path = cache.folder.copy_path(file)
    descriptor = cache.open(manifest.locate(file), file)
    with _kept_lock:
        # Of several copies of a file by one name, removed and fetched again meanwhile, the last one counts.
        before, _kept[path] = _kept.get(path), descriptor
    if before is not None:
        os.close(before)
    return path


@contextlib.contextmanager
def held_path(manifest: Manifest, file: StoredFile, settings: CacheSettings | None = None) -> Iterator[Path]:
    """Give a local path as `local_path` does; a copy in the cache may be evicted when the block has ended."""
    if not storage.is_remote(manifest.locate(file)):
        yield _own_path(manifest, file)
        return
    cache = ShardCache(settings or default_settings(), verify=False)
    descriptor = cache.open(manifest.locate(file), file)
    try:
        yield cache.folder.copy_path(file)
    finally:
        os.close(descriptor)


def _own_path(manifest: Manifest, file: StoredFile) -> Path:
    path = Path(manifest.locate(file))
    check_size(path.stat().st_size if path.is_file() else None, file, str(path))
    return path
