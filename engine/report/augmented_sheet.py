"""A contact sheet of augmentation: records as they are stored, and as training sees them epoch by epoch.

The pictures are made by the layer that training uses, so this loads Keras, but not before a sheet is drawn.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np

from engine import config as configs
from engine.config import AugmentConfig
from engine.input import transforms
from engine.report import contact_sheet, stored_records
from records import manifest, picture
from records.errors import UsageError
from records.example import Record
from records.labels import FINDINGS
from records.manifest import Manifest

# Records lie in the shards at random, so the first few hold some of each finding.
_SHARDS_LOOKED_INTO = 4


def run(data: str, config: str | None, png: str | None) -> int:
    """Write the sheet that a run with a config would see.

    Args:
        data: location of the manifest or of its folder.
        config: path of the run's config.
        png: where to write the sheet.

    Returns:
        0.

    Raises:
        UsageError: one of the two is missing, or there is nothing to show.
        CxrError: the config, or the data set, is missing or damaged.
    """
    if not config or not png:
        missing, given = ("--config", "--augmented") if png else ("--augmented", "--config")
        raise UsageError(f"{given} without {missing}; a sheet of augmented images needs both")
    settings = configs.load(config)
    if not settings.augment.is_on:
        raise UsageError(f"{config}: every range of `augment` is 0; there is nothing to show")
    shown = write(manifest.load(data), settings.augment, settings.train.seed, png)
    print(f"{png}: {len(shown)} images", file=sys.stderr)
    return 0


def write(
    data_set: Manifest, config: AugmentConfig, seed: int, path: str | Path, records: int = 6, views: int = 6
) -> list[str]:
    """Write the sheet as a PNG file, a row a record; arguments and errors are those of `tiles`.

    Returns:
        The image ids of the rows.
    """
    rows = tiles(data_set, config, seed, records, views)
    sheet = contact_sheet.draw([tile for row in rows for tile in row], columns=1 + views)
    contact_sheet.write_png(path, sheet)
    return [row[0].image_id for row in rows]


def tiles(
    data_set: Manifest, config: AugmentConfig, seed: int, records: int, views: int
) -> list[list[Record]]:
    """Return a row a training record: as it is stored, then as each of the first epochs varies it.

    Where `config` leaves the records themselves as they are, these are their first repeats.

    Args:
        data_set: the manifest.
        config: how pictures are varied.
        seed: of the run.
        records: how many, of as many rare findings as there are.
        views: epochs, from 0 on.

    Raises:
        UsageError: no record or no view is asked for, or the training split is empty.
        ShardError: index or shard are missing or damaged.
        RecordError: a picture can't be decoded.
    """
    if records < 1 or views < 1:
        raise UsageError(f"a sheet of {records} records in {views} views; expected at least 1 of each")
    rows, shown = _pick(data_set, records)
    stored = np.stack([picture.decode(record) for record in shown])
    columns = [shown]
    for epoch in range(views):
        pictures = _augmented(stored, config, seed, epoch, rows)
        columns.append([_view(*pair, epoch) for pair in zip(shown, pictures, strict=True)])
    return [list(row) for row in zip(*columns, strict=True)]


def choose(labels: np.ndarray, positives: np.ndarray, count: int) -> np.ndarray:
    """Choose records of different findings, the rarest finding first.

    Args:
        labels: (N, 14) of 0 and 1.
        positives: (14,) images of the whole split with each finding.
        count: how many to choose.

    Returns:
        (min(count, N),) indices; for each finding in turn the first record that has it, turn by turn, and
        at last records without any.
    """
    chosen: list[int] = []
    free = np.ones(len(labels), bool)
    while len(chosen) < count and labels[free].any():
        for finding in np.argsort(positives, kind="stable"):
            having = np.flatnonzero(free & (labels[:, finding] > 0))[:1]
            chosen.extend(having.tolist())
            free[having] = False
    return np.array([*chosen, *np.flatnonzero(free)][:count], np.int64)


def _pick(data_set: Manifest, count: int) -> tuple[np.ndarray, list[Record]]:
    """Return the rows (R,) and the records that the sheet shows."""
    split = data_set.splits["train"]
    if not split.images:
        raise UsageError(f"{data_set.location}: the train split is empty; there is nothing to augment")
    index = stored_records.load_index(data_set, "train")
    index = index[index["shard"] < _SHARDS_LOOKED_INTO]
    sizes = np.full(len(index), len(FINDINGS))
    spans = stored_records.read_spans(data_set, "train", index, "labels_offset", sizes)
    labels = np.frombuffer(b"".join(spans), np.uint8).reshape(len(index), len(FINDINGS))
    positives = np.array([split.positives[finding] for finding in FINDINGS])
    rows = choose(labels, positives, count)
    return rows, stored_records.read_records(data_set, "train", index[rows])


def _augmented(
    stored: np.ndarray, config: AugmentConfig, seed: int, epoch: int, rows: np.ndarray
) -> np.ndarray:
    """(R, S, S, C) uint8 -> (R, S, S, C) uint8 as that epoch of a run shows them."""
    from engine import backend

    backend.load()
    from engine.model.augment import Augment

    repeats = np.full(len(rows), 0 if config.originals else 1)
    return np.asarray(Augment()(stored, transforms.draw(config, seed, epoch, rows, repeats)))


def _view(record: Record, pixels: np.ndarray, epoch: int) -> Record:
    title = f"{record.image_id}, epoch {epoch}"
    return dataclasses.replace(record, image=pixels.tobytes(), encoding="raw", image_id=title)
