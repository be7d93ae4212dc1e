"""Records of a data set by their offsets: only the bytes asked for are read from a shard.

Where they lie is the index's to say; which ones are wanted, and what for, is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from records import example, index, manifest, storage, tfrecord
from records.errors import ShardError
from records.manifest import Manifest, Shard

Locate = Callable[[Shard], str | Path]


def load_index(data_set: Manifest, split: str) -> np.ndarray:
    """Return (images,) of `index.DTYPE`, one row a record of the split.

    Raises:
        ShardError: the index is missing, damaged, or holds more or fewer records than the manifest says.
    """
    held = data_set.splits[split]
    location = data_set.locate(held.index)
    rows = index.from_bytes(manifest.read_checked(data_set, held.index), location)
    if len(rows) != held.images:
        raise ShardError(
            f"{location}: {len(rows)} records, the manifest says {held.images}; it is stale: "
            "run the conversion again with --resume"
        )
    return rows


def read_records(
    data_set: Manifest, split: str, rows: np.ndarray, locate: Locate | None = None
) -> list[example.Record]:
    """Read records by their offsets and check each against its checksum.

    Args:
        data_set: the manifest.
        split: that the rows belong to.
        rows: (R,) of `index.DTYPE`.
        locate: where a shard is read from; None is the data set's own place.

    Raises:
        ShardError: a shard is missing, truncated or damaged.
    """
    # The payload and the checksum behind it.
    sizes = rows["payload_bytes"] + tfrecord.FOOTER_BYTES
    found = []
    for row, data in zip(
        rows, read_spans(data_set, split, rows, "payload_offset", sizes, locate), strict=True
    ):
        payload, footer = data[: row["payload_bytes"]], data[row["payload_bytes"] :]
        if int.from_bytes(footer, "little") != tfrecord.masked_crc32c(payload):
            location = data_set.locate(data_set.splits[split].shards[row["shard"]])
            raise ShardError(
                f"{location}: the record at byte {row['payload_offset']}: the CRC32C doesn't match; "
                "the shard is damaged: run the conversion again with --resume"
            )
        found.append(example.decode(payload))
    return found


def read_spans(
    data_set: Manifest,
    split: str,
    rows: np.ndarray,
    offsets: str,
    sizes: np.ndarray,
    locate: Locate | None = None,
) -> list[bytes]:
    """Read `sizes` bytes from the column `offsets` of each row, shard by shard.

    Raises:
        ShardError: a shard is missing or truncated.
    """
    found: list[bytes] = [b""] * len(rows)
    for number in np.unique(rows["shard"]):
        shard = data_set.splits[split].shards[number]
        location = str((locate or data_set.locate)(shard))
        wanted = np.flatnonzero(rows["shard"] == number)
        spans = list(zip(rows[offsets][wanted].tolist(), sizes[wanted].tolist(), strict=True))
        for row, data in zip(wanted, read_parts(location, spans), strict=True):
            found[row] = data
    return found


def read_parts(location: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    """Read (offset, size) spans in bytes of one shard.

    Raises:
        ShardError: the shard is missing, or ends before the last span does.
    """
    parts = _read_remote(location, spans) if storage.is_remote(location) else _read_local(location, spans)
    if any(len(part) != size for part, (_, size) in zip(parts, spans, strict=True)):
        raise ShardError(
            f"{location}: ends before its last record; it is truncated: "
            "run the conversion again with --resume"
        )
    return parts


def _read_remote(location: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    data = storage.read_bytes(location)
    return [data[offset : offset + size] for offset, size in spans]


def _read_local(location: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    try:
        # Unbuffered: a buffer would be filled anew, far beyond what is wanted, at each seek.
        with Path(location).open("rb", buffering=0) as shard:
            return [(shard.seek(offset), shard.read(size))[1] for offset, size in spans]
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ShardError(
            f"{location}: can't be read: {reason}; run the conversion again with --resume"
        ) from error
