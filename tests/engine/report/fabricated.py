"""Makes records, data sets and judged runs, so that a test knows all that is in them.

The predictions are drawn; all numbers of an evaluation are computed from them by the functions that
`engine evaluate` uses.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engine.evaluation import frozen, predictions, reads, summary
from engine.evaluation.predictions import Predictions
from engine.heatmaps import scores
from engine.metrics import bootstrap
from engine.metrics.intervals import as_json
from records import example, index, manifest, storage, tfrecord
from records.example import Record
from records.labels import FINDINGS
from records.manifest import Manifest, Shard, Split, StoredFile
from records.splits import SPLITS

SIDE_PX = 32
HOSTILE_ID = "<script>alert('x')</script>&\"_000.png"
MODEL_SHA256 = "12" * 32
DRAWS = 40


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


def make_data_set(
    folder: Path,
    records: dict[str, list[list[Record]]],
    *,
    phantom: bool = True,
    strategy: str = "stratified",
) -> Manifest:
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
        split={"strategy": strategy, "seed": 17, "fractions": [0.6, 0.2, 0.2]},
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
    folder: Path,
    data_set: Manifest,
    records: dict[str, list[list[Record]]],
    *,
    splits: tuple[str, ...] = ("validation", "test"),
    loss: str = "weighted_bce",
    skill: float = 1.5,
    epochs: int = 6,
) -> Path:
    """Write the directory of a finished run that was judged on `splits`."""
    write_training(folder, data_set, loss=loss, epochs=epochs)
    made = {name: made_predictions(flat(records[name]), skill=skill) for name in splits}
    write_evaluation(folder, data_set, made, {})
    return folder


def write_ensemble(folder: Path, data_set: Manifest, records: dict[str, list[list[Record]]]) -> Path:
    """Write the directory of an ensemble of two members that was judged on validation and test."""
    names, skills = ("dynamic", "plain"), (1.4, 1.1)
    made, members = {}, {}
    for split in ("validation", "test"):
        alone = [made_predictions(flat(records[split]), skill=s, seed=n) for n, s in enumerate(skills)]
        members[split] = {name: part.logits for name, part in zip(names, alone, strict=True)}
        values = alone[0].__dict__ | {"logits": np.mean([part.logits for part in alone], axis=0)}
        made[split] = Predictions(**values)
    run = _known(data_set) | {"kind": "ensemble", "command": "engine ensemble --run-dirs a b --output e"}
    _write_json(folder / "run.json", run)
    for name in names:
        write_training(folder / "members" / name, data_set, loss=name)
    validation = made["validation"]
    described = [
        {
            "name": name,
            "run_dir": f"runs/{name}",
            "sha256": "34" * 32,
            "image_side_px": SIDE_PX,
            "loss": name,
            "validation_macro_auroc": _macro(validation, members["validation"][name]),
        }
        for name in names
    ]
    ensemble = {
        "schema": 1,
        "rule": "probabilities",
        "weights": [0.5, 0.5],
        "chosen_by": "equal",
        "guard": {},
        "members": described,
        "tta": None,
        "candidates": [],
        "validation": {"macro_auroc": _macro(validation, validation.logits)},
    }
    _write_json(folder / "ensemble.json", ensemble)
    write_evaluation(folder, data_set, made, members)
    return folder


def write_training(folder: Path, data_set: Manifest, *, loss: str, epochs: int = 6) -> None:
    """Write what `engine train` leaves beside the model."""
    best = {"epochs": epochs, "epochs_done": epochs, "best_epoch": min(4, epochs)}
    _write_json(folder / "run.json", _known(data_set) | best | {"best_val_macro_auroc": 0.8123})
    config = "model:\n  name: densenet121_cbam\n  head_units: [128, 64]\n" + (
        f"loss:\n  name: {loss}\ntrain:\n  monitor: val_macro_auroc\n  learning_rate: 0.0001\n  seed: 1\n"
    )
    storage.write_bytes(str(folder / "config.yaml"), config.encode())
    storage.write_bytes(str(folder / "history.csv"), history_csv(epochs).encode())


def write_evaluation(
    folder: Path,
    data_set: Manifest,
    made: dict[str, Predictions],
    members: dict[str, dict[str, np.ndarray]],
    *,
    draws: int = DRAWS,
) -> None:
    """Write what `engine evaluate` leaves: choices on validation if there is one, then each split's files."""
    evaluation = folder / "evaluation"
    chosen = None
    if "validation" in made:
        chosen = frozen.choose(
            made["validation"],
            members.get("validation", {}),
            model_sha256=MODEL_SHA256,
            manifest_sha256=data_set.sha256,
        )
        frozen.write(evaluation / frozen.FILE_NAME, chosen)
    for split, parsed in made.items():
        validation = None
        if split == "test":
            validation = data_set.splits["validation"] if "validation" in made else None
            frozen_path = evaluation / frozen.FILE_NAME
            sha256 = hashlib.sha256(frozen_path.read_bytes()).hexdigest() if chosen else None
            entry = {
                "model_sha256": MODEL_SHA256,
                "manifest_sha256": data_set.sha256,
                "frozen_sha256": sha256,
            }
            reads.append(evaluation / reads.FILE_NAME, entry)
        sha256 = predictions.write(evaluation / split / predictions.FILE_NAME, parsed)
        metrics = {
            "schema": summary.SCHEMA,
            "split": split,
            "split_strategy": data_set.split["strategy"],
            "manifest_sha256": data_set.sha256,
            "model_sha256": MODEL_SHA256,
            "predictions_sha256": sha256,
            **summary.summarise(parsed, members.get(split, {}), chosen, draws=draws, validation=validation),
            "test_reads": len(reads.read(evaluation / reads.FILE_NAME)),
        }
        _write_json(evaluation / split / summary.FILE_NAME, metrics)


