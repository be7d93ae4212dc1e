"""A small data set of noise, as shards and as what a conversion takes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from records import example, index, manifest, storage, tfrecord
from records.labels import FINDINGS
from records.splits import SPLITS

SIDE_PX = 32
# Two images of each patient.
RECORDS = {"train": 8, "validation": 6, "test": 4}


def write_data_set(folder: str) -> manifest.Manifest:
    """Write raw pictures of noise, one shard a split, to a folder or prefix."""
    made = manifest.Manifest(
        source={},
        split={"strategy": "random", "seed": 0},
        image={"side_px": SIDE_PX, "stored_channels": 1, "encoding": "raw", "resize_kernel": "area"},
        statistics={"mean": 128.0, "deviation": 70.0, "pixels": RECORDS["train"] * SIDE_PX**2},
        splits={name: _split(folder, name, number) for number, name in enumerate(SPLITS)},
        patients_in_two_splits=0,
        quarantined=(),
        versions={},
        request_sha256="",
    )
    location = storage.join(folder, manifest.FILE_NAME)
    storage.write_bytes(location, made.to_json())
    return manifest.load(location)


def _split(folder: str, name: str, number: int) -> manifest.Split:
    rng = np.random.default_rng(number)
    labels = np.tile(np.arange(len(FINDINGS)) % 2, (RECORDS[name], 1)).astype(np.uint8)
    labels[::2] = 1 - labels[::2]
    payloads = [_record(100 * (number + 1) + row // 2, row, vector, rng) for row, vector in enumerate(labels)]
    data = b"".join(map(tfrecord.frame, payloads))
    offsets = np.cumsum([0, *(len(tfrecord.frame(payload)) for payload in payloads)])
    frames = [
        tfrecord.Frame(int(offset) + 12, payload) for offset, payload in zip(offsets, payloads, strict=False)
    ]
    rows = index.to_bytes(index.of_frames(frames, 0))
    counts = dict(zip(FINDINGS, labels.sum(axis=0).tolist(), strict=True))
    return manifest.Split(
        images=len(labels),
        patients=len(labels) // 2,
        positives=counts,
        positive_patients=counts,
        prevalence=dict.fromkeys(FINDINGS, 0.5),
        shards=(manifest.Shard(**_stored(folder, f"{name}.tfrecord", data), records=len(labels)),),
        index=manifest.StoredFile(**_stored(folder, f"{name}.index.npy", rows)),
    )


def _record(patient: int, row: int, labels: np.ndarray, rng: np.random.Generator) -> bytes:
    return example.encode(
        example.Record(
            image=rng.integers(0, 256, (SIDE_PX, SIDE_PX), np.uint8).tobytes(),
            encoding="raw",
            shape=(SIDE_PX, SIDE_PX, 1),
            image_id=f"{patient:08d}_{row % 2:03d}.png",
            patient_id=patient,
            labels=labels,
            view="PA",
            sex="F",
            age_years=50.0,
            follow_up=row % 2,
        )
    )


def _stored(folder: str, path: str, data: bytes) -> dict[str, object]:
    storage.write_bytes(storage.join(folder, path), data)
    return {"path": path, "size_bytes": len(data), "crc32c": manifest.crc32c(data)}


def write_source(folder: Path) -> list[str]:
    """Write images and table of six patients; return the flags of a conversion of them in this process."""
    (folder / "images").mkdir(parents=True)
    rows = ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"]
    rng = np.random.default_rng(0)
    for patient in range(1, 7):
        image_id = f"{patient:08d}_000.png"
        cv2.imwrite(str(folder / "images" / image_id), rng.integers(0, 256, (48, 48), np.uint8))
        rows.append(f"{image_id},{FINDINGS[patient]},0,{patient},50,F,PA")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    source = ["--images", str(folder / "images"), "--labels", str(folder / "table.csv"), "--image_side", "32"]
    split = ["--split", "random", "--fractions", "0.4,0.3,0.3"]
    return [*source, *split, "--direct_running_mode", "in_memory", "--direct_num_workers", "1"]
