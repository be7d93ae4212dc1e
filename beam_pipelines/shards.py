"""The work of one item: images decoded, reduced, framed and published as one shard, with a note of it.

It runs in Beam's workers, whatever the runner. The note (`.work/<shard>.npz`) is written after the shard, so
its presence means that the shard is done; the launcher assembles index and manifest from the notes, and a
resumed conversion skips what has one.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import cv2
import google_crc32c
import numpy as np

from beam_pipelines.plan import ImageRow, PixelSettings, ShardItem
from records import example, index, pixels, storage, tfrecord
from records.errors import ImageError, StorageError
from records.manifest import Quarantined, Shard, crc32c

WORK_FOLDER = ".work"


@dataclass(frozen=True)
class ShardNote:
    """What was written into one shard; n records.

    Attributes:
        item_sha256: of the work item, so that a note of other rows is not taken for this one's.
        shard: path, size, CRC32C and number of records.
        quarantined: images that couldn't be read.
        pixel_sum: of all stored grey values.
        pixel_square_sum: of their squares; both are exact integers.
        index: (n,) of `records.index.DTYPE`, with shard number 0.
        patient_ids: (n,) int64.
        labels: (n, 14) uint8.
    """

    item_sha256: str
    shard: Shard
    quarantined: tuple[Quarantined, ...]
    pixel_sum: int
    pixel_square_sum: int
    index: np.ndarray
    patient_ids: np.ndarray
    labels: np.ndarray


def write_shard(item: ShardItem, output: str, settings: PixelSettings, progress_folder: str = "") -> str:
    """Do one work item, unless its note and its shard are there already; return the shard's path."""
    if _is_done(item, output, settings):
        _report(progress_folder, item.path, len(item.rows), len(item.rows))
        return item.path
    cv2.setNumThreads(1)  # the runner's processes share the cores
    writer = _ShardWriter(settings)
    with storage.atomic_writer(storage.join(output, item.path)) as file:
        for done, row in enumerate(item.rows, start=1):
            writer.add(file, row)
            _report(progress_folder, item.path, done, len(item.rows))
    storage.write_bytes(note_location(item, output), _note_bytes(writer.note(item)))
    return item.path


def _is_done(item: ShardItem, output: str, settings: PixelSettings) -> bool:
    """Tell whether an earlier run wrote this shard whole; its bytes are read, since sizes hardly differ."""
    note = find_note(item, output, settings)
    if note is None or note.quarantined:  # what was quarantined may have been mended
        return False
    return crc32c(storage.read_bytes(storage.join(output, item.path))) == note.shard.crc32c


def find_note(item: ShardItem, output: str, settings: PixelSettings) -> ShardNote | None:
    """Return the note of an item that is done: same rows, and the shard stands there with its size."""
    location = note_location(item, output)
    try:
        if not storage.exists(location):
            return None
        note = _read_note(storage.read_bytes(location))
        size_bytes = storage.size(storage.join(output, item.path))
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if note.item_sha256 != item_sha256(item, settings) or note.shard.size_bytes != size_bytes:
        return None
    return note


def item_sha256(item: ShardItem, settings: PixelSettings) -> str:
    """Name an item by what decides its bytes; where the images lie is not part of it."""
    rows = [{**row._asdict(), "location": "", "labels": row.labels.hex()} for row in item.rows]
    text = json.dumps([item.path, settings.side_px, settings.stored_channels, rows])
    return hashlib.sha256(text.encode()).hexdigest()


