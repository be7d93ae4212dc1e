"""A small data set and runs of tiny networks, built and saved but never trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import pytest

from engine import config as configs
from engine.model import build_model
from engine.model.save import save_model
from engine.training import run_directory
from engine.training.run_directory import RunDirectory
from records.labels import FINDINGS
from records.manifest import Manifest

SIZES = {"train": (12,), "validation": (17, 13), "test": (4,)}
SIDE_PX = 32
MakeRun = Callable[..., Path]


@pytest.fixture
def data_set(tmp_path: Path, write_data_set: Callable[..., Manifest]) -> Manifest:
    """Raw 32 x 32 x 1 images: 12 for training, 30 of 15 patients for validation, 4 for test."""
    return write_data_set(tmp_path / "data", sizes=SIZES)


@pytest.fixture
def make_run(tmp_path: Path, data_set: Manifest) -> MakeRun:
    """A function from a name and a seed to the directory of a run whose model has fresh weights."""

    def make(
        name: str,
        seed: int,
        *overrides: str,
        filters: str = "[4]",
        side_px: int = SIDE_PX,
        of: Manifest = data_set,
        state: str = run_directory.FINISHED,
    ) -> Path:
        model = (
            f"model={{name: guide_cnn, weights: none, image_side_px: {side_px}, normalisation: imagenet, "
            f"filters: {filters}, kernel_px: 3, dropout: 0.2}}"
        )
        config = configs.load("configs/demo.yaml", [model, *overrides])
        directory = RunDirectory(str(tmp_path / "runs" / name))
        directory.start(config, of)
        directory.update(state=state)
        keras.utils.set_random_seed(seed)
        built = build_model(
            config.model,
            stored_side_px=of.image["side_px"],
            stored_channels=of.image["stored_channels"],
            mean_and_deviation=(128.0, 40.0),
            findings=len(FINDINGS),
        )
        save_model(built, directory.checkpoint_path)
        return directory.path

    return make


@pytest.fixture
def runs(make_run: MakeRun) -> list[str]:
    """Three members: one has a smaller side, one another loss."""
    return [
        str(make_run("plain", 1)),
        str(make_run("small", 2, side_px=16)),
        str(make_run("bce", 3, "loss={name: bce}")),
    ]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "ensemble"
