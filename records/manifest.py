"""One version of the data set: what was made from what, with which settings, and what is in it.

`manifest.json` is written last, so its presence means that the data set is whole. It holds no time stamps and
no machine's paths: the same inputs and settings give the same bytes. Shards are named relative to it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import google_crc32c

from records import example, json_text, manifest_check, storage
from records.class_weights import Weights
from records.errors import ManifestError, ShardError, StorageError
from records.labels import FINDINGS
from records.splits import SPLITS

FILE_NAME = "manifest.json"
CARD_NAME = "DATASET.md"
QUARANTINE_NAME = "quarantine.csv"
ODDITIES_NAME = "oddities.csv"

LICENCE = (
    "Images and labels: NIH Clinical Center, free to use with attribution: link to "
    "https://nihcc.app.box.com/v/ChestXray-NIHCC, cite the paper, acknowledge the NIH Clinical Center."
)
CITATION = (
    'X. Wang, Y. Peng, L. Lu, Z. Lu, M. Bagheri, R. M. Summers, "ChestX-ray8: Hospital-scale Chest X-ray '
    "Database and Benchmarks on Weakly-Supervised Classification and Localization of Common Thorax "
    'Diseases", CVPR 2017.'
)


@dataclass(frozen=True)
class StoredFile:
    """A file of the data set, relative to the manifest, with the CRC32C of its bytes."""

    path: str
    size_bytes: int
    crc32c: str


@dataclass(frozen=True)
class Shard(StoredFile):
    """A TFRecord shard and how many records it holds."""

    records: int


@dataclass(frozen=True)
class Split:
    """What stands in one split.

    `positives` counts images and `positive_patients` patients with each finding, in `labels.FINDINGS` order.
    """

    images: int
    patients: int
    positives: dict[str, int]
    positive_patients: dict[str, int]
    prevalence: dict[str, float]
    shards: tuple[Shard, ...]
    index: StoredFile


@dataclass(frozen=True)
class LeftOut:
    """An image of the table that no record holds, and why."""

    image_id: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """The whole manifest; see `DATASET.md` beside it for the readable form.

    Attributes:
        schema_version: of the records and of this file.
        findings: the label order of every record.
        source: table (name, sha256, release, rows), lists with their hashes, images found and missing.
        split: strategy, seed and its settings.
        image: side_px, stored_channels, encoding (and jpeg_quality), resize kernel.
        statistics: mean and deviation of the training pixels (0 to 255), and their number.
        splits: what stands in train, validation and test.
        patients_in_two_splits: the leakage proof; always 0, counted from the records that were written.
        quarantined: images that failed the checks, with the reason for each.
        excluded: images that a list left out, with the reason for each.
        oddities: how many images are unusual in which way; `oddities.csv` names them.
        class_weights: of the training split, by finding (`class_weights.balanced`).
        versions: of the libraries that made the pixels.
        request_sha256: of inputs and settings, by which a conversion recognises its own output.
        licence: of images and labels.
        citation: that the NIH asks for.
    """

    source: dict[str, Any]
    split: dict[str, Any]
    image: dict[str, Any]
    statistics: dict[str, Any]
    splits: dict[str, Split]
    patients_in_two_splits: int
    quarantined: tuple[LeftOut, ...]
    versions: dict[str, str]
    request_sha256: str
    excluded: tuple[LeftOut, ...] = ()
    oddities: dict[str, int] = field(default_factory=dict)
    class_weights: dict[str, Weights] = field(default_factory=dict)
    schema_version: int = example.SCHEMA_VERSION
    findings: tuple[str, ...] = FINDINGS
    licence: str = LICENCE
    citation: str = CITATION
    # Where it was read from; not part of the file.
    location: str = field(default="", compare=False)

    def to_json(self) -> bytes:
        """Serialize; equal manifests give equal bytes."""
        values = dataclasses.asdict(self)
        del values["location"]
        return (json.dumps(values, indent=1, sort_keys=True) + "\n").encode()

    @property
    def sha256(self) -> str:
        """Hash of the file's bytes: the name of this data set version."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @property
    def records(self) -> int:
        """Records in all splits."""
        return sum(split.images for split in self.splits.values())

    @property
    def folder(self) -> str:
        """The folder or prefix that the shards' paths are relative to."""
        return storage.parent(self.location)

    def locate(self, file: StoredFile) -> str:
        """Return the location of one of the data set's files."""
        return storage.join(self.folder, file.path)


