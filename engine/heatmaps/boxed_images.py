"""Which drawn boxes can be judged: those of pictures that the data set holds, in splits that may be read.

K = boxes of one finding in one picture.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engine.heatmaps import boxes as geometry
from engine.input.reader import ShardReader
from records import storage
from records.errors import RunError
from records.labels import FINDINGS
from records.manifest import Manifest
from records.pixels import USUAL_SIDE_PX
from records.table import Box

ODDITIES_NAME = "oddities.csv"
_SIZE = re.compile(r"(\d+) x (\d+) pixels")


@dataclass(frozen=True, eq=False)
class BoxedFinding:
    """One finding in one picture, with the boxes that were drawn of it.

    Attributes:
        image_id: of the picture.
        patient_id: of its patient.
        split: that it is in.
        row: of that split.
        finding: that the boxes show.
        drawn: (K, 4) x, y, width and height in pixels of the original.
        stored: (K, 4) likewise in pixels of the stored picture.
    """

    image_id: str
    patient_id: int
    split: str
    row: int
    finding: str
    drawn: np.ndarray
    stored: np.ndarray

    @property
    def column(self) -> int:
        """Of the finding, in a model's logits."""
        return FINDINGS.index(self.finding)


class Selection(NamedTuple):
    """What can be judged of a box list.

    Attributes:
        boxed: sorted by split and row.
        left_out: how many boxes, by reason.
    """

    boxed: list[BoxedFinding]
    left_out: dict[str, int]


class _Place(NamedTuple):
    split: str
    row: int
    patient_id: int


def select(
    data_set: Manifest, listed: Sequence[Box], splits: Sequence[str], findings: Collection[str]
) -> Selection:
    """Find the boxed pictures in a data set, reading each record of the splits once, until all are found.

    Args:
        data_set: its manifest.
        listed: the boxes, in pixels of the originals.
        splits: that may be read.
        findings: that are wanted.

    Raises:
        ShardError: a shard is missing or damaged.
    """
    wanted = [box for box in listed if box.finding in findings]
    places = _places(data_set, {box.image_id for box in wanted}, splits)
    sizes = _unusual_sizes(data_set)
    quarantined = {entry.image_id for entry in data_set.quarantined}
    left_out = Counter({"of another finding": len(listed) - len(wanted)})
    of_pair: dict[tuple[str, str], list[tuple[list[float], np.ndarray]]] = {}
    side_px = data_set.image["side_px"]
    for box in wanted:
        if box.image_id not in places:
            left_out[_missing(box.image_id in quarantined, splits)] += 1
            continue
        width_px, height_px = sizes.get(box.image_id, (USUAL_SIDE_PX, USUAL_SIDE_PX))
        drawn = [box.x_px, box.y_px, box.width_px, box.height_px]
        (stored,) = geometry.to_stored(np.array([drawn]), width_px, height_px, side_px)
        if stored[2:].min() <= 0:
            left_out["outside of its picture"] += 1
            continue
        of_pair.setdefault((box.image_id, box.finding), []).append((drawn, stored))
    boxed = [_boxed(pair, places[pair[0]], found) for pair, found in of_pair.items()]
    order = {split: number for number, split in enumerate(splits)}
    boxed.sort(key=lambda one: (order[one.split], one.row, one.column))
    return Selection(boxed, {reason: count for reason, count in left_out.items() if count})


def read_pictures(reader: ShardReader, boxed: Sequence[BoxedFinding]) -> tuple[np.ndarray, np.ndarray]:
    """Read the pictures of some boxed findings of one split, each once.

    Returns:
        images: (B, S, S, C) uint8.
        pictures: row of `images` for each finding.
    """
    rows, pictures = np.unique([one.row for one in boxed], return_inverse=True)
    images, _ = reader.gather(rows)
    return images, pictures


def _boxed(pair: tuple[str, str], place: _Place, found: list[tuple[list[float], np.ndarray]]) -> BoxedFinding:
    drawn, stored = zip(*found, strict=True)
    return BoxedFinding(
        pair[0], place.patient_id, place.split, place.row, pair[1], np.array(drawn), np.stack(stored)
    )


def _places(data_set: Manifest, image_ids: set[str], splits: Sequence[str]) -> dict[str, _Place]:
    found: dict[str, _Place] = {}
    # The last first: the NIH's boxes are all of the published test list.
    for split in reversed(splits):
        if len(found) == len(image_ids) or not data_set.splits[split].images:
            continue
        with ShardReader(data_set, split) as reader:
            names, patient_ids = reader.identities()
        for row in np.flatnonzero(np.isin(names, list(image_ids))).tolist():
            found[str(names[row])] = _Place(split, row, int(patient_ids[row]))
    return found


def _missing(quarantined: bool, splits: Sequence[str]) -> str:
    if quarantined:
        return "its image failed a check of the conversion"
    if "test" in splits:
        return "its image is not in the data set"
    return f"its image is not in {' or '.join(splits)}, and test is not judged yet"


def _unusual_sizes(data_set: Manifest) -> dict[str, tuple[int, int]]:
    """Return width and height of the originals that weren't 1024 x 1024, as the conversion listed them."""
    location = storage.join(data_set.folder, ODDITIES_NAME)
    if not storage.exists(location):
        return {}
    try:
        rows = csv.reader(io.StringIO(storage.read_bytes(location).decode()))
        sized = ((image_id, _SIZE.match(oddity)) for image_id, oddity in rows)
        return {image_id: (int(size[1]), int(size[2])) for image_id, size in sized if size}
    except ValueError as error:
        raise RunError(
            f"{location}: damaged ({error}), so that the originals' sizes aren't known: run the conversion "
            "again with --resume"
        ) from error