def write_heatmaps(
    folder: Path, data_set: Manifest, pictures: list[tuple[str, str, np.ndarray]], seed: int = 3
) -> None:
    """Write what `engine heatmaps` leaves; `pictures` are (image id, finding, (H, W, 3) BGR)."""
    random = np.random.default_rng(seed)
    gallery, overlaps, hits = [], random.beta(2, 5, len(pictures)), random.random(len(pictures)) < 0.5
    for number, (image_id, finding, picture) in enumerate(pictures):
        name = f"gallery/{number:03d}.png"
        storage.write_bytes(str(folder / "heatmaps" / name), cv2.imencode(".png", picture)[1].tobytes())
        gallery.append(
            {
                "file": name,
                "image_id": image_id,
                "split": "test",
                "finding": finding,
                "choice": "only",
                "probability": float(random.random()),
                "boxes": [[4, 4, 8, 8]],
                "region": [4.0, 4.0, 8.0, 6.0],
                "iou": float(overlaps[number]),
                "hit": bool(hits[number]),
            }
        )
    named = np.array([finding for _, finding, _ in pictures])
    by_finding = {
        finding: _judged_boxes(overlaps[named == finding], hits[named == finding])
        for finding in dict.fromkeys(named)
    }
    side_px = pictures[0][2].shape[0]
    found = {
        "schema": scores.SCHEMA,
        "model_sha256": MODEL_SHA256,
        "manifest_sha256": data_set.sha256,
        "asked": {
            "findings": list(FINDINGS),
            "attention": False,
            "cbam": False,
            "images": 24,
            "draws": DRAWS,
        },
        "level": 0.5,
        "layer": "relu",
        "method": "grad-cam",
        "attention": False,
        "thresholds": [0.1, 0.3, 0.5],
        "boxes_in_list": 984,
        "boxes_used": len(pictures),
        "left_out": {"the image is not in the data set": 984 - len(pictures)},
        "findings": {str(name): values for name, values in by_finding.items()},
        "total": _judged_boxes(overlaps, hits),
        "splits": {"test": _judged_boxes(overlaps, hits)},
        "gallery": gallery,
        "panels": [0, 4, side_px, side_px - 8],
    }
    _write_json(folder / "heatmaps" / "heatmaps.json", found)


def made_predictions(records: list[Record], *, skill: float = 1.5, seed: int = 5) -> Predictions:
    """Draw logits that rank by about `skill` deviations."""
    labels = np.stack([record.labels for record in records])
    noise = np.random.default_rng(seed).normal(size=labels.shape)
    return Predictions(
        image_ids=np.array([record.image_id for record in records]),
        patient_ids=np.array([record.patient_id for record in records], np.int64),
        logits=(skill * labels + noise - 2).astype(np.float32).astype(np.float64),
        labels=labels,
        sex=np.array([record.sex for record in records]),
        view=np.array([record.view for record in records]),
        age_years=np.array([record.age_years for record in records]),
        follow_up=np.array([record.follow_up for record in records], np.int64),
    )


def flat(shards: list[list[Record]]) -> list[Record]:
    return [record for shard in shards for record in shard]


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


def _known(data_set: Manifest) -> dict[str, Any]:
    return {
        "state": "finished",
        "command": "engine train --config configs/demo.yaml --data data --run-dir <run>",
        "started": "2026-01-02T03:04:05Z",
        "seconds": 3725.0,
        "git_commit": "0123456789abcdef",
        "versions": {"python": "3.11.9", "keras": "3.15.1"},
        "manifest": {"location": data_set.location, "sha256": data_set.sha256},
        "parameters": 8_228_081,
        "device": "1 x CPU",
    }


def _macro(made: Predictions, logits: np.ndarray) -> dict[str, float | None]:
    return as_json(
        bootstrap.ranking_intervals(made.labels, logits, made.patient_ids, draws=DRAWS).macro_auroc
    )


def _judged_boxes(overlaps: np.ndarray, hits: np.ndarray) -> dict[str, Any]:
    """Judge boxes of as many patients."""
    patients = np.arange(len(overlaps))

    def mean(values: np.ndarray) -> dict[str, float | None]:
        return as_json(bootstrap.mean_interval(values.astype(np.float64), patients, draws=DRAWS))

    return {
        "boxes": 2 * len(overlaps),
        "pairs": len(overlaps),
        "few": len(overlaps) < 30,
        "no_map": 0,
        "images": len(overlaps),
        "patients": len(overlaps),
        "pointing": mean(hits),
        "iou": mean(overlaps),
        "iou_at": {f"{cut:g}": mean(overlaps >= cut) for cut in (0.1, 0.3, 0.5)},
        "by_chance": 64 / SIDE_PX**2,
    }


def _write_json(path: Path, values: dict[str, Any]) -> None:
    storage.write_bytes(str(path), json.dumps(values, allow_nan=False).encode())


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
        flat(shards),
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
