"""Images that are pixel for pixel the same as another one: found across the whole set, left out of it.

Which images are the same is known only when all have been decoded, so the shards stand by then. Those that
hold a copy are written again without it; the records are moved, not decoded.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from beam_pipelines import notes
from beam_pipelines.notes import ShardNote
from beam_pipelines.plan import ShardItem
from records import storage, tfrecord
from records.errors import ShardError
from records.manifest import LeftOut, Shard, crc32c

# How the reason of a copy begins.
REASON = "the same pixels as"


def find(all_notes: Iterable[ShardNote]) -> dict[str, str]:
    """Find the copies among all records.

    Returns:
        The image that stays by each one that goes: of equal images the first by name stays.
    """
    prints = [
        (image_id, fingerprint.tobytes())
        for note in all_notes
        for image_id, fingerprint in zip(note.image_ids.tolist(), note.fingerprints, strict=True)
    ]
    first: dict[bytes, str] = {}
    copies = {}
    for image_id, fingerprint in sorted(prints):
        original = first.setdefault(fingerprint, image_id)
        if original != image_id:
            copies[image_id] = original
    return copies


def left_out(copies: dict[str, str]) -> list[LeftOut]:
    """Return the copies with the reason why each goes."""
    return [LeftOut(image_id, f"{REASON} {original}") for image_id, original in copies.items()]


def drop(note: ShardNote, item: ShardItem, copies: dict[str, str], output: str) -> ShardNote:
    """Write a shard again without the copies it holds, and its note; return the note.

    Raises:
        ShardError: the shard isn't what its note says.
    """
    keep = np.array([image_id not in copies for image_id in note.image_ids.tolist()], bool)
    if keep.all():
        return note
    here = {image_id: copies[image_id] for image_id in note.image_ids[~keep].tolist()}
    location = storage.join(output, item.path)
    data = storage.read_bytes(location)
    if crc32c(data) != note.shard.crc32c:
        raise ShardError(f"{location}: changed since it was written; run the same command with --resume")
    kept = b"".join(_frame(data, row) for row in note.index[keep])
    storage.write_bytes(location, kept)
    changed = note.only(
        keep,
        shard=Shard(item.path, len(kept), crc32c(kept), int(keep.sum())),
        index=_moved(note.index, keep),
        quarantined=(*note.quarantined, *left_out(here)),
    )
    notes.write(changed, item, output)
    return changed


def _frame(data: bytes, row: np.void) -> bytes:
    start = int(row["payload_offset"])
    end = start + int(row["payload_bytes"])
    return data[start - tfrecord.HEADER_BYTES : end + tfrecord.FOOTER_BYTES]


def _moved(rows: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Return the index rows that stay, each moved to the front by the frames that go before it."""
    frame_bytes = rows["payload_bytes"].astype(np.int64) + tfrecord.HEADER_BYTES + tfrecord.FOOTER_BYTES
    gone_before = np.cumsum(np.where(keep, 0, frame_bytes))
    moved = rows.copy()
    for column in ("payload_offset", "image_offset", "labels_offset"):
        moved[column] -= gone_before
    return moved[keep]
