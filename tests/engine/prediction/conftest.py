"""A run directory with a model that gives each pixel its own weight, and nothing trained."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from engine import config as configs
from engine.training import run_directory
from engine.training.run_directory import RunDirectory
from records.labels import FINDINGS


def save_model(path: Path, shape: tuple[int, int, int], seed: int = 4) -> None:
    """Save logits that are linear in the pixels, so that no change of a picture goes unseen."""
    model = keras.Sequential(
        [
            keras.Input(shape, dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(len(FINDINGS)),
        ]
    )
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 0.05, weight.shape) for weight in model.get_weights()])
    model.save(path)


@pytest.fixture
def make_run(tmp_path: Path):
    """A function that makes the directory of a finished run on a data set."""

    def make(data_set, name: str = "run") -> RunDirectory:
        directory = RunDirectory(str(tmp_path / name))
        directory.start(configs.load("configs/demo.yaml"), data_set)
        side_px, channels = data_set.image["side_px"], data_set.image["stored_channels"]
        save_model(directory.checkpoint_path, (side_px, side_px, channels))
        directory.update(state=run_directory.FINISHED, epochs_done=1, best_epoch=1)
        return directory

    return make
