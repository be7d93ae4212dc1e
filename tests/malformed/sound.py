"""Sound inputs of every kind, small: what the malformed ones are spoilt from."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np

from beam_pipelines import convert
from records.labels import FINDINGS, NO_FINDING

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
PATIENTS = 6
SIDE_PX = 32


def picture(seed: int, side_px: int = 48) -> np.ndarray:
    """Draw (side, side) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (side_px, side_px), np.uint8)


def png(image: np.ndarray) -> bytes:
    """Encode a picture of any kind."""
    return cv2.imencode(".png", image)[1].tobytes()


def image_ids() -> list[str]:
    """Return the names of two images of each patient."""
    return [f"{patient:08d}_{visit:03d}.png" for patient in range(1, PATIENTS + 1) for visit in range(2)]


def table_rows() -> list[str]:
    """Return the rows of the label table."""
    return [
        f"{image_id},{FINDINGS[number] if number % 2 else NO_FINDING},{number % 2},{number // 2 + 1},"
        f"{40 + number},{'MF'[number // 2 % 2]},PA"
        for number, image_id in enumerate(image_ids())
    ]


def write_source(folder: Path) -> Path:
    """Write images, table and lists."""
    (folder / "images").mkdir(parents=True)
    for number, image_id in enumerate(image_ids()):
        (folder / "images" / image_id).write_bytes(png(picture(number)))
    (folder / "table.csv").write_text("\n".join([HEADER, *table_rows()]) + "\n")
    cut = 2 * (PATIENTS - 2)
    (folder / "train_val_list.txt").write_text("\n".join(image_ids()[:cut]))
    (folder / "test_list.txt").write_text("\n".join(image_ids()[cut:]))
    return folder


def conversion(source: Path, output: Path, **changes: object) -> list[str]:
    """Return the flags of a conversion in this process; a change to None removes a flag."""
    flags: dict[str, object] = {
        "images": source / "images",
        "labels": source / "table.csv",
        "split": "official",
        "train_val_list": source / "train_val_list.txt",
        "test_list": source / "test_list.txt",
        "validation_fraction": 0.25,
        "image_side": SIDE_PX,
        "records_per_shard": 3,
        "output": output,
        "direct_running_mode": "in_memory",
        "direct_num_workers": 1,
    }
    return [
        text for name, value in (flags | changes).items() if value is not None for text in _flag(name, value)
    ]


def _flag(name: str, value: object) -> list[str]:
    return [f"--{name}"] if value is True else [f"--{name}", str(value)]


def write_data_set(folder: Path) -> Path:
    """Convert a source; return the folder of the shards."""
    source = write_source(folder / "source")
    if convert.main(conversion(source, folder / "shards")):
        raise RuntimeError("the sound data set could not be converted")
    return folder / "shards"


def write_run(folder: Path, data_set: Path) -> Path:
    """Make the directory of a run that has ended, with a model that is linear in the pixels."""
    from engine import config as configs
    from engine.training import run_directory
    from engine.training.run_directory import RunDirectory
    from records import manifest

    directory = RunDirectory(str(folder))
    directory.start(configs.load("configs/demo.yaml"), manifest.load(str(data_set)))
    save_model(directory.checkpoint_path, seed=1)
    directory.update(state=run_directory.FINISHED, epochs_done=1, best_epoch=1)
    return folder


def save_model(path: Path, seed: int, outputs: int = len(FINDINGS), layers: tuple = ()) -> None:
    """Save a model of this many outputs."""
    import keras

    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((SIDE_PX, SIDE_PX, 1), dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            *layers,
            keras.layers.Flatten(),
            keras.layers.Dense(outputs),
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)


def write_ensemble(folder: Path, run: Path) -> Path:
    """Make an ensemble of two members, as `engine ensemble` leaves one."""
    members = []
    for seed, name in enumerate(("one", "two")):
        path = folder / "members" / name / "best.keras"
        save_model(path, seed)
        members.append({"name": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    note = {"schema": 1, "rule": "logits", "weights": [0.5, 0.5], "members": members, "tta": None}
    (folder / "ensemble.json").write_text(json.dumps(note))
    shutil.copyfile(run / "run.json", folder / "run.json")
    return folder


def change_json(path: Path, **changes: object) -> None:
    """Set keys of a JSON file, `a__b` for `b` inside `a`; the value `...` removes one."""
    values = json.loads(path.read_bytes())
    for name, value in changes.items():
        *outer, key = name.split("__")
        place = values
        for part in outer:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if value is ...:
            del place[key]
        else:
            place[key] = value
    path.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
