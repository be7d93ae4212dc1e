"""What the records say beside their pictures, column by column.

The manifest holds the counts; patients, ages, sexes, views and which findings go together stand in the
records alone. Pictures are skipped, so a data set takes seconds and a few hundred bytes of memory a record.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from engine.input import cache
from engine.report import stored_records
from records import example
from records.errors import RecordError, ShardError
from records.labels import FINDINGS
from records.manifest import Manifest
from records.splits import SPLITS

# Remote shards that are fetched at a time.
_FETCHES = 4


@dataclass(frozen=True)
class Columns:
    """N records, F = 14 findings in `labels.FINDINGS` order.

    Attributes:
        rows: (N,) of `index.DTYPE`, where each record lies.
        patient_ids: (N,) int64.
        labels: (N, F) uint8, 1 where the finding is reported.
        age_years: (N,) float32, NaN where it isn't known.
        sex: (N,) str, M or F.
        view: (N,) str, PA or AP.
        follow_up: (N,) int64, 0 for the first visit.
    """

    rows: np.ndarray
    patient_ids: np.ndarray
    labels: np.ndarray
    age_years: np.ndarray
    sex: np.ndarray
    view: np.ndarray
    follow_up: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def read(data_set: Manifest) -> dict[str, Columns]:
    """Read the columns of each split; remote shards are fetched to the cache, where training finds them.

    Args:
        data_set: the manifest.

    Raises:
        ShardError: an index or shard is missing, truncated or damaged, or the records' findings aren't those
            that the manifest counts.
        StorageError: the store can't be reached, or the cache can't be written.
    """
    indexes = {name: stored_records.load_index(data_set, name) for name in SPLITS}
    jobs = [(name, number) for name in SPLITS for number in range(len(data_set.splits[name].shards))]
    parts: dict[str, list[Columns]] = {name: [_columns(indexes[name][:0], [])] for name in SPLITS}

    def read_one(job: tuple[str, int]) -> Columns:
        name, number = job
        rows = indexes[name][indexes[name]["shard"] == number]
        with cache.held_path(data_set, data_set.splits[name].shards[number]) as path:
            return _columns(rows, _read_shard(path, rows))

    with ThreadPoolExecutor(_FETCHES) as pool:
        try:
            for (name, _), columns in zip(jobs, _shown(pool.map(read_one, jobs), len(jobs)), strict=True):
                parts[name].append(columns)
        finally:
            pool.shutdown(cancel_futures=True)
    found = {name: joined(columns) for name, columns in parts.items()}
    for name, columns in found.items():
        _check(data_set, name, columns)
    return found


def joined(parts: Iterable[Columns]) -> Columns:
    """Return the records of all parts, in their order."""
    columns = list(parts)
    return Columns(
        *(np.concatenate([getattr(part, name) for part in columns]) for name in Columns.__annotations__)
    )


def _read_shard(path: Path, rows: np.ndarray) -> Iterator[example.Record]:
    """Yield the records of one shard with empty pictures."""
    picture_end = rows["image_offset"] + rows["image_bytes"]
    payload_end = rows["payload_offset"] + rows["payload_bytes"]
    before = _spans(rows["payload_offset"], rows["image_offset"])
    after = _spans(picture_end, payload_end)
    # Neighbours in turn: the end of one record and the start of the next share a page of the disk.
    parts = stored_records.read_parts(
        str(path), [span for pair in zip(before, after, strict=True) for span in pair]
    )
    for number, image_bytes in enumerate(rows["image_bytes"].tolist()):
        try:
            yield example.decode_without_picture(parts[2 * number], parts[2 * number + 1], image_bytes)
        except RecordError as error:
            raise ShardError(
                f"{path}: the record at byte {rows['payload_offset'][number]}: {error}; "
                "the shard is damaged: run the conversion again with --resume"
            ) from error


def _spans(start: np.ndarray, end: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(start.tolist(), (end - start).tolist(), strict=True))


def _columns(rows: np.ndarray, records: Iterable[example.Record]) -> Columns:
    found = list(records)
    return Columns(
        rows=rows,
        patient_ids=np.array([record.patient_id for record in found], np.int64),
        labels=np.array([record.labels for record in found], np.uint8).reshape(len(found), len(FINDINGS)),
        age_years=np.array([record.age_years for record in found], np.float32),
        sex=np.array([record.sex for record in found], str),
        view=np.array([record.view for record in found], str),
        follow_up=np.array([record.follow_up for record in found], np.int64),
    )


def _check(data_set: Manifest, name: str, columns: Columns) -> None:
    split = data_set.splits[name]
    counted = columns.labels.sum(axis=0, dtype=np.int64).tolist()
    for finding, found in zip(FINDINGS, counted, strict=True):
        if found != split.positives[finding]:
            raise ShardError(
                f"{data_set.location}: {found:,} {name} records show {finding}, the manifest says "
                f"{split.positives[finding]:,}; shards or manifest are stale: run "
                "`python -m beam_pipelines.audit` on the data set"
            )


def _shown(parts: Iterable[Columns], total: int) -> Iterable[Columns]:
    """Show on a terminal how far the reading is."""
    return track(
        parts,
        "reading shards",
        total=total,
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