def load(location: str) -> Manifest:
    """Read a manifest.

    Args:
        location: of `manifest.json`, or of the folder or prefix it stands in.

    Raises:
        ManifestError: missing, not JSON, of another schema version or label order, or a key is missing or
            holds something else; a path that leads out of the data set's folder is among these.
    """
    if not location.endswith(".json"):
        location = storage.join(location, FILE_NAME)
    if not storage.exists(location):
        raise ManifestError(
            f"{location}: no manifest; expected a data set made by `python -m beam_pipelines.convert`"
        )
    try:
        values = json_text.parse(storage.read_bytes(location))
        _check_version(values, location)
        manifest_check.check(values)
    except ValueError as error:
        raise ManifestError(
            f"{location}: not a manifest of this project: {error}; convert into another folder"
        ) from error
    values.update(
        splits={name: _split(values["splits"][name]) for name in SPLITS},
        quarantined=tuple(LeftOut(**entry) for entry in values["quarantined"]),
        excluded=tuple(LeftOut(**entry) for entry in values.get("excluded", ())),
        findings=tuple(values["findings"]),
        location=location,
    )
    return Manifest(**values)


def check_files(manifest: Manifest) -> None:
    """Check that each shard and index stands there with the size the manifest names; reads none of them.

    Raises:
        ShardError: the first file that is missing or of another size.
    """
    for split in manifest.splits.values():
        for file in (*split.shards, split.index):
            location = manifest.locate(file)
            try:
                size_bytes = storage.size(location)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise ShardError(
                    f"{location}: missing, but the manifest names it: run the conversion again with --resume"
                ) from error
            except OSError as error:
                raise ShardError(f"{location}: can't be read: {error.strerror or error}") from error
            if size_bytes != file.size_bytes:
                raise ShardError(
                    f"{location}: {size_bytes} bytes, the manifest says {file.size_bytes}; "
                    "the file is truncated or stale: run the conversion again with --resume"
                )


def read_checked(manifest: Manifest, file: StoredFile) -> bytes:
    """Read one of the data set's files and check it against the manifest.

    Raises:
        ShardError: missing, or its size or CRC32C differs.
    """
    location = manifest.locate(file)
    try:
        data = storage.read_bytes(location)
    except StorageError as error:
        raise ShardError(f"{error}; the manifest names it: run the conversion again with --resume") from error
    if len(data) != file.size_bytes or crc32c(data) != file.crc32c:
        raise ShardError(
            f"{location}: {len(data)} bytes with CRC32C {crc32c(data)}, the manifest says {file.size_bytes} "
            f"with {file.crc32c}; the file is damaged or stale: run the conversion again with --resume"
        )
    return data


def crc32c(data: bytes) -> str:
    """Return the CRC32C of `data` as eight hexadecimal digits."""
    return f"{google_crc32c.value(data):08x}"


def _check_version(values: Any, location: str) -> None:
    """Refuse another version before its keys are looked at: they may well be others."""
    manifest_check.check_key(values, "schema_version")
    version = values["schema_version"]
    if type(version) is not int or version != example.SCHEMA_VERSION:
        raise ManifestError(
            f"{location}: schema version {version}; this version of cxr-engine reads "
            f"{example.SCHEMA_VERSION}: convert into another folder or install the version that wrote it"
        )
    manifest_check.check_key(values, "findings")
    if tuple(values["findings"]) != FINDINGS:
        raise ManifestError(
            f"{location}: another label order ({', '.join(values['findings'])}); convert into another folder"
        )


def _split(values: dict[str, Any]) -> Split:
    shards = tuple(Shard(**shard) for shard in values["shards"])
    return Split(**{**values, "shards": shards, "index": StoredFile(**values["index"])})
