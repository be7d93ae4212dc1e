"""The end of a conversion: the shards' notes become index, quarantine list, card and, last, the manifest."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from beam_pipelines import card, duplicates
from beam_pipelines.notes import ShardNote
from beam_pipelines.plan import Request
from records import class_weights, index, pixels, storage
from records.errors import ImageError, ShardError, StorageError
from records.labels import FINDINGS
from records.manifest import (
    CARD_NAME,
    FILE_NAME,
    LICENCE,
    ODDITIES_NAME,
    QUARANTINE_NAME,
    LeftOut,
    Manifest,
    Split,
    StoredFile,
    crc32c,
)
from records.splits import SPLITS


def finish(
    notes: dict[str, list[ShardNote]], request: Request, excluded: Mapping[str, str], output: str
) -> Manifest:
    """Write what belongs beside the shards; return the manifest, which the caller writes last.

    Args:
        notes: of every shard, by split, in the shards' order.
        request: what was asked for.
        excluded: the images that lists leave out, with the reasons.
        output: the data set's folder or prefix.
    """
    flat = [note for split in SPLITS for note in notes[split]]
    splits = {split: _split(split, notes[split], output) for split in SPLITS}
    train = splits["train"]
    manifest = Manifest(
        source=request.source,
        split=request.split,
        image=_image(request),
        statistics=statistics(notes["train"], request.pixels.side_px),
        splits=splits,
        patients_in_two_splits=patients_in_two_splits(notes),
        quarantined=quarantined(flat),
        excluded=tuple(LeftOut(image_id, reason) for image_id, reason in sorted(excluded.items())),
        oddities=_write_oddities(flat, output),
        class_weights=class_weights.balanced(train.positives, train.images),
        versions=request.versions,
        request_sha256=request.sha256,
        licence="Phantom data: drawn by this project, no patients." if request.source["phantom"] else LICENCE,
        location=storage.join(output, FILE_NAME),
    )
    restore(manifest)
    return manifest


def _image(request: Request) -> dict[str, Any]:
    settings = request.pixels
    quality = {} if settings.jpeg_quality is None else {"jpeg_quality": settings.jpeg_quality}
    return {
        "side_px": settings.side_px,
        "stored_channels": settings.stored_channels,
        "encoding": settings.encoding,
        **quality,
        "resize_kernel": pixels.RESIZE_KERNEL,
        "records_per_shard": request.records_per_shard,
    }


def statistics(notes: Sequence[ShardNote], side_px: int) -> dict[str, Any]:
    """Return mean and population deviation of all training pixels (0 to 255), from exact integer sums."""
    count = sum(note.shard.records for note in notes) * side_px * side_px
    if not count:
        return {"mean": None, "deviation": None, "pixels": 0}
    # Python's integers: 112,120 sums of a picture's squares fit 64 bits only just.
    total = sum(sum(note.pixel_sums.tolist()) for note in notes)
    squares = sum(sum(note.pixel_square_sums.tolist()) for note in notes)
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


def quarantined(notes: Iterable[ShardNote], copies: Iterable[LeftOut] = ()) -> tuple[LeftOut, ...]:
    """Return the images that failed a check, by name: those that the notes name, and copies of others."""
    entries = (entry for note in notes for entry in note.quarantined)
    return tuple(sorted((*entries, *copies), key=lambda entry: entry.image_id))


def write_quarantine(entries: Iterable[LeftOut], output: str) -> None:
    """Write the list of the images that failed a check, `quarantine.csv`."""
    storage.write_bytes(storage.join(output, QUARANTINE_NAME), _quarantine_csv(entries))


def derived_files(manifest: Manifest) -> dict[str, bytes]:
    """Return the files beside a manifest that follow from it alone, by their paths."""
    return {
        CARD_NAME: card.render(manifest).encode(),
        QUARANTINE_NAME: _quarantine_csv(manifest.quarantined),
    }


def restore(manifest: Manifest) -> None:
    """Write those of the files that follow from a manifest that are missing or altered."""
    for path, data in derived_files(manifest).items():
        location = storage.join(manifest.folder, path)
        if not storage.exists(location) or storage.read_bytes(location) != data:
            storage.write_bytes(location, data)


def count_oddities(manifest: Manifest) -> dict[str, int]:
    """Return how many images `oddities.csv` lists as unusual in which way.

    Raises:
        ShardError: it is missing or no such list.
    """
    location = storage.join(manifest.folder, ODDITIES_NAME)
    try:
        rows = list(csv.reader(io.StringIO(storage.read_bytes(location).decode())))
        return dict(sorted(Counter(oddity for _, oddity in rows[1:]).items()))
    except (StorageError, ValueError) as error:
        raise ShardError(f"{location}: missing or damaged: run the conversion again with --resume") from error


def _quarantine_csv(entries: Iterable[LeftOut]) -> bytes:
    return _csv("reason", [(entry.image_id, entry.reason) for entry in entries])


def _write_oddities(notes: Iterable[ShardNote], output: str) -> dict[str, int]:
    """List the images that are unusual, `oddities.csv`; return how many are so in which way."""
    rows = sorted(entry for note in notes for entry in note.oddities)
    storage.write_bytes(storage.join(output, ODDITIES_NAME), _csv("oddity", rows))
    return dict(sorted(Counter(oddity for _, oddity in rows).items()))


def _csv(column: str, rows: Iterable[tuple[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["Image Index", column])
    writer.writerows(rows)
    return text.getvalue().encode()


def check_quarantined(entries: Sequence[LeftOut], images: int, output: str, max_quarantined: float) -> None:
    """Refuse to go on when too many images failed.

    Args:
        entries: those that failed.
        images: all that were to be converted.
        output: where `quarantine.csv` stands.
        max_quarantined: share of the images that may fail.

    Raises:
        ImageError: more than that failed.
    """
    if len(entries) <= max_quarantined * images:
        return
    first = entries[0]
    copies = sum(entry.reason.startswith(duplicates.REASON) for entry in entries)
    advice = f" ({copies:,} are copies of others, which --allow_duplicates would keep)" if copies else ""
    raise ImageError(
        f"{len(entries):,} of {images:,} images failed the checks, more than "
        f"--max_quarantined={max_quarantined:g} allows: {first.image_id}: {first.reason}; "
        f"all are listed in {storage.join(output, QUARANTINE_NAME)}{advice}: mend them, "
        "or raise --max_quarantined and add --resume"
    )
