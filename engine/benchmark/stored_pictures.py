"""Pictures as they are stored, read through the index and not decoded: what decoding starts from."""

from __future__ import annotations

import numpy as np

from engine.input.mapped_shards import MappedShards
from records import index
from records.manifest import Manifest, read_checked


class StoredPictures:
    """The stored pictures of a split by row number; the shards are mapped when they are first touched."""

    def __init__(self, manifest: Manifest, split: str) -> None:
        file = manifest.splits[split].index
        self._rows = index.from_bytes(read_checked(manifest, file), manifest.locate(file))
        self._shards = MappedShards(manifest, split, verify=False)

    @property
    def mean_bytes(self) -> float:
        """Bytes that a picture takes, on average."""
        return float(self._rows["image_bytes"].mean())

    def copy(self, rows: np.ndarray) -> np.ndarray:
        """Copy pictures behind one another: (bytes,) uint8."""
        found = self._rows[rows]
        places = zip(*(found[key].tolist() for key in ("shard", "image_offset", "image_bytes")), strict=True)
        return np.concatenate([self._shards[shard][start : start + size] for shard, start, size in places])

    def close(self) -> None:
        """Let go of the shards."""
        self._shards.close()
