"""The index of record positions: where each record, its picture and its labels lie in a split's shards.

It is an ordinary `.npy` file beside the shards, one row a record in the order of the shards, and lets a
reader map the shards and gather any batch without reading what lies between.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np

from records import example, tfrecord
from records.errors import ShardError

FILE_NAME = "index.npy"
_MAGIC = b"\x93NUMPY"
_ADVICE = "run the conversion again with --resume"

DTYPE = np.dtype(
    [
        ("shard", "<i4"),  # number of the shard in the manifest's list of the split
        ("payload_offset", "<i8"),  # of the serialized record, in bytes from the shard's start
        ("payload_bytes", "<i4"),
        ("image_offset", "<i8"),  # of the picture's bytes, in bytes from the shard's start
        ("image_bytes", "<i4"),
        ("labels_offset", "<i8"),  # of 14 bytes of 0 or 1, in bytes from the shard's start
    ]
)


def of_frames(frames: Iterable[tfrecord.Frame], shard: int) -> np.ndarray:
    """Return one row a frame, (records,) of `DTYPE`."""
    rows = []
    for frame in frames:
        layout = example.locate(frame.payload)
        rows.append(row(shard, frame.payload_offset, len(frame.payload), layout))
    return np.array(rows, DTYPE)


def row(
    shard: int, payload_offset: int, payload_bytes: int, layout: example.Layout
) -> tuple[int, int, int, int, int, int]:
    """Return the values of one row, in the order of `DTYPE`'s fields."""
    return (
        shard,
        payload_offset,
        payload_bytes,
        payload_offset + layout.image_offset,
        layout.image_bytes,
        payload_offset + layout.labels_offset,
    )


def to_bytes(rows: np.ndarray) -> bytes:
    """Serialize (records,) rows of `DTYPE` as an `.npy` file."""
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    return buffer.getvalue()


def from_bytes(data: bytes, name: str) -> np.ndarray:
    """Read what `to_bytes` wrote: (records,) of `DTYPE`.

    Raises:
        ShardError: not such a file.
    """
    if not data.startswith(_MAGIC):
        raise ShardError(f"{name}: not an index of records: it starts with {data[:8]!r}; {_ADVICE}")
    try:
        rows = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy's header parser lets any kind through, MemoryError among them
        raise ShardError(f"{name}: not an index of records: {error}; {_ADVICE}") from error
    if rows.dtype != DTYPE or rows.ndim != 1:
        raise ShardError(f"{name}: an index of {rows.dtype}; expected {DTYPE}; {_ADVICE}")
    return rows
