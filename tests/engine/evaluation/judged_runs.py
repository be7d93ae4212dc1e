"""Makes predictions and run directories by hand, so that a test knows all that is in them."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np

from engine import config as configs
from engine.evaluation.models import hash_file
from engine.evaluation.predictions import Predictions
from engine.training import run_directory
from engine.training.run_directory import RunDirectory
from records.labels import FINDINGS
from records.manifest import Manifest

HERNIA = FINDINGS.index("Hernia")


def make_predictions(images: int = 240, *, seed: int = 3) -> Predictions:
    """Three images a patient; nobody has a hernia, some logits are equal, some ages are unknown."""
    random = np.random.default_rng(seed)
    labels = (random.random((images, 14)) < 0.3).astype(np.uint8)
    labels[:, HERNIA] = 0
    logits = np.round(random.normal(size=labels.shape) + labels, 1).astype(np.float32)
    patients = np.arange(images) // 3
    ages = random.integers(5, 90, images).astype(np.float64)
    ages[::20] = np.nan
    return Predictions(
        image_ids=np.array([f"{number // 3:08d}_{number % 3:03d}.png" for number in range(images)]),
        patient_ids=patients,
        logits=logits.astype(np.float64),
        labels=labels,
        sex=np.array(["F", "M"])[patients % 2],
        view=random.choice(["PA", "AP"], images),
        age_years=ages,
        follow_up=np.arange(images) % 3,
    )


def save_model(path: Path, data_set: Manifest, *, seed: int = 4, scale: float = 0.05) -> None:
    """Save a model that is linear in the pixels; a scale of NaN makes one that has diverged."""
    side_px, channels = data_set.image["side_px"], data_set.image["stored_channels"]
    model = keras.Sequential(
        [
            keras.Input((side_px, side_px, channels), dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(len(FINDINGS)),
        ]
    )
    rng = np.random.default_rng(seed)
    model.set_weights([scale * rng.normal(size=weight.shape) for weight in model.get_weights()])
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)


def make_run(folder: Path, data_set: Manifest, *, seed: int = 4, scale: float = 0.05) -> RunDirectory:
    """Make a run that has ended."""
    directory = RunDirectory(str(folder))
    directory.start(configs.load("configs/demo.yaml"), data_set)
    save_model(directory.checkpoint_path, data_set, seed=seed, scale=scale)
    directory.update(state=run_directory.FINISHED, epochs_done=1, best_epoch=1)
    return directory


def make_ensemble(folder: Path, data_set: Manifest, **changes: object) -> RunDirectory:
    """Make an ensemble of two linear models, as `engine ensemble` leaves one."""
    members = []
    for name, seed in (("one", 4), ("two", 5)):
        path = folder / "members" / name / "best.keras"
        save_model(path, data_set, seed=seed)
        members.append({"name": name, "sha256": hash_file(path)})
    note = {"schema": 1, "rule": "logits", "weights": [0.25, 0.75], "members": members, "tta": None}
    (folder / "ensemble.json").write_text(json.dumps(note | changes))
    known = {
        "state": "finished",
        "manifest": {"location": data_set.location, "sha256": data_set.sha256},
    }
    (folder / "run.json").write_text(json.dumps(known))
    return RunDirectory(str(folder))
