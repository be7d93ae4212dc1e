"""The end of a conversion: the shards' notes become index, quarantine list, card and, last, the manifest."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from beam_pipelines import card
from beam_pipelines.plan import Request
from beam_pipelines.shards import ShardNote
from records import index, pixels, storage
from records.errors import ImageError
from records.labels import FINDINGS
from records.manifest import (
    CARD_NAME,
    FILE_NAME,
    LICENCE,
    QUARANTINE_NAME,
    Manifest,
    Quarantined,
    Split,
    StoredFile,
    crc32c,
)
from records.splits import SPLITS


def finish(
    notes: dict[str, list[ShardNote]], request: Request, output: str, max_quarantined: float
) -> Manifest:
    """Write what belongs beside the shards; the manifest last.

    Args:
        notes: of every shard, by split, in the shards' order.
        request: what was asked for.
        output: the data set's folder or prefix.
        max_quarantined: share of the images that may be unreadable.

    Raises:
        ImageError: more images than that were unreadable; nothing but the quarantine list is written.
    """
    flat = [note for split in SPLITS for note in notes[split]]
    quarantined = tuple(
        sorted((entry for note in flat for entry in note.quarantined), key=lambda e: e.image_id)
    )
    _write_quarantine(quarantined, output)
    check_quarantined(quarantined, sum(note.shard.records for note in flat), output, max_quarantined)
    manifest = Manifest(
        source=request.source,
        split=request.split,
        image={
            "side_px": request.pixels.side_px,
            "stored_channels": request.pixels.stored_channels,
            "encoding": "raw",
            "resize_kernel": pixels.RESIZE_KERNEL,
            "records_per_shard": request.records_per_shard,
        },
        statistics=statistics(notes["train"], request.pixels.side_px),
        splits={split: _split(split, notes[split], output) for split in SPLITS},
        patients_in_two_splits=patients_in_two_splits(notes),
        quarantined=quarantined,
        versions=request.versions,
        request_sha256=request.sha256,
        licence="Phantom data: drawn by this project, no patients." if request.source["phantom"] else LICENCE,
        location=storage.join(output, FILE_NAME),
    )
    storage.write_bytes(storage.join(output, CARD_NAME), card.render(manifest).encode())
    storage.write_bytes(manifest.location, manifest.to_json())
    return manifest


def statistics(notes: Sequence[ShardNote], side_px: int) -> dict[str, Any]:
    """Return mean and population deviation of all training pixels (0 to 255), from exact integer sums."""
    count = sum(note.shard.records for note in notes) * side_px * side_px
    if not count:
        return {"mean": None, "deviation": None, "pixels": 0}
    total = sum(note.pixel_sum for note in notes)
    squares = sum(note.pixel_square_sum for note in notes)
    # In integers up to the last division: nothing cancels.
    variance = (squares * count - total * total) / (count * count)
    return {"mean": total / count, "deviation": math.sqrt(variance), "pixels": count}


def patients_in_two_splits(notes: dict[str, list[ShardNote]]) -> int:
    """Count the patients whose records stand in more than one split."""
    patients = [_distinct(notes[split]) for split in SPLITS]
    return sum(map(len, patients)) - len(np.unique(np.concatenate(patients)))


def _split(name: str, notes: Sequence[ShardNote], output: str) -> Split:
    labels = np.concatenate([note.labels for note in notes] or [np.empty((0, len(FINDINGS)), np.uint8)])
    patient_ids = np.concatenate([note.patient_ids for note in notes] or [np.empty(0, np.int64)])
    positives = labels.sum(axis=0, dtype=np.int64)
    images = len(labels)
    return Split(
        images=images,
        patients=len(np.unique(patient_ids)),
        positives=dict(zip(FINDINGS, positives.tolist(), strict=True)),
        positive_patients={
            finding: len(np.unique(patient_ids[labels[:, column] == 1]))
            for column, finding in enumerate(FINDINGS)
        },
        prevalence=dict(zip(FINDINGS, (positives / max(images, 1)).tolist(), strict=True)),
        shards=tuple(note.shard for note in notes),
        index=_write_index(name, notes, output),
    )


def _write_index(split: str, notes: Sequence[ShardNote], output: str) -> StoredFile:
    parts = []
    for number, note in enumerate(notes):
        rows = note.index.copy()
        rows["shard"] = number
        parts.append(rows)
    data = index.to_bytes(np.concatenate(parts or [np.empty(0, index.DTYPE)]))
    path = f"{split}/{index.FILE_NAME}"
    storage.write_bytes(storage.join(output, path), data)
    return StoredFile(path, len(data), crc32c(data))


def _distinct(notes: Sequence[ShardNote]) -> np.ndarray:
    return np.unique(np.concatenate([note.patient_ids for note in notes] or [np.empty(0, np.int64)]))


def _write_quarantine(quarantined: Sequence[Quarantined], output: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["Image Index", "reason"])
    writer.writerows([entry.image_id, entry.reason] for entry in quarantined)
    storage.write_bytes(storage.join(output, QUARANTINE_NAME), text.getvalue().encode())


def check_quarantined(
    quarantined: Sequence[Quarantined], records: int, output: str, max_quarantined: float
) -> None:
    total = records + len(quarantined)
    if not quarantined or len(quarantined) <= max_quarantined * total:
        return
    first = quarantined[0]
    raise ImageError(
        f"{len(quarantined):,} of {total:,} images can't be read, more than "
        f"--max_quarantined={max_quarantined:g} allows: {first.image_id}: {first.reason}; "
        f"all are listed in {storage.join(output, QUARANTINE_NAME)}: mend them, "
        "or raise --max_quarantined and add --resume"
    )
