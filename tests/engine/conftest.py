"""A small data set, written with the contract's own functions and without a conversion."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from records import example, index, manifest, storage, tfrecord
from records.labels import FINDINGS

SIZES = {"train": (7, 7, 6), "validation": (5,), "test": (4, 3)}
# Two images each. 128 takes a byte more than 127 in a record, so the training records differ in length.
FIRST_PATIENT = {"train": 123, "validation": 200, "test": 300}


def _picture(rng: np.random.Generator, side_px: int, channels: int) -> np.ndarray:
    """(side, side, channels) uint8 with R = G = B, smooth enough for JPEG."""
    noise = rng.normal(0, 300, (side_px, side_px)).astype(np.float32)
    grey = np.clip(128 + cv2.GaussianBlur(noise, (0, 0), 3), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], channels, axis=2)


def _encoded(picture: np.ndarray, encoding: str) -> bytes:
    if encoding == "raw":
        return picture.tobytes()
    return cv2.imencode({"png": ".png", "jpeg": ".jpg"}[encoding], picture)[1].tobytes()


def _shard(first: int, records: int, rng: np.random.Generator, image: dict) -> bytes:
    shard = io.BytesIO()
    for number in range(first, first + records):
        picture = _picture(rng, image["side_px"], image["stored_channels"])
        patient = number // 2
        record = example.Record(
            image=_encoded(picture, image["encoding"]),
            encoding=image["encoding"],
            shape=picture.shape,
            image_id=f"{patient:08d}_{number % 2:03d}.png",
            patient_id=patient,
            labels=rng.integers(0, 2, len(FINDINGS)).astype(np.uint8),
            view="PA",
            sex="F",
            age_years=50.0,
            follow_up=number % 2,
        )
        tfrecord.write(shard, example.encode(record))
    return shard.getvalue()


def _stored(folder: str, path: str, data: bytes) -> dict:
    storage.write_bytes(storage.join(folder, path), data)
    return {"path": path, "size_bytes": len(data), "crc32c": manifest.crc32c(data)}


def _split(folder: str, name: str, sizes: tuple[int, ...], image: dict) -> manifest.Split:
    rng = np.random.default_rng(len(name))
    shards, rows, labels = [], [np.empty(0, index.DTYPE)], []
    first = 2 * FIRST_PATIENT[name]
    for number, records in enumerate(sizes):
        data = _shard(first, records, rng, image)
        path = f"{name}-{number:05d}-of-{len(sizes):05d}.tfrecord"
        shards.append(manifest.Shard(**_stored(folder, path, data), records=records))
        frames = list(tfrecord.read(io.BytesIO(data), path))
        rows.append(index.of_frames(frames, number))
        labels += [example.decode(frame.payload).labels for frame in frames]
        first += records
    positives = np.sum(labels, axis=0, dtype=int) if labels else np.zeros(len(FINDINGS), int)
    return manifest.Split(
        images=sum(sizes),
        patients=-(-sum(sizes) // 2),
        positives=dict(zip(FINDINGS, positives.tolist(), strict=True)),
        positive_patients=dict(zip(FINDINGS, positives.tolist(), strict=True)),
        prevalence=dict(zip(FINDINGS, (positives / max(1, sum(sizes))).tolist(), strict=True)),
        shards=tuple(shards),
        index=manifest.StoredFile(
            **_stored(folder, f"{name}.index.npy", index.to_bytes(np.concatenate(rows)))
        ),
    )


@pytest.fixture(scope="session")
def write_data_set() -> Callable[..., manifest.Manifest]:
    """A function that writes a data set to a folder or prefix and returns its manifest."""

    def write(
        folder: str | Path,
        *,
        sizes: dict[str, tuple[int, ...]] = SIZES,
        side_px: int = 32,
        channels: int = 1,
        encoding: str = "raw",
    ) -> manifest.Manifest:
        image = {
            "side_px": side_px,
            "stored_channels": channels,
            "encoding": encoding,
            "resize_kernel": "area",
        }
        written = manifest.Manifest(
            source={},
            split={"strategy": "random", "seed": 0},
            image=image,
            statistics={"mean": 128.0, "deviation": 40.0, "pixels": 20 * side_px**2},
            splits={name: _split(str(folder), name, sizes[name], image) for name in sizes},
            patients_in_two_splits=0,
            quarantined=(),
            versions={},
            request_sha256="",
        )
        location = storage.join(str(folder), manifest.FILE_NAME)
        storage.write_bytes(location, written.to_json())
        return manifest.load(location)

    return write


@pytest.fixture
def data_set(tmp_path: Path, write_data_set: Callable[..., manifest.Manifest]) -> manifest.Manifest:
    """Raw 32 x 32 x 1 images: train in shards of 7, 7 and 6, validation in one of 5, test in 4 and 3."""
    return write_data_set(tmp_path / "data_set")
