"""What the audit checks: the records are read once, shard by shard, and held against the manifest.

Faults are collected, each with its place, so that one audit shows all of them. Of the records stay only
counts, labels and names: memory doesn't grow with the size of a shard.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import cv2
import google_crc32c
import numpy as np

from beam_pipelines import finish
from records import class_weights, example, index, manifest, picture, storage, tfrecord
from records.errors import CxrError, RecordError, ShardError, StorageError
from records.labels import FINDINGS
from records.manifest import Manifest, Shard, Split
from records.splits import SPLITS
from records.table import ImageTable

# Where shard and manifest agree with each other, a resumed conversion has nothing to repair.
_RESUME = "run the conversion again with --resume"
_ANEW = "the data set was altered: convert into another folder"


class _Summed:
    """A file open for reading that counts and sums the bytes that pass."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._crc = google_crc32c.Checksum()
        self.size_bytes = 0

    def read(self, size_bytes: int = -1) -> bytes:
        data = self._file.read(size_bytes)
        self._crc.update(data)
        self.size_bytes += len(data)
        return data

    @property
    def crc32c(self) -> str:
        return self._crc.digest().hex()


@dataclass
class SplitAccount:
    """What was counted while a split's records were read.

    Attributes:
        whole: every record of every shard could be read, so that the counts mean something.
        patient_ids: of each record.
        labels: (14,) uint8 of each record.
        pixels: number of all stored grey values.
        pixel_sum: of all stored grey values.
        pixel_square_sum: of their squares.
    """

    whole: bool = True
    patient_ids: list[int] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    pixels: int = 0
    pixel_sum: int = 0
    pixel_square_sum: int = 0

    def add(self, record: example.Record, grey: np.ndarray) -> None:
        """Count a record; grey is its (rows, columns) uint8."""
        self.patient_ids.append(record.patient_id)
        self.labels.append(record.labels)
        self.pixels += grey.size
        self.pixel_sum += int(grey.sum(dtype=np.int64))
        self.pixel_square_sum += round(cv2.norm(np.ascontiguousarray(grey), cv2.NORM_L2SQR))

    def counts(self) -> dict[str, Any]:
        """Return what a manifest's split says of its records, by its keys."""
        labels = np.array(self.labels, np.int64).reshape(-1, len(FINDINGS))
        patient_ids = np.array(self.patient_ids, np.int64)
        positives = labels.sum(axis=0)
        return {
            "images": len(labels),
            "patients": len(np.unique(patient_ids)),
            "positives": dict(zip(FINDINGS, positives.tolist(), strict=True)),
            "positive_patients": {
                finding: len(np.unique(patient_ids[labels[:, column] == 1]))
                for column, finding in enumerate(FINDINGS)
            },
            "prevalence": dict(zip(FINDINGS, (positives / max(len(labels), 1)).tolist(), strict=True)),
        }

    def statistics(self) -> dict[str, Any]:
        """Return what a manifest says of the training pixels, by its keys."""
        if not self.pixels:
            return {"mean": None, "deviation": None, "pixels": 0}
        variance = (self.pixel_square_sum * self.pixels - self.pixel_sum**2) / self.pixels**2
        return {
            "mean": self.pixel_sum / self.pixels,
            "deviation": math.sqrt(variance),
            "pixels": self.pixels,
        }


