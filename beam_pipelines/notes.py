"""What a worker notes of the shard it wrote, and how the note is kept until the manifest is written.

The note (`.work/<shard>.npz`) is written after the shard, so its presence means that the shard is done; the
launcher assembles index and manifest from the notes, and a resumed conversion skips what has one, unless it
names images that failed: they may have been mended.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass

import numpy as np

from beam_pipelines.claims import WORK_FOLDER
from beam_pipelines.plan import PixelSettings, ShardItem
from records import json_text, storage
from records.manifest import LeftOut, Shard, crc32c

SUFFIX = ".tfrecord.npz"
# What reading a damaged `.npz` with a text in it may raise.
NOT_A_NOTE = (ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError, zipfile.BadZipFile)
_ARRAYS = ("index", "image_ids", "patient_ids", "labels", "fingerprints", "pixel_sums", "pixel_square_sums")


@dataclass(frozen=True)
class ShardNote:
    """What was written into one shard; n records, in its order.

    Attributes:
        item_sha256: of the work item, so that a note of other rows is not taken for this one's.
        shard: path, size, CRC32C and number of records.
        quarantined: images that failed the checks.
        oddities: image and what is unusual about its file, for those that are.
        index: (n,) of `records.index.DTYPE`, with shard number 0.
        image_ids: (n,) str.
        patient_ids: (n,) int64.
        labels: (n, 14) uint8.
        fingerprints: (n, 16) uint8, equal for equal pixels of the originals.
        pixel_sums: (n,) int64, of the stored grey values of each picture.
        pixel_square_sums: (n,) int64, of their squares.
    """

    item_sha256: str
    shard: Shard
    quarantined: tuple[LeftOut, ...]
    oddities: tuple[tuple[str, str], ...]
    index: np.ndarray
    image_ids: np.ndarray
    patient_ids: np.ndarray
    labels: np.ndarray
    fingerprints: np.ndarray
    pixel_sums: np.ndarray
    pixel_square_sums: np.ndarray

    def only(self, keep: np.ndarray, **changes: object) -> ShardNote:
        """Return the note of the records where `keep`, (n,) bool, is set, with some attributes replaced."""
        arrays = {name: getattr(self, name)[keep] for name in _ARRAYS}
        kept = set(arrays["image_ids"].tolist())
        oddities = tuple(entry for entry in self.oddities if entry[0] in kept)
        return dataclasses.replace(self, **{**arrays, "oddities": oddities, **changes})


def item_sha256(item: ShardItem, settings: PixelSettings) -> str:
    """Name an item by what decides its bytes; where the images lie is not part of it."""
    rows = [{**row._asdict(), "location": "", "labels": row.labels.hex()} for row in item.rows]
    text = json.dumps([item.path, dataclasses.asdict(settings), rows])
    return hashlib.sha256(text.encode()).hexdigest()


def location(item: ShardItem, output: str) -> str:
    """Return where the note of an item stands."""
    return storage.join(output, WORK_FOLDER, f"{item.path}.npz")  # ends in SUFFIX


def find(item: ShardItem, output: str, settings: PixelSettings) -> ShardNote | None:
    """Return the note of an item that is done: same rows, and the shard stands there with its size."""
    try:
        if not storage.exists(location(item, output)):
            return None
        note = _from_bytes(storage.read_bytes(location(item, output)))
        size_bytes = storage.size(storage.join(output, item.path))
    except (FileNotFoundError, *NOT_A_NOTE):
        return None
    same = note.item_sha256 == item_sha256(item, settings) and note.shard.path == item.path
    if not same or note.shard.size_bytes != size_bytes:
        return None
    return note


def is_done(item: ShardItem, output: str, settings: PixelSettings) -> bool:
    """Tell whether an earlier run wrote this shard whole; its bytes are read, since sizes hardly differ."""
    note = find(item, output, settings)
    if note is None or note.quarantined:  # what was quarantined may have been mended
        return False
    return crc32c(storage.read_bytes(storage.join(output, item.path))) == note.shard.crc32c


def write(note: ShardNote, item: ShardItem, output: str) -> None:
    """Keep the note of an item whose shard stands."""
    values = dataclasses.asdict(note)
    arrays = {name: values.pop(name) for name in _ARRAYS}
    buffer = io.BytesIO()
    np.savez(buffer, text=json.dumps(values), **arrays)
    storage.write_bytes(location(item, output), buffer.getvalue())


def _from_bytes(data: bytes) -> ShardNote:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        values = json_text.parse(str(arrays["text"]))
        return ShardNote(
            item_sha256=values["item_sha256"],
            shard=Shard(**values["shard"]),
            quarantined=tuple(LeftOut(**entry) for entry in values["quarantined"]),
            oddities=tuple((image_id, text) for image_id, text in values["oddities"]),
            **{name: arrays[name] for name in _ARRAYS},
        )
