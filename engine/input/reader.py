"""Random access to a split's records: shards mapped into memory, whole batches gathered through the index.

Checks that index and manifest belong together; the shards themselves are `mapped_shards`' business, pictures
are decoded by `decode`. Order is `order`'s business, threads and prefetching are `pipeline`'s.

Shapes: N = records in the split, B = records asked for, S = stored side in pixels, C = stored channels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np

from engine.input import decode
from engine.input.buffers import Buffers
from engine.input.mapped_shards import MappedShards
from engine.input.shard_cache import CacheSettings
from records import example, index, storage
from records.errors import CxrError, ManifestError, RecordError, ShardError
from records.labels import FINDINGS
from records.manifest import Manifest, Shard, read_checked


class ShardReader:
    """The records of one split by row number, counted through the shards in the manifest's order.

    Threads may share a reader. A child process opens its own.

    Attributes:
        manifest: of the data set.
        split: train, validation or test.
        image_shape: (S, S, C).
        shard_sizes: records in each shard.
        shards: the split's, mapped.
        fault: the first error that `gather` raised; tf.data hides its type from whoever iterates.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        *,
        verify: bool = True,
        cache_settings: CacheSettings | None = None,
    ) -> None:
        """Read and check the split's index; shards are opened when they are first touched.

        Args:
            manifest: of the data set.
            split: train, validation or test.
            verify: check each shard's CRC32C before its first use in this process.
            cache_settings: for the copies of a remote data set's shards; None: the user's cache.

        Raises:
            ManifestError: no such split, or the manifest doesn't describe its images.
            ShardError: the index isn't the manifest's, or a local shard is missing or of another size.
        """
        if split not in manifest.splits:
            raise ManifestError(
                f"{manifest.location}: no split `{split}`; expected one of {', '.join(manifest.splits)}"
            )
        self.manifest, self.split = manifest, split
        self.image_shape = image_shape(manifest)
        self.shard_sizes = tuple(shard.records for shard in manifest.splits[split].shards)
        self.fault: CxrError | None = None
        self._rows = _read_index(manifest, split, self.image_shape)
        # Columns of their own: picked from whole rows, they would take a tenth of a batch's time.
        self._shard, self._image_start = (
            self._rows[key].astype(np.int64) for key in ("shard", "image_offset")
        )
        self._labels = np.zeros((len(self._rows), len(FINDINGS)), np.float32)
        self._labelled: set[int] = set()  # shards whose labels stand there
        self.shards = MappedShards(manifest, split, verify=verify, cache_settings=cache_settings)
        self._raw = manifest.image["encoding"] == "raw"
        self._buffers: dict[int, Buffers] = {}
        self._closing = contextlib.ExitStack()

    def __len__(self) -> int:
        return len(self._rows)

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_remote(self) -> bool:
        """Whether the data set lies in an object store."""
        return storage.is_remote(self.manifest.location)

    def close_before(self, close: Callable[[], None]) -> None:
        """Have something that reads through this reader closed before the reader is."""
        self._closing.callback(close)

    def close(self) -> None:
        """Let go of the shards and of the idle buffers; batches handed out before stay valid."""
        self._closing.close()
        self.shards.close()
        for buffers in self._buffers.values():
            buffers.close()

    def buffers(self, records: int) -> Buffers:
        """Return the reader's one pool of memory for batches of at most `records`; `close` empties it."""
        return self._buffers.setdefault(records, Buffers(records, self.image_shape))

    def fetch_ahead(self, rows: np.ndarray) -> None:
        """Have a remote data set's shards fetched ahead of a pass that asks for these rows in this order."""
        if self.is_remote:
            self.shards.fetch_ahead(list(dict.fromkeys(self._shard[rows].tolist())))

    def gather(self, rows: np.ndarray, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Copy records into one batch.

        Args:
            rows: (B,) row numbers in any order.
            out: (B, S, S, C) uint8, C-contiguous, to be filled; None: fresh memory, which costs more than
                the copy.

        Returns:
            images: (B, S, S, C) uint8, 0 is black; `out` if it was given.
            labels: (B, 14) float32 in `labels.FINDINGS` order, 1 where the finding is reported.

        Raises:
            ShardError: a shard is missing, damaged or not the manifest's.
            RecordError: a compressed picture can't be decoded or has another shape.
        """
        images = np.empty((len(rows), *self.image_shape), np.uint8) if out is None else out
        copy = self._copy_raw if self._raw else self._copy_decoded
        try:
            shards = self._shard[rows].tolist()
            for shard in set(shards) - self._labelled:
                self._load_labels(shard)
            copy(rows, shards, images)
        except CxrError as error:
            self.fault = self.fault or error
            raise
        return images, self._labels[rows]

    def records(self, rows: np.ndarray) -> list[example.Record]:
        """Parse whole records: everything that a record holds.

        Args:
            rows: (B,) row numbers.
        """
        records = []
        for row in self._rows[rows]:
            start = int(row["payload_offset"])
            payload = self.shards[row["shard"]][start : start + int(row["payload_bytes"])]
            records.append(self._parse(payload.tobytes(), row))
        return records

    def identities(self) -> tuple[np.ndarray, np.ndarray]:
        """Read the whole split for (N,) str image ids and (N,) int64 patient ids."""
        image_ids, patient_ids = [], []
        self.fetch_ahead(np.arange(len(self)))
        for row in range(len(self)):
            (record,) = self.records(np.array([row]))
            image_ids.append(record.image_id)
            patient_ids.append(record.patient_id)
        return np.array(image_ids, str), np.array(patient_ids, np.int64)

    def labels(self) -> np.ndarray:
        """Return (N, 14) uint8 labels, reading 14 bytes a record and checking no shard's CRC32C.

        Raises:
            ShardError: a shard is missing or of another size, or holds something else than labels there.
        """
        labels = np.empty((len(self), len(FINDINGS)), np.uint8)
        self.fetch_ahead(np.arange(len(self)))
        for shard in range(len(self.shard_sizes)):
            rows = np.flatnonzero(self._rows["shard"] == shard)
            if not len(rows):
                continue
            offsets = self._rows["labels_offset"][rows].tolist()
            labels[rows] = self.shards.read_each(shard, offsets, len(FINDINGS))
            if labels[rows].max(initial=0) > 1:
                raise ShardError(
                    f"{self.shards.location(shard)}: no labels where the index says; "
                    "the shard is damaged or stale: run the conversion again with --resume"
                )
        return labels

    def _load_labels(self, shard: int) -> None:
        """Keep a shard's labels, so that a batch takes them at once; threads may do it twice."""
        first = sum(self.shard_sizes[:shard])
        rows = slice(first, first + self.shard_sizes[shard])
        places = self._rows["labels_offset"][rows].astype(np.int64)[:, None] + np.arange(len(FINDINGS))
        self._labels[rows] = self.shards[shard][places]
        self._labelled.add(shard)

    def _copy_raw(self, rows: np.ndarray, shards: list[int], images: np.ndarray) -> None:
        # Records of a shard differ by a byte or two in length, so there is no stride to index by.
        flat = images.reshape(len(rows), int(np.prod(self.image_shape)))
        pictures: list[np.ndarray] = []
        for number, (shard, start) in enumerate(zip(shards, self._image_start[rows].tolist(), strict=True)):
            data = self.shards.mapped(shard)
            if data is None:
                # What is kept while another shard is opened would hold room in the cache that it waits for.
                _copy_all(pictures, flat[number - len(pictures) : number])
                pictures.clear()
                data = self.shards[shard]
            pictures.append(data[start : start + flat.shape[1]])
            del data
        _copy_all(pictures, flat[len(rows) - len(pictures) :])

    def _copy_decoded(self, rows: np.ndarray, shards: list[int], images: np.ndarray) -> None:
        sizes = self._rows["image_bytes"][rows].tolist()
        positions = zip(shards, self._image_start[rows].tolist(), sizes, strict=True)
        for number, (shard, start, image_bytes) in enumerate(positions):
            data = self.shards[shard]
            try:
                decode.into(data[start : start + image_bytes], images[number])
            except RecordError as error:
                name = self._record_name(self._rows[rows[number]])
                raise RecordError(f"{name}: {error}: run the conversion again with --resume") from error
            del data  # not kept while the next shard is opened, as above

    def _parse(self, payload: bytes, row: Any) -> example.Record:
        try:
            return example.decode(payload)
        except RecordError as error:
            raise RecordError(
                f"{self._record_name(row)}: {error}; run the conversion again with --resume"
            ) from error

    def _record_name(self, row: Any) -> str:
        return f"{self.shards.location(row['shard'])}: the record at byte {row['payload_offset']}"


def _copy_all(pictures: list[np.ndarray], out: np.ndarray) -> None:
    """Copy (bytes,) arrays into the rows of `out`: one call, so threads rarely wait for the interpreter."""
    if pictures:
        np.concatenate(pictures, out=out.reshape(-1))


def image_shape(manifest: Manifest) -> tuple[int, int, int]:
    """Return (S, S, C) of a data set's pictures.

    Raises:
        ManifestError: the manifest doesn't say, or names an encoding that isn't known.
    """
    image = manifest.image
    known = image.get("encoding") in example.ENCODINGS and image.get("stored_channels") in (1, 3)
    if not known or not isinstance(image.get("side_px"), int):
        raise ManifestError(
            f"{manifest.location}: `image` is {image}; expected side_px, stored_channels of 1 or 3 and an "
            f"encoding of {', '.join(example.ENCODINGS)}: run the conversion again with --resume"
        )
    return image["side_px"], image["side_px"], image["stored_channels"]


def _read_index(manifest: Manifest, split: str, shape: tuple[int, int, int]) -> np.ndarray:
    file = manifest.splits[split].index
    name = manifest.locate(file)
    rows = index.from_bytes(read_checked(manifest, file), name)
    shards = manifest.splits[split].shards
    counts = [shard.records for shard in shards]
    if not np.array_equal(rows["shard"], np.repeat(np.arange(len(shards)), counts)):
        raise ShardError(
            f"{name}: {len(rows)} rows that don't follow the {sum(counts)} records of the manifest's "
            f"{len(shards)} shards; the index is stale: run the conversion again with --resume"
        )
    _check_positions(rows, shards, name)
    if manifest.image["encoding"] == "raw" and (rows["image_bytes"] != np.prod(shape)).any():
        found = rows["image_bytes"][rows["image_bytes"] != np.prod(shape)][0]
        raise ShardError(f"{name}: a raw picture of {found} bytes; expected {np.prod(shape)} for {shape}")
    return rows


def _check_positions(rows: np.ndarray, shards: tuple[Shard, ...], name: str) -> None:
    """Check that all that rows name lies inside their shards, so that no read goes astray."""
    size_bytes = np.array([shard.size_bytes for shard in shards], np.int64)[rows["shard"]]
    ends = [
        rows["payload_offset"] + rows["payload_bytes"],
        rows["image_offset"] + rows["image_bytes"],
        rows["labels_offset"] + len(FINDINGS),
    ]
    starts = [rows["payload_offset"], rows["image_offset"], rows["labels_offset"]]
    wrong = (np.minimum.reduce(starts) < 0) | (np.maximum.reduce(ends) > size_bytes)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ShardError(
            f"{name}: row {row} lies outside of its shard; the index is damaged: "
            "run the conversion again with --resume"
        )