class Audit:
    """The state of one audit: what was counted, and the faults in the order they were found."""

    def __init__(self, data: Manifest, table: ImageTable | None = None) -> None:
        self.data = data
        self.faults: list[str] = []
        self.accounts = {split: SplitAccount() for split in SPLITS}
        self.records_read = 0
        self._table = table
        image_ids = [] if table is None else table.image_ids.tolist()
        self._table_rows = dict(zip(image_ids, range(len(image_ids)), strict=True))
        self._places: dict[str, str] = {}

    @property
    def patients_in_two_splits(self) -> int:
        """The number of patients with records in more than one split."""
        patients = [set(account.patient_ids) for account in self.accounts.values()]
        return sum(map(len, patients)) - len(set().union(*patients))

    def run(self) -> None:
        """Read everything; faults are collected, not raised."""
        for name, split in self.data.splits.items():
            rows = self._index(split)
            for number, shard in enumerate(split.shards):
                self._shard(name, shard, None if rows is None else rows[rows["shard"] == number], number)
            if self.accounts[name].whole:
                self._hold(name, vars(split), self.accounts[name].counts())
        if self.accounts["train"].whole:
            self._hold("training pixels", self.data.statistics, self.accounts["train"].statistics())
            self._class_weights(self.accounts["train"].counts())
        self._patients()
        self._source()
        self._lists()
        self._foreign_files()

    def _index(self, split: Split) -> np.ndarray | None:
        location = self.data.locate(split.index)
        try:
            rows = index.from_bytes(manifest.read_checked(self.data, split.index), location)
        except CxrError as error:
            self.faults.append(str(error))
            return None
        if not np.isin(rows["shard"], np.arange(len(split.shards))).all():
            self.faults.append(f"{location}: names more than the {len(split.shards)} shards: {_ANEW}")
        return rows

    def _shard(self, split: str, shard: Shard, rows: np.ndarray | None, number: int) -> None:
        location, account = self.data.locate(shard), self.accounts[split]
        found: list[np.ndarray | None] = []
        try:
            with _open(location) as file:
                summed = _Summed(file)
                for frame in tfrecord.read(summed, location):  # type: ignore[arg-type]
                    where = f"{location}: record {len(found)}"
                    found.append(self._record(where, frame, number, account))
            _check_whole_shard(location, shard, summed, len(found))
        except CxrError as error:
            account.whole = False
            advice = f"; the manifest names it: {_RESUME}" if isinstance(error, StorageError) else ""
            self.faults.append(f"{error}{advice}")
            return
        readable = [row for row in found if row is not None]
        if rows is None or len(readable) < len(found):
            return
        if not np.array_equal(np.concatenate([np.empty(0, index.DTYPE), *readable]), rows):
            self.faults.append(f"{location}: the index doesn't point at its records: {_ANEW}")

    def _record(
        self, where: str, frame: tfrecord.Frame, shard: int, account: SplitAccount
    ) -> np.ndarray | None:
        """Count and check one record; return its row of the index, None if it can't be read."""
        self.records_read += 1
        try:
            record = example.decode(frame.payload)
            grey = picture.decode(record)[..., 0]
            row = index.of_frames([frame], shard)
        except RecordError as error:
            account.whole = False
            self.faults.append(f"{where}: {error}: {_ANEW}")
            return None
        if record.image_id in self._places:
            self.faults.append(
                f"{where}: {record.image_id} is there already, as {self._places[record.image_id]}"
            )
        self._places[record.image_id] = where
        for fault in (*_record_faults(record, self.data.image), *self._table_faults(record)):
            self.faults.append(f"{where}: {record.image_id}: {fault}")
        account.add(record, grey)
        return row

    def _table_faults(self, record: example.Record) -> Iterator[str]:
        if self._table is None:
            return
        row = self._table_rows.get(record.image_id)
        if row is None:
            yield "not in the label table"
            return
        table = self._table
        columns = {
            "labels": (record.labels.tolist(), table.labels[row].tolist()),
            "patient": (record.patient_id, int(table.patient_ids[row])),
            "follow-up": (record.follow_up, int(table.follow_up[row])),
            "age": (record.age_years, float(table.age_years[row])),
            "sex": (record.sex, str(table.sex[row])),
            "view": (record.view, str(table.view[row])),
        }
        for name, (found, expected) in columns.items():
            if found != expected and not (found != found and expected != expected):  # NaN is unlike itself
                yield f"{name} {found}, the label table says {expected}"

    def _hold(self, what: str, stated: dict[str, Any], found: dict[str, Any]) -> None:
        for key, value in found.items():
            difference = _difference(stated[key], value)
            if difference:
                self.faults.append(
                    f"{self.data.location}: {what}: {key} is {difference} in the records: {_ANEW}"
                )

    def _class_weights(self, train: dict[str, Any]) -> None:
        stated = self.data.class_weights
        if stated and stated != class_weights.balanced(train["positives"], train["images"]):
            self.faults.append(
                f"{self.data.location}: the class weights don't follow from the training records: {_ANEW}"
            )

    def _patients(self) -> None:
        where: dict[int, str] = {}
        for name, account in self.accounts.items():
            for patient_id in sorted(set(account.patient_ids)):
                if patient_id in where:
                    self.faults.append(
                        f"{self.data.location}: patient {patient_id} stands in {where[patient_id]} "
                        f"and in {name}: split again"
                    )
                where[patient_id] = name
        if self._all_whole():
            stated = {"patients_in_two_splits": self.data.patients_in_two_splits}
            self._hold("all splits", stated, {"patients_in_two_splits": self.patients_in_two_splits})

    def _source(self) -> None:
        """Hold what became of the table's rows against each other: missing, left out or a record."""
        left_out = (*self.data.quarantined, *self.data.excluded)
        for entry in left_out:
            if entry.image_id in self._places:
                self.faults.append(
                    f"{self.data.location}: {entry.image_id} is left out ({entry.reason}), but stands as "
                    f"{self._places[entry.image_id]}: {_ANEW}"
                )
        source = self.data.source
        if not self._all_whole() or not {"rows", "missing"} <= source.keys():
            return
        images = sum(len(account.labels) for account in self.accounts.values())
        if source["rows"] != source["missing"] + len(left_out) + images:
            self.faults.append(
                f"{self.data.location}: {source['rows']} rows in the label table, but {source['missing']} "
                f"images missing, {len(left_out)} left out and {images} in the records: {_ANEW}"
            )

    def _lists(self) -> None:
        """Hold the files for people against the manifest."""
        try:
            derived = finish.derived_files(self.data)
            same_oddities = finish.count_oddities(self.data) == self.data.oddities
        except ShardError as error:
            self.faults.append(str(error))
            return
        except (KeyError, TypeError) as error:
            self.faults.append(f"{self.data.location}: no card can be made of it ({error!r}): {_ANEW}")
            return
        for path, data in derived.items():
            location = storage.join(self.data.folder, path)
            if not storage.exists(location) or storage.read_bytes(location) != data:
                self.faults.append(f"{location}: missing, or not what the manifest says: {_RESUME}")
        if not same_oddities:
            self.faults.append(
                f"{storage.join(self.data.folder, manifest.ODDITIES_NAME)}: not the list that the manifest "
                f"counts: {_RESUME}"
            )

    def _all_whole(self) -> bool:
        return all(account.whole for account in self.accounts.values())

    def _foreign_files(self) -> None:
        named = {file.path for split in self.data.splits.values() for file in (*split.shards, split.index)}
        for stored in storage.list_files(self.data.folder):
            path = stored.location.removeprefix(self.data.folder).lstrip("/")
            if path.endswith(".tfrecord") and path not in named:
                self.faults.append(f"{stored.location}: a shard that the manifest doesn't name: remove it")


