"""Makes records, data sets and finished runs by hand, so that a test knows all that is in them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np

from engine.evaluation import tables
from records import example, index, manifest, storage, tfrecord
from records.example import Record
from records.labels import FINDINGS
from records.manifest import Manifest, Shard, Split, StoredFile
from records.splits import SPLITS

SIDE_PX = 32
HOSTILE_ID = "<script>alert('x')</script>&\"_000.png"


def make_record(number: int, *, image_id: str | None = None, findings: tuple[str, ...] = ()) -> Record:
    random = np.random.default_rng(number)
    labels = np.array([finding in findings for finding in FINDINGS], np.uint8)
    picture = random.integers(0, 256, (SIDE_PX, SIDE_PX, 1), np.uint8)
    return Record(
        image=picture.tobytes(),
        encoding="raw",
        shape=picture.shape,
        image_id=image_id or f"{number // 2 + 1:08d}_{number % 2:03d}.png",
        patient_id=number // 2 + 1,
        labels=labels,
        view=("PA", "AP")[number % 2],
        sex=("M", "F")[number // 2 % 2],
        age_years=float(20 + number % 60),
        follow_up=number % 2,
    )


def make_data_set(folder: Path, records: dict[str, list[list[Record]]], *, phantom: bool = True) -> Manifest:
    """Write shards, indexes and manifest; `records` holds the records of each shard of each split."""
    made = Manifest(
        source={
            "table": "Data_Entry_2017_v2020.csv",
            "table_sha256": "ab" * 32,
            "release": "v2020",
            "rows": 112_120,
            "missing": 0,
            "phantom": phantom,
        },
        split={"strategy": "stratified", "seed": 17, "fractions": [0.6, 0.2, 0.2]},
        image={"side_px": SIDE_PX, "stored_channels": 1, "encoding": "raw", "resize_kernel": "area"},
        statistics={"mean": 127.25, "deviation": 73.5, "pixels": 61440},
        splits={name: _write_split(folder, name, records[name]) for name in SPLITS},
        patients_in_two_splits=0,
        quarantined=(manifest.LeftOut("00099999_000.png", "damaged PNG"),),
        versions={"numpy": "2.4.6"},
        request_sha256="cd" * 32,
        location=str(folder / manifest.FILE_NAME),
    )
    storage.write_bytes(made.location, made.to_json())
    return made


def write_run(
    folder: Path, data_set: Manifest, records: list[Record], *, split: str = "test", epochs: int = 6
) -> Path:
    """Write the directory of a finished run with an evaluation of `records`."""
    run = {
        "state": "finished",
        "command": "engine train --config configs/demo.yaml --data data --run-dir <run>",
        "started": "2026-01-02T03:04:05Z",
        "seconds": 3725.0,
        "git_commit": "0123456789abcdef",
        "versions": {"python": "3.11.9", "keras": "3.15.1"},
        "manifest": {"location": data_set.location, "sha256": data_set.sha256},
        "parameters": 8_228_081,
        "epochs": epochs,
        "epochs_done": epochs,
        "best_epoch": min(4, epochs),
        "best_val_macro_auroc": 0.8123,
        "device": "1 x CPU",
    }
    storage.write_bytes(str(folder / "run.json"), json.dumps(run).encode())
    config = "model:\n  name: densenet121_cbam\n  head_units: [128, 64]\n" + (
        "train:\n  monitor: val_macro_auroc\n  learning_rate: 0.0001\n  seed: 1\n"
    )
    storage.write_bytes(str(folder / "config.yaml"), config.encode())
    storage.write_bytes(str(folder / "history.csv"), history_csv(epochs).encode())
    evaluation = folder / "evaluation" / split
    labels = np.stack([record.labels for record in records])
    noise = np.random.default_rng(5).normal(size=labels.shape)
    probabilities = (1 / (1 + np.exp(2 - 1.5 * labels - noise))).astype(np.float32)
    path = evaluation / "predictions.csv"
    tables.write_predictions(
        path, [r.image_id for r in records], [r.patient_id for r in records], probabilities, labels
    )
    metrics = tables.summarise(tables.read_predictions(path)) | {"manifest_sha256": data_set.sha256}
    storage.write_bytes(str(evaluation / "metrics.json"), json.dumps(metrics).encode())
    return folder


def history_csv(epochs: int) -> str:
    names = ("macro_auroc", "macro_auprc", "recall", "specificity", "ppv", "npv", "f1", "hamming_loss")
    columns = ["epoch", "time", "seconds", "images_per_s", "learning_rate", "loss", "val_loss"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *(f"val_{name}" for name in names)])
    for epoch in range(1, epochs + 1):
        rise = 1 - 0.8**epoch
        numbers = [1.3 - rise / 2, 1.3 - rise / 2.5, 0.5 + rise / 3]
        writer.writerow(
            [epoch, "2026-01-02T03:04:05Z", 61.5, 402.1, 1e-4, *numbers, *([round(rise / 2, 4)] * 7)]
        )
    return text.getvalue()


def _write_split(folder: Path, name: str, shards: list[list[Record]]) -> Split:
    written, rows = [], []
    for number, shard in enumerate(shards):
        buffer = io.BytesIO()
        for record in shard:
            tfrecord.write(buffer, example.encode(record))
        data = buffer.getvalue()
        path = f"{name}/{name}-{number:05d}-of-{len(shards):05d}.tfrecord"
        storage.write_bytes(str(folder / path), data)
        written.append(Shard(path, len(data), manifest.crc32c(data), len(shard)))
        rows.append(index.of_frames(tfrecord.read(io.BytesIO(data), path), number))
    data = index.to_bytes(np.concatenate(rows or [np.empty(0, index.DTYPE)]))
    storage.write_bytes(str(folder / name / index.FILE_NAME), data)
    return _describe(
        [record for shard in shards for record in shard],
        tuple(written),
        StoredFile(f"{name}/{index.FILE_NAME}", len(data), manifest.crc32c(data)),
    )


def _describe(records: list[Record], shards: tuple[Shard, ...], index_file: StoredFile) -> Split:
    having = {
        finding: [record.patient_id for record in records if record.labels[column]]
        for column, finding in enumerate(FINDINGS)
    }
    return Split(
        images=len(records),
        patients=len({record.patient_id for record in records}),
        positives={finding: len(patients) for finding, patients in having.items()},
        positive_patients={finding: len(set(patients)) for finding, patients in having.items()},
        prevalence={finding: len(patients) / max(1, len(records)) for finding, patients in having.items()},
        shards=shards,
        index=index_file,
    )


def numbered_record(number: int, *, hostile: bool) -> Record:
    image_id = HOSTILE_ID if hostile and number % 29 == 0 else None
    finding = FINDINGS[number % 17 % 14]
    shown = (
        () if number % 17 >= 13 else (finding, FINDINGS[(number + 3) % 13]) if number % 4 == 0 else (finding,)
    )
    return make_record(number, image_id=image_id, findings=shown)
