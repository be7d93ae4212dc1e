"""`evaluate.run` on a run made by hand: each image gets its own probabilities and labels."""

from __future__ import annotations

import csv
from pathlib import Path

import keras
import numpy as np
import pytest

from engine import config as configs
from engine.evaluation import evaluate
from engine.input.reader import ShardReader
from engine.training import run_directory
from engine.training.run_directory import RunDirectory
from records.errors import RunError
from records.labels import FINDINGS
from records.manifest import Manifest


def _save_model(path: Path, shape: tuple[int, int, int], seed: int = 4) -> None:
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
def finished(tmp_path: Path, data_set: Manifest) -> RunDirectory:
    """A run that has ended, with a model that is linear in the pixels."""
    directory = RunDirectory(str(tmp_path / "run"))
    directory.start(configs.load("configs/demo.yaml"), data_set)
    side_px, channels = data_set.image["side_px"], data_set.image["stored_channels"]
    _save_model(directory.checkpoint_path, (side_px, side_px, channels))
    directory.update(state=run_directory.FINISHED, epochs_done=1, best_epoch=1)
    return directory


def _predictions_path(directory: RunDirectory, split: str) -> Path:
    return directory.evaluation_path(split) / evaluate.PREDICTIONS_NAME


def _read(directory: RunDirectory, split: str) -> dict[str, dict[str, str]]:
    with _predictions_path(directory, split).open(newline="") as file:
        return {row["image_id"]: row for row in csv.DictReader(file)}


def _columns(row: dict[str, str], prefix: str) -> np.ndarray:
    return np.array([float(row[f"{prefix}_{finding}"]) for finding in FINDINGS])


@pytest.mark.parametrize("split", ["test", "validation", "train"])
def test_each_image_id_has_the_probabilities_and_labels_of_its_own_picture(finished, data_set, split):
    assert evaluate.run(str(finished.path), split, None) == 0
    rows = _read(finished, split)
    model = keras.saving.load_model(finished.checkpoint_path, compile=False)
    all_labels, all_scores = [], []
    with ShardReader(data_set, split) as reader:
        assert len(rows) == len(reader) == data_set.splits[split].images
        for number in range(len(reader)):
            (record,) = reader.records(np.array([number]))
            row = rows[record.image_id]
            picture = np.frombuffer(record.image, np.uint8).reshape(1, *record.shape)
            logits = np.asarray(keras.ops.convert_to_numpy(model(picture)), np.float64)[0]
            all_scores.append(1 / (1 + np.exp(-logits)))
            all_labels.append(record.labels)
            assert int(row["patient_id"]) == record.patient_id
            np.testing.assert_allclose(_columns(row, "probability"), all_scores[-1], atol=1e-5)
            np.testing.assert_array_equal(_columns(row, "label"), record.labels)
    # Neither could be turned round without being noticed.
    assert not np.array_equal(all_labels, all_labels[::-1])
    assert not np.allclose(all_scores, all_scores[::-1], atol=1e-3)


def test_predictions_that_are_gone_are_made_again(finished):
    evaluate.run(str(finished.path), "test", None)
    path = _predictions_path(finished, "test")
    before = path.read_bytes()
    path.unlink()
    evaluate.run(str(finished.path), "test", None)
    assert path.read_bytes() == before


def test_a_model_that_was_judged_is_not_judged_again(finished):
    evaluate.run(str(finished.path), "test", None)
    before = _predictions_path(finished, "test").stat()
    evaluate.run(str(finished.path), "test", None)
    after = _predictions_path(finished, "test").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_another_model_in_its_place_is_judged_anew(finished, data_set):
    evaluate.run(str(finished.path), "test", None)
    before = _read(finished, "test")
    side_px, channels = data_set.image["side_px"], data_set.image["stored_channels"]
    _save_model(finished.checkpoint_path, (side_px, side_px, channels), seed=5)
    evaluate.run(str(finished.path), "test", None)
    after = _read(finished, "test")
    assert list(after) == list(before)
    for image_id, row in after.items():
        assert not np.allclose(_columns(row, "probability"), _columns(before[image_id], "probability"))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_model_with_one_flipped_byte_is_one_clear_line(finished, share):
    data = bytearray(finished.checkpoint_path.read_bytes())
    data[int(share * len(data))] ^= 0xFF
    finished.checkpoint_path.write_bytes(data)
    with pytest.raises(RunError, match=r"best\.keras") as raised:
        evaluate.run(str(finished.path), "test", None)
    assert "\n" not in str(raised.value)
    assert not _predictions_path(finished, "test").exists()


def test_a_model_cut_short_is_one_clear_line(finished):
    data = finished.checkpoint_path.read_bytes()
    finished.checkpoint_path.write_bytes(data[: len(data) // 2])
    with pytest.raises(RunError, match=r"best\.keras") as raised:
        evaluate.run(str(finished.path), "test", None)
    assert "\n" not in str(raised.value)