@contextlib.contextmanager
def _open(location: str) -> Iterator[IO[bytes]]:
    """Open a shard for reading; an object is fetched whole."""
    if storage.is_remote(location):
        yield io.BytesIO(storage.read_bytes(location))
        return
    try:
        with Path(location).open("rb") as file:
            yield file
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageError(f"{location}: can't be read: {reason}") from error


def _check_whole_shard(location: str, shard: Shard, summed: _Summed, records: int) -> None:
    if records != shard.records:
        raise ShardError(
            f"{location}: {records} records, the manifest says {shard.records}; "
            f"the shard is truncated or stale: {_RESUME}"
        )
    if summed.size_bytes != shard.size_bytes or summed.crc32c != shard.crc32c:
        raise ShardError(
            f"{location}: {summed.size_bytes} bytes with CRC32C {summed.crc32c}, the manifest says "
            f"{shard.size_bytes} with {shard.crc32c}: the shard is of another conversion: {_RESUME}"
        )


def _record_faults(record: example.Record, image: dict[str, Any]) -> Iterator[str]:
    shape = (image["side_px"], image["side_px"], image["stored_channels"])
    if record.encoding != image["encoding"] or record.shape != shape:
        yield f"{record.encoding} of shape {record.shape}, the manifest says {image['encoding']} of {shape}"
    if f"{record.patient_id:08d}" != record.image_id[:8]:
        yield f"patient {record.patient_id}; expected the number in the image's name"


def _difference(stated: Any, found: Any) -> str:
    """Say how a value of the manifest differs from the records', nothing where it doesn't."""
    if isinstance(found, dict):
        wrong = (key for key in found if not _same(stated[key], found[key]))
        key = next(wrong, None)
        return "" if key is None else f"{stated[key]} for {key} in the manifest, {found[key]}"
    return "" if _same(stated, found) else f"{stated} in the manifest, {found}"


def _same(stated: Any, found: Any) -> bool:
    if isinstance(found, float) and stated is not None:
        return math.isclose(stated, found, rel_tol=1e-9)
    return stated == found
