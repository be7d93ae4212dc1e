"""A run whose model finds bright places, by weights set by hand, and boxes around them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import keras
import numpy as np

from engine.input.reader import ShardReader
from engine.model import Preprocess, save_model
from records.labels import FINDINGS
from records.manifest import Manifest

SIDE_PX = 32
FOUND, IGNORED = "Mass", "Nodule"
# Of a mean of nine pixels: below it the model sees nothing.
FLOOR = 100.0


def model(side_px: int = SIDE_PX) -> keras.Model:
    """A mean of 3 x 3 pixels less `FLOOR`, its positive part averaged: the logit of `FOUND` alone."""
    images = keras.Input((side_px, side_px, 1), dtype="uint8")
    pixels = Preprocess(side_px, 0.0, 255.0, channels=1)(images)
    bright = keras.layers.Conv2D(2, 3, padding="same", activation="relu", name="bright")
    x = keras.layers.GlobalAveragePooling2D()(bright(pixels))
    logits = keras.layers.Dense(len(FINDINGS), name="logits")
    made = keras.Model(images, logits(x))
    kernel = np.stack([np.full((3, 3, 1), 1 / 9), np.full((3, 3, 1), -1 / 9)], axis=-1)
    bright.set_weights([kernel, np.array([-FLOOR / 255, 0.1])])
    weights = np.zeros((2, len(FINDINGS)))
    weights[0, FINDINGS.index(FOUND)] = 3.0
    logits.set_weights([weights, np.zeros(len(FINDINGS))])
    return made


def make_run(folder: Path, data_set: Manifest, saved: keras.Model | None = None) -> Path:
    """Write a run directory as training leaves it, as far as heat maps look at it."""
    folder.mkdir()
    known = {
        "state": "finished",
        "epochs_done": 1,
        "manifest": {"location": data_set.location, "sha256": data_set.sha256},
    }
    (folder / "run.json").write_text(json.dumps(known))
    save_model(saved or model(), folder / "best.keras")
    return folder


def brightest(picture: np.ndarray) -> tuple[float, float]:
    """x and y of the centre of the brightest 3 x 3 pixels of a (S, S) picture, black around."""
    mean = cv2.blur(picture.astype(np.float64), (3, 3), borderType=cv2.BORDER_CONSTANT)
    row, column = np.unravel_index(mean.argmax(), mean.shape)
    return column + 0.5, row + 0.5


def write_boxes(path: Path, data_set: Manifest, findings: tuple[str, ...] = (FOUND,)) -> Path:
    """Write a box of 4 x 4 stored pixels around each picture's brightest place, in pixels of 1024."""
    lines = ["Image Index,Finding Label,Bbox [x,y,w,h],,,"]
    scale = 1024 / data_set.image["side_px"]
    for split in data_set.splits:
        with ShardReader(data_set, split) as reader:
            for record in reader.records(np.arange(len(reader))):
                x, y = brightest(record.pixels()[..., 0])
                place = f"{(x - 2) * scale if x > 2 else 0},{(y - 2) * scale if y > 2 else 0}"
                lines += [f"{record.image_id},{name},{place},{4 * scale},{4 * scale}" for name in findings]
    path.write_text("\n".join(lines) + "\n")
    return path
