"""Proof that a data set is what its manifest says: every record of every shard is read again.

Checked are sizes and CRC32C of all files, both checksums of each record, the fields of each record, the
index, the counts by split, finding and patient, the pixel statistics, that no image is there twice and that
no patient stands in two splits. Needs no Beam and no TensorFlow.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from beam_pipelines.progress import watch
from records import example, index, manifest, storage, tfrecord
from records.errors import CxrError, ShardError
from records.labels import FINDINGS
from records.manifest import Manifest, Shard, Split
from records.splits import SPLITS
from records.table import read_table


@dataclass
class SplitAccount:
    """What was counted while a split's records were read.

    Attributes:
        whole: every shard could be read to its end, so that the counts mean something.
        patient_ids: of each record.
        labels: (14,) uint8 of each record.
        pixel_sum: of all stored grey values.
        pixel_square_sum: of their squares.
    """

    whole: bool = True
    patient_ids: list[int] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    pixel_sum: int = 0
    pixel_square_sum: int = 0


@dataclass
class Audit:
    """The state of one audit: what was counted, and the faults in the order they were found."""

    data: Manifest
    table_labels: dict[str, np.ndarray] | None = None
    faults: list[str] = field(default_factory=list)
    accounts: dict[str, SplitAccount] = field(
        default_factory=lambda: {split: SplitAccount() for split in SPLITS}
    )
    image_ids: dict[str, str] = field(default_factory=dict)
    records_read: int = 0

    def run(self) -> None:
        """Read everything; faults are collected, not raised."""
        for name, split in self.data.splits.items():
            rows = self._index(split)
            for number, shard in enumerate(split.shards):
                self._shard(name, shard, None if rows is None else rows[rows["shard"] == number], number)
            self._counts(name, split)
        self._statistics()
        self._patients()
        self._foreign_files()

    def _index(self, split: Split) -> np.ndarray | None:
        try:
            data = manifest.read_checked(self.data, split.index)
            return index.from_bytes(data, self.data.locate(split.index))
        except CxrError as error:
            self.faults.append(str(error))
            return None

    def _shard(self, split: str, shard: Shard, rows: np.ndarray | None, number: int) -> None:
        location, account = self.data.locate(shard), self.accounts[split]
        try:
            data = storage.read_bytes(location)
            frames: list[tfrecord.Frame] = []
            for frame in tfrecord.read(io.BytesIO(data), location):
                self._record(f"{location}: record {len(frames)}", frame.payload, account)
                frames.append(frame)
            self._whole_shard(location, shard, data, len(frames))
        except CxrError as error:
            account.whole = False
            self.faults.append(str(error))
            return
        if rows is not None and not np.array_equal(index.of_frames(frames, number), rows):
            self.faults.append(f"{location}: the index doesn't point at its records: convert again")

    def _whole_shard(self, location: str, shard: Shard, data: bytes, records: int) -> None:
        if records != shard.records:
            raise ShardError(
                f"{location}: {records} records, the manifest says {shard.records}; "
                "the shard is truncated or stale: convert again"
            )
        if len(data) != shard.size_bytes or manifest.crc32c(data) != shard.crc32c:
            raise ShardError(
                f"{location}: {len(data)} bytes with CRC32C {manifest.crc32c(data)}, the manifest says "
                f"{shard.size_bytes} with {shard.crc32c}: the shard is of another conversion: convert again"
            )

    def _record(self, where: str, payload: bytes, account: SplitAccount) -> None:
        record = example.decode(payload)
        self.records_read += 1
        if record.image_id in self.image_ids:
            self.faults.append(
                f"{where}: {record.image_id} is there already, as {self.image_ids[record.image_id]}"
            )
        self.image_ids[record.image_id] = where
        for fault in _record_faults(record, self.data, self.table_labels):
            self.faults.append(f"{where}: {record.image_id}: {fault}")
        grey = record.pixels()[..., 0]
        account.pixel_sum += int(grey.sum(dtype=np.int64))
        account.pixel_square_sum += round(cv2.norm(np.ascontiguousarray(grey), cv2.NORM_L2SQR))
        account.patient_ids.append(record.patient_id)
        account.labels.append(record.labels)

    def _counts(self, name: str, split: Split) -> None:
        account = self.accounts[name]
        if not account.whole:
            return
        labels = np.array(account.labels, np.int64).reshape(-1, len(FINDINGS))
        patient_ids = np.array(account.patient_ids, np.int64)
        found: dict[str, object] = {
            "images": len(labels),
            "patients": len(np.unique(patient_ids)),
            "positives": dict(zip(FINDINGS, labels.sum(axis=0).tolist(), strict=True)),
            "positive_patients": {
                finding: len(np.unique(patient_ids[labels[:, column] == 1]))
                for column, finding in enumerate(FINDINGS)
            },
        }
        for key, value in found.items():
            if value != getattr(split, key):
                self.faults.append(
                    f"{self.data.location}: {name}: {key} is {_difference(getattr(split, key), value)} "
                    "in the records: convert again"
                )

    def _statistics(self) -> None:
        account, stated = self.accounts["train"], self.data.statistics
        count = len(account.labels) * self.data.image["side_px"] ** 2
        if not account.whole or not count:
            return
        variance = (account.pixel_square_sum * count - account.pixel_sum**2) / count**2
        found = (account.pixel_sum / count, math.sqrt(variance))
        if not np.allclose(found, (stated["mean"], stated["deviation"]), rtol=1e-9):
            self.faults.append(
                f"{self.data.location}: training mean and deviation {stated['mean']}, {stated['deviation']} "
                f"in the manifest, {found[0]} and {found[1]} in the records: convert again"
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

    def _foreign_files(self) -> None:
        named = {file.path for split in self.data.splits.values() for file in (*split.shards, split.index)}
        for stored in storage.list_files(self.data.folder):
            path = stored.location.removeprefix(self.data.folder).lstrip("/")
            if path.endswith(".tfrecord") and path not in named:
                self.faults.append(f"{stored.location}: a shard that the manifest doesn't name: remove it")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m beam_pipelines.audit",
        description="Read every record of a data set again and hold it against its manifest.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "data", metavar="OUT", help="folder or s3:// prefix of the data set, or its manifest.json"
    )
    parser.add_argument(
        "--labels", metavar="CSV", help="hold the labels of each record against this table, too"
    )
    flags = parser.parse_args(argv)
    try:
        audit = Audit(manifest.load(flags.data), _labels_by_image(flags.labels) if flags.labels else None)
        total = sum(split.images for split in audit.data.splits.values())
        with watch("auditing", total, lambda: audit.records_read):
            audit.run()
    except CxrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    _print_table(audit)
    for fault in audit.faults:
        print(f"fault: {fault}", file=sys.stderr)
    return 1 if audit.faults else 0


def _labels_by_image(location: str) -> dict[str, np.ndarray]:
    table = read_table(location)
    return dict(zip(table.image_ids.tolist(), table.labels, strict=True))


def _record_faults(
    record: example.Record, data: Manifest, table_labels: dict[str, np.ndarray] | None
) -> Iterator[str]:
    image = data.image
    shape = (image["side_px"], image["side_px"], image["stored_channels"])
    if record.encoding != image["encoding"] or record.shape != shape:
        yield f"{record.encoding} of shape {record.shape}, the manifest says {image['encoding']} of {shape}"
    if record.labels.max(initial=0) > 1:
        yield f"labels {record.labels.tolist()}; expected 0 or 1"
    if f"{record.patient_id:08d}" != record.image_id[:8]:
        yield f"patient {record.patient_id}; expected the number in the image's name"
    if table_labels is not None:
        expected = table_labels.get(record.image_id)
        if expected is None:
            yield "not in the label table"
        elif not np.array_equal(expected, record.labels):
            yield f"labels {record.labels.tolist()}, the label table says {expected.tolist()}"


def _difference(stated: object, found: object) -> str:
    if isinstance(stated, dict) and isinstance(found, dict):
        key = next(key for key in found if stated.get(key) != found[key])
        return f"{stated.get(key)} for {key} in the manifest, {found[key]}"
    return f"{stated} in the manifest, {found}"


def _print_table(audit: Audit) -> None:
    table = Table(title=f"{audit.data.location}: {audit.records_read:,} records read")
    for column, justify in (("", "left"), *((split, "right") for split in SPLITS)):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    columns = [(audit.data.splits[split], audit.accounts[split]) for split in SPLITS]
    table.add_row("shards", *(f"{len(split.shards):,}" for split, _ in columns))
    table.add_row("images", *(f"{len(account.labels):,}" for _, account in columns))
    table.add_row("patients", *(f"{len(set(account.patient_ids)):,}" for _, account in columns))
    table.add_section()
    for number, finding in enumerate(FINDINGS):
        table.add_row(
            finding, *(f"{sum(int(row[number]) for row in account.labels):,}" for _, account in columns)
        )
    Console().print(table)
    shared = sum(len(set(account.patient_ids)) for _, account in columns) - len(
        {patient for _, account in columns for patient in account.patient_ids}
    )
    print(f"patients in two splits: {shared}; faults: {len(audit.faults)}")


if __name__ == "__main__":
    sys.exit(main())
