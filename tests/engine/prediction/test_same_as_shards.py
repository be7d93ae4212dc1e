"""A file gives what its record gives: shards that the conversion's workers wrote, and one model for both."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from beam_pipelines import claims, notes, shards
from beam_pipelines.plan import ImageRow, PixelSettings, ShardItem, library_versions
from engine.evaluation.predictor import open_run
from engine.prediction import predict
from records import index, manifest, storage
from records.labels import FINDINGS

SETTINGS = {
    "raw": PixelSettings(64),
    "png": PixelSettings(64, encoding="png"),
    "three channels": PixelSettings(64, stored_channels=3),
    "jpeg": PixelSettings(64, encoding="jpeg", jpeg_quality=80),
    "jpeg, three channels": PixelSettings(64, 3, "jpeg", 80),
}


def converted(folder: Path, images: list[Path], settings: PixelSettings, like: manifest.Manifest):
    """Write images as a test split, as a worker of the conversion does; return the data set's manifest."""
    rows = tuple(
        ImageRow(
            path.name, str(path), path.stat().st_size, 0, number, bytes(len(FINDINGS)), "PA", "F", 50.0, 0
        )
        for number, path in enumerate(images)
    )
    item = ShardItem("test-00000-of-00001.tfrecord", "test", rows)
    storage.write_bytes(str(folder / claims.FILE_NAME), json.dumps({"owner": "test"}).encode())
    shards.write_shard(item, str(folder), settings, library_versions(), "test")
    note = notes.find(item, str(folder), settings)
    assert note is not None
    assert not note.quarantined
    data = index.to_bytes(note.index)
    storage.write_bytes(str(folder / "test.index.npy"), data)
    split = dataclasses.replace(
        like.splits["test"],
        images=len(images),
        shards=(note.shard,),
        index=manifest.StoredFile("test.index.npy", len(data), manifest.crc32c(data)),
    )
    image = {name: value for name, value in dataclasses.asdict(settings).items() if value is not None}
    written = dataclasses.replace(
        like, image={"resize_kernel": "area", **image}, splits={**like.splits, "test": split}
    )
    storage.write_bytes(str(folder / manifest.FILE_NAME), written.to_json())
    return manifest.load(str(folder / manifest.FILE_NAME))


def write_images(folder: Path) -> list[Path]:
    noise = np.random.default_rng(0).normal(0, 600, (4, 150, 130)).astype(np.float32)
    grey, other, wide, deep = (
        np.clip(128 + cv2.GaussianBlur(plane, (0, 0), 4), 0, 255).astype(np.uint8) for plane in noise
    )
    images = {
        "grey.png": grey,
        "rgba.png": np.stack([other, other, other, 255 - other], axis=-1),
        "wide.png": np.ascontiguousarray(wide[:100]),
        "deep.png": deep.astype(np.uint16) * 257 + 100,
    }
    for name, values in images.items():
        cv2.imwrite(str(folder / name), values)
    return [folder / name for name in images]


def assert_alike(run, data_set: manifest.Manifest, images: list[Path], capsys) -> None:
    through_shards = open_run(run.path).predict_split(data_set, "test").predictions
    assert through_shards.image_ids.tolist() == [path.name for path in images]
    capsys.readouterr()
    assert predict.run(str(run.path), [str(path) for path in images], as_json=True) == 0
    captured = capsys.readouterr()
    assert "stored without loss" not in captured.err
    found = [image["raw_probabilities"] for image in json.loads(captured.out)["images"]]
    predicted = np.array([[by_finding[finding] for finding in FINDINGS] for by_finding in found])
    np.testing.assert_allclose(predicted, through_shards.probabilities, rtol=0, atol=1e-5)
    # The pictures differ enough for one to be noticed in place of another.
    assert np.ptp(predicted, axis=0).max() > 0.05


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_file_gives_the_probabilities_of_its_record(make_run, data_set, tmp_path, capsys, settings):
    images = write_images(tmp_path)
    of_shards = converted(tmp_path / "shards", images, settings, data_set)
    assert_alike(make_run(of_shards), of_shards, images, capsys)


def test_a_data_set_that_is_gone_is_said(make_run, data_set, tmp_path, capsys):
    images = write_images(tmp_path)
    run = make_run(data_set)
    known = json.loads((run.path / "run.json").read_bytes())
    known["manifest"].pop("image", None)
    (run.path / "run.json").write_text(json.dumps(known))
    Path(data_set.location).unlink()
    assert predict.run(str(run.path), [str(images[0])], as_json=True) == 0
    assert "note: pictures are taken as stored without loss: " in capsys.readouterr().err


@pytest.mark.real_data
@pytest.mark.parametrize("kind", ["raw", "jpeg"])
def test_a_real_image_gives_the_probabilities_of_its_record(make_run, data_set, nih, tmp_path, capsys, kind):
    images = sorted((nih / "images").glob("*.png"))[::8]
    of_shards = converted(tmp_path / "shards", images, SETTINGS[kind], data_set)
    assert_alike(make_run(of_shards), of_shards, images, capsys)