class _ShardWriter:
    """Appends records to an open shard and keeps account of them."""

    def __init__(self, settings: PixelSettings) -> None:
        self._settings = settings
        self._crc = google_crc32c.Checksum()
        self._offset = 0
        self._pixel_sum = self._pixel_square_sum = 0
        self._index: list[np.ndarray] = []
        self._rows: list[ImageRow] = []
        self._quarantined: list[Quarantined] = []

    def add(self, file: IO[bytes], row: ImageRow) -> None:
        """Append one image, or quarantine it with the reason."""
        try:
            grey = pixels.resize(pixels.decode_grey(storage.read_bytes(row.location)), self._settings.side_px)
        except ImageError as error:
            self._quarantined.append(Quarantined(row.image_id, str(error)))
            return
        except StorageError as error:
            # A store that fails is no fault of the image; one that has lost it is.
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            self._quarantined.append(Quarantined(row.image_id, "the file vanished while it was converted"))
            return
        payload = example.encode(self._record(row, grey))
        framed = io.BytesIO()
        tfrecord.write(framed, payload)
        file.write(framed.getbuffer())
        self._crc.update(framed.getvalue())
        frame = tfrecord.Frame(self._offset + tfrecord.HEADER_BYTES, payload)
        self._index.append(index.of_frames([frame], shard=0))
        self._offset += framed.tell()
        self._rows.append(row)
        self._pixel_sum += int(grey.sum(dtype=np.int64))
        self._pixel_square_sum += round(cv2.norm(grey, cv2.NORM_L2SQR))

    def note(self, item: ShardItem) -> ShardNote:
        """Return the account of the shard."""
        shard = Shard(item.path, self._offset, self._crc.digest().hex(), len(self._rows))
        labels = b"".join(row.labels for row in self._rows)
        return ShardNote(
            item_sha256=item_sha256(item, self._settings),
            shard=shard,
            quarantined=tuple(self._quarantined),
            pixel_sum=self._pixel_sum,
            pixel_square_sum=self._pixel_square_sum,
            index=np.concatenate(self._index) if self._index else np.empty(0, index.DTYPE),
            patient_ids=np.array([row.patient_id for row in self._rows], np.int64),
            labels=np.frombuffer(labels, np.uint8).reshape(len(self._rows), -1 if labels else 14),
        )

    def _record(self, row: ImageRow, grey: np.ndarray) -> example.Record:
        side_px, channels = self._settings.side_px, self._settings.stored_channels
        image = np.repeat(grey[..., None], channels, axis=-1) if channels > 1 else grey
        return example.Record(
            image=image.tobytes(),
            encoding="raw",
            shape=(side_px, side_px, channels),
            image_id=row.image_id,
            patient_id=row.patient_id,
            labels=np.frombuffer(row.labels, np.uint8),
            view=row.view,
            sex=row.sex,
            age_years=row.age_years,
            follow_up=row.follow_up,
        )


def note_location(item: ShardItem, output: str) -> str:
    """Return where the note of an item stands."""
    return storage.join(output, WORK_FOLDER, f"{item.path}.npz")


def _note_bytes(note: ShardNote) -> bytes:
    shard, quarantined = note.shard, [[entry.image_id, entry.reason] for entry in note.quarantined]
    text = json.dumps(
        {
            "item_sha256": note.item_sha256,
            "shard": [shard.path, shard.size_bytes, shard.crc32c, shard.records],
            "quarantined": quarantined,
            "pixel_sum": note.pixel_sum,
            "pixel_square_sum": note.pixel_square_sum,
        }
    )
    buffer = io.BytesIO()
    np.savez(buffer, text=text, index=note.index, patient_ids=note.patient_ids, labels=note.labels)
    return buffer.getvalue()


def _read_note(data: bytes) -> ShardNote:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        values = json.loads(str(arrays["text"]))
        return ShardNote(
            item_sha256=values["item_sha256"],
            shard=Shard(*values["shard"]),
            quarantined=tuple(Quarantined(*entry) for entry in values["quarantined"]),
            pixel_sum=values["pixel_sum"],
            pixel_square_sum=values["pixel_square_sum"],
            index=arrays["index"],
            patient_ids=arrays["patient_ids"],
            labels=arrays["labels"],
        )


def _report(folder: str, path: str, done: int, total: int) -> None:
    """Leave the number of images done where a launcher on the same machine can see it."""
    if not folder or (done % 8 and done != total) or not Path(folder).is_dir():
        return
    counter = Path(folder, path.replace("/", "_"))
    # A torn read must not happen: a rename replaces the number at once.
    scratch = counter.with_suffix(f".{os.getpid()}.tmp")
    scratch.write_text(str(done))
    scratch.replace(counter)


def read_progress(folder: str) -> int:
    """Return how many images the workers have done so far."""
    return sum(_counts(folder))


def _counts(folder: str) -> Iterator[int]:
    for counter in Path(folder).glob("*.tfrecord"):
        yield int(counter.read_text() or 0)
