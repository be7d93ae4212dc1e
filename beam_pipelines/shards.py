"""The work of one item: images checked, reduced, framed and published as one shard, with a note of it.

It runs in Beam's workers, whatever the runner.
"""

from __future__ import annotations

import os
from typing import IO

import cv2
import google_crc32c
import numpy as np

from beam_pipelines import claims, counters, notes, reading
from beam_pipelines.checked import FINGERPRINT_BYTES
from beam_pipelines.image_files import check_size
from beam_pipelines.notes import ShardNote
from beam_pipelines.plan import ImageRow, PixelSettings, ShardItem, library_versions
from records import example, index, picture, storage, tfrecord
from records.errors import ImageError, StorageError, WorkerError
from records.labels import FINDINGS
from records.manifest import LeftOut, Shard

# As many at a time are handed to the disk while the next ones are decoded.
_RECORDS_TO_DISK = 64


def write_shard(
    item: ShardItem,
    output: str,
    settings: PixelSettings,
    versions: dict[str, str],
    owner: str,
    counter_folder: str = "",
) -> str:
    """Do one work item, unless its note and its shard are there already; return the shard's path.

    Args:
        item: the shard's rows.
        output: folder or prefix of the data set.
        settings: how pictures are stored.
        versions: of the libraries that make the pixels, as the manifest will name them.
        owner: the run's name in the output's claim.
        counter_folder: where the number of images done is left.

    Raises:
        WorkerError: this worker has other versions.
        ManifestError: another conversion has begun to write here; nothing is published.
        StorageError: the store fails.
    """
    here = library_versions()
    if here != versions:
        raise WorkerError(f"a worker has {_named(here)}; the launcher {_named(versions)}: install the same")
    if notes.is_done(item, output, settings):
        counters.report(counter_folder, item.path, len(item.rows), len(item.rows))
        return item.path
    cv2.setNumThreads(1)  # the runner's processes share the cores
    writer = _ShardWriter(settings)
    with storage.atomic_writer(storage.join(output, item.path)) as file:
        begun = 0
        for done, row in enumerate(item.rows, start=1):
            writer.add(file, row)
            counters.report(counter_folder, item.path, done, len(item.rows))
            if done % _RECORDS_TO_DISK == 0:
                begun = _begin_writing(file, begun)
        claims.check(output, owner)
    notes.write(writer.note(item), item, output)
    return item.path


def _begin_writing(file: IO[bytes], begun: int) -> int:
    """Let the kernel write to disk what came since offset `begun`; publishing then waits for the rest."""
    file.flush()
    end = file.tell()
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), begun, end - begun, os.POSIX_FADV_DONTNEED)
    return end


class _ShardWriter:
    """Appends records to an open shard and keeps account of them."""

    def __init__(self, settings: PixelSettings) -> None:
        self._settings = settings
        self._crc = google_crc32c.Checksum()
        self._offset = 0
        self._pixel_sums: list[tuple[int, int]] = []
        self._fingerprints: list[bytes] = []
        self._index: list[tuple[int, ...]] = []
        self._rows: list[ImageRow] = []
        self._oddities: list[tuple[str, str]] = []
        self._quarantined: list[LeftOut] = []

    def add(self, file: IO[bytes], row: ImageRow) -> None:
        """Append one image, or quarantine it with the reason."""
        try:
            check_size(row.size_bytes)
            image = reading.load(row.location, self._settings.side_px)
        except ImageError as error:
            self._quarantined.append(LeftOut(row.image_id, str(error)))
            return
        except StorageError as error:
            # A store that fails is no fault of the image; one that has lost it is.
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            self._quarantined.append(LeftOut(row.image_id, "the file vanished while it was converted"))
            return
        record = self._record(row, image.grey)
        self._append(file, record)
        self._rows.append(row)
        self._fingerprints.append(image.fingerprint)
        if image.oddity:
            self._oddities.append((row.image_id, image.oddity))
        # Of what a reader will see: JPEG changes the pixels.
        stored = picture.decode(record)[..., 0] if record.encoding == "jpeg" else image.grey
        self._pixel_sums.append(pixel_sums(stored))

    def _append(self, file: IO[bytes], record: example.Record) -> None:
        wrapping = example.wrap(record)
        frame = tfrecord.frame(wrapping.before, record.image, wrapping.after)
        file.write(frame)
        self._crc.update(frame)
        payload_bytes = len(frame) - tfrecord.HEADER_BYTES - tfrecord.FOOTER_BYTES
        start = self._offset + tfrecord.HEADER_BYTES
        self._index.append(index.row(0, start, payload_bytes, wrapping.layout))
        self._offset += len(frame)

    def note(self, item: ShardItem) -> ShardNote:
        """Return the account of the shard."""
        labels = b"".join(row.labels for row in self._rows)
        sums = np.array(self._pixel_sums, np.int64).reshape(-1, 2)
        return ShardNote(
            item_sha256=notes.item_sha256(item, self._settings),
            shard=Shard(item.path, self._offset, self._crc.digest().hex(), len(self._rows)),
            quarantined=tuple(self._quarantined),
            oddities=tuple(self._oddities),
            index=np.array(self._index, index.DTYPE),
            image_ids=np.array([row.image_id for row in self._rows], np.str_),
            patient_ids=np.array([row.patient_id for row in self._rows], np.int64),
            labels=np.frombuffer(labels, np.uint8).reshape(-1, len(FINDINGS)),
            fingerprints=np.frombuffer(b"".join(self._fingerprints), np.uint8).reshape(-1, FINGERPRINT_BYTES),
            pixel_sums=sums[:, 0],
            pixel_square_sums=sums[:, 1],
        )

    def _record(self, row: ImageRow, grey: np.ndarray) -> example.Record:
        settings = self._settings
        return example.Record(
            image=picture.encode(
                grey,
                channels=settings.stored_channels,
                encoding=settings.encoding,
                jpeg_quality=settings.jpeg_quality,
            ),
            encoding=settings.encoding,
            shape=(settings.side_px, settings.side_px, settings.stored_channels),
            image_id=row.image_id,
            patient_id=row.patient_id,
            labels=np.frombuffer(row.labels, np.uint8),
            view=row.view,
            sex=row.sex,
            age_years=row.age_years,
            follow_up=row.follow_up,
        )


def _named(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def pixel_sums(grey: np.ndarray) -> tuple[int, int]:
    """Return the exact sum of the values of a (rows, columns) uint8 picture, and that of their squares."""
    grey = np.ascontiguousarray(grey)
    return round(cv2.norm(grey, cv2.NORM_L1)), round(cv2.norm(grey, cv2.NORM_L2SQR))
