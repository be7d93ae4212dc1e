"""A saved model holds no setting that an older Keras refuses, and all the others."""

from __future__ import annotations

import zipfile
from pathlib import Path

import keras
import numpy as np
from settings import GUIDE, build

from engine.model import save_model


def _config(path: Path) -> str:
    with zipfile.ZipFile(path) as saved:
        return saved.read("config.json").decode()


def test_settings_that_are_off_are_left_out_and_change_nothing(tmp_path):
    model = build(GUIDE)
    save_model(model, tmp_path / "ours.keras")
    model.save(tmp_path / "kerass.keras")
    assert not any(name in _config(tmp_path / "ours.keras") for name in ("renorm", "quantization", "_axes"))
    ours, kerass = (keras.saving.load_model(tmp_path / f"{name}.keras") for name in ("ours", "kerass"))
    assert ours.get_config() == kerass.get_config()
    for weight, other in zip(ours.get_weights(), kerass.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


def test_settings_that_are_on_are_kept(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_constraint="non_neg")])
    save_model(model, tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.layers[0].kernel_constraint, keras.constraints.NonNeg)


def test_the_weights_are_stored_as_keras_stores_them(tmp_path):
    model = build(GUIDE)
    save_model(model, tmp_path / "ours.keras")
    model.save(tmp_path / "kerass.keras")

    def members(name):
        with zipfile.ZipFile(tmp_path / name) as saved:
            return [(member.filename, member.compress_type) for member in saved.infolist()]

    assert members("ours.keras") == members("kerass.keras")
