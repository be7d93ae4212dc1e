"""What is to be written: table, split and settings become one work item for each shard.

Pure: the same inputs give the same items, whatever the machine, the runner or the number of workers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import xxhash

from records.splits import SPLITS
from records.table import ImageTable

# Keys of a request's source that a resumed conversion may change, and a finished data set may not.
MENDABLE = ("files_sha256", "duplicates_allowed")


class File(Protocol):
    """An image that can be read: where it lies, its size, and what changes when it is replaced."""

    @property
    def location(self) -> str: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def version(self) -> str: ...


class ImageRow(NamedTuple):
    """One image and what the table says of it; `version_hash` is that of the file's size and version."""

    image_id: str
    location: str
    size_bytes: int
    version_hash: int
    patient_id: int
    labels: bytes
    view: str
    sex: str
    age_years: float
    follow_up: int


class ShardItem(NamedTuple):
    """One work item: the rows of one shard, and its path relative to the output."""

    path: str
    split: str
    rows: tuple[ImageRow, ...]


@dataclass(frozen=True)
class PixelSettings:
    """How pictures are stored; `jpeg_quality` is None unless the encoding is jpeg."""

    side_px: int = 320
    stored_channels: int = 1
    encoding: str = "raw"
    jpeg_quality: int | None = None


@dataclass(frozen=True)
class Request:
    """All that decides a conversion's output; equal requests give equal bytes."""

    source: dict[str, Any]
    split: dict[str, Any]
    pixels: PixelSettings
    records_per_shard: int
    images_sha256: str
    versions: dict[str, str]

    @property
    def sha256(self) -> str:
        """Name of this request: an unfinished conversion goes on only with the same one.

        What the table's file is called is no part of it, what it holds is. Nor is what a resumed conversion
        may mend: image files of other sizes (their shards are made anew) and whether copies stay.
        """
        values = asdict(self)
        for key in ("table", *MENDABLE):
            del values["source"][key]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def hash_names(names: Iterable[str]) -> str:
    """Hash a list of names, in its order."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that make the pixels."""
    return {name: metadata.version(name) for name in ("numpy", "kornia-rs")} | {"opencv": cv2.__version__}


def shard_items(
    table: ImageTable,
    assignment: np.ndarray,
    images: Mapping[str, File],
    *,
    records_per_shard: int,
    seed: int,
) -> list[ShardItem]:
    """Spread the images of each split over its shards at random.

    Args:
        table: the label table, N rows.
        assignment: (N,) index into `SPLITS`.
        images: the files by image name; rows without one are left out.
        records_per_shard: at most so many in a shard; a split's shards differ by one record at most.
        seed: of the spreading.

    Returns:
        One item for each shard, in the order of splits and shards.
    """
    present = np.fromiter((image_id in images for image_id in table.image_ids.tolist()), bool, len(table))
    items = []
    make_row = _row_maker(table, images)
    for code, split in enumerate(SPLITS):
        # Sorted by name first: the two releases of the table have different orders.
        rows = np.flatnonzero(present & (assignment == code))
        rows = rows[np.argsort(table.image_ids[rows], kind="stable")]
        rows = rows[np.random.RandomState([seed, code]).permutation(len(rows))]
        count = -(-len(rows) // records_per_shard)
        items += [
            ShardItem(_path(split, number, count), split, tuple(map(make_row, shard.tolist())))
            for number, shard in enumerate(np.array_split(rows, count) if count else [])
        ]
    return items


def _path(split: str, number: int, count: int) -> str:
    return f"{split}/{split}-{number:05d}-of-{count:05d}.tfrecord"


def _row_maker(table: ImageTable, images: Mapping[str, File]) -> Callable[[int], ImageRow]:
    """Return what makes a row of the plan of a row's number in the table."""
    # Lists of Python's own values are read several times as fast as arrays, value by value.
    image_ids, patient_ids = table.image_ids.tolist(), table.patient_ids.tolist()
    views, sexes = table.view.tolist(), table.sex.tolist()
    ages_years, follow_ups = table.age_years.tolist(), table.follow_up.tolist()
    labels, labels_bytes = table.labels.tobytes(), table.labels.shape[1]

    def make(row: int) -> ImageRow:
        file = images[image_ids[row]]
        return ImageRow(
            image_id=image_ids[row],
            location=file.location,
            size_bytes=file.size_bytes,
            version_hash=xxhash.xxh3_64_intdigest(f"{file.size_bytes} {file.version}".encode()),
            patient_id=patient_ids[row],
            labels=labels[row * labels_bytes : (row + 1) * labels_bytes],
            view=views[row],
            sex=sexes[row],
            age_years=ages_years[row],
            follow_up=follow_ups[row],
        )

    return make
