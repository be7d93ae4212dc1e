from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from beam_pipelines import archives, sources, zips
from engine.evaluation import models
from engine.evaluation.predictor import load_model
from engine.heatmaps import gallery
from engine.model.weights import load_weights
from engine.report.sections import heatmaps as heatmaps_section
from records import manifest, manifest_check
from records.errors import CxrError, ManifestError, RunError, StorageError

HOSTILE = (
    *("../x", "a/../x", "/etc/passwd", "..", ".", "", "a//b", "a\\..\\x", "a\nb", "a\0b"),
    *("s3://bucket/x", "gs://bucket/x", "http://host/x", "file:///etc/passwd", "\ud800"),
)


@pytest.mark.parametrize("path", HOSTILE)
def test_a_manifest_leads_nowhere_but_below_its_folder(path: str, data_set: manifest.Manifest) -> None:
    assert not manifest_check.is_inside(path)
    location = Path(data_set.location)
    for file in ("shards", "index"):
        values = json.loads(data_set.to_json())
        split = values["splits"]["train"]
        (split["shards"][0] if file == "shards" else split["index"])["path"] = path
        location.write_text(json.dumps(values))
        with pytest.raises(ManifestError, match="expected a relative path inside the data set's folder"):
            manifest.load(str(location))


def test_no_member_of_a_zip_is_written_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../evil.png", b"data")
    (found,) = zips.list_images(str(path))
    assert zips.read_image(found.location) == b"data"
    assert [entry.name for entry in tmp_path.rglob("*")] == ["images.zip"]


def test_a_reference_reads_its_own_archive_alone(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    for reference in (f"{tmp_path}/secret.txt", f"{tmp_path}/secret.txt!/x.png#0+6+6+0+00000000"):
        assert not zips.is_reference(reference)
        assert not archives.is_reference(reference)
        with pytest.raises(StorageError):
            zips.read_image(reference)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_loop_of_links_below_the_images_ends(tmp_path: Path, kind: str) -> None:
    (tmp_path / "images").mkdir()
    link = tmp_path / "images" / ("loop" if kind == "folder" else "00000001_000.png")
    link.symlink_to("." if kind == "folder" else link.name)
    with pytest.raises(CxrError):
        sources.list_sources([str(tmp_path / "images")])


@pytest.mark.parametrize("image_id", ["../../evil", "/etc/passwd", "a\0b", "..", "C:\\evil"])
def test_a_picture_of_the_gallery_stays_in_its_folder_whatever_its_image_is_called(image_id: str) -> None:
    class Boxed:
        finding = "Mass"

    Boxed.image_id = image_id  # type: ignore[attr-defined]

    class Judged:
        boxed = Boxed

    name = gallery.file_name(gallery.Choice(Judged, "best", 1))  # type: ignore[arg-type]
    assert Path(name).name == name
    assert name.isprintable()


@pytest.fixture
def ensemble(tmp_path: Path, data_set: manifest.Manifest) -> Callable[[str], Path]:
    """A function from the name of a member to an ensemble, with that member's file where the name leads."""

    def make(name: str) -> Path:
        folder = tmp_path / "ensemble"
        (folder / "members" / "one").mkdir(parents=True)
        target = folder / "members" / name / "best.keras"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"model")
        member = {"name": name, "sha256": hashlib.sha256(b"model").hexdigest()}
        note = {"rule": "logits", "weights": [1.0], "members": [member], "tta": None}
        (folder / "ensemble.json").write_text(json.dumps(note))
        known = {"state": "finished", "manifest": {"location": data_set.location, "sha256": data_set.sha256}}
        (folder / "run.json").write_text(json.dumps(known))
        return folder

    return make


@pytest.mark.parametrize("name", ["../../outside", "..", "one/../../../outside", "/outside"])
def test_a_member_of_an_ensemble_lies_in_its_folder(ensemble, tmp_path: Path, name: str) -> None:
    folder = ensemble(str(tmp_path / "outside") if name == "/outside" else name)
    with pytest.raises(RunError, match="not the note of an ensemble"):
        models.find(folder)


def test_the_gallery_of_a_report_shows_no_picture_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "heatmaps").mkdir()
    cv2.imwrite(str(tmp_path / "private.png"), np.zeros((9, 9), np.uint8))
    for file in ("../private.png", str(tmp_path / "private.png")):
        entry = {"file": file, "finding": "Mass", "image_id": "a", "hit": True, "region": None}
        with pytest.raises(RunError, match="heatmaps"):
            heatmaps_section._picture(tmp_path / "heatmaps", entry, [0, 0, 9, 9])


def test_a_model_with_code_of_its_own_is_refused_by_whatever_loads_one(tmp_path: Path) -> None:
    layers = [keras.Input((8, 8, 1)), keras.layers.Lambda(lambda x: x), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(14)])
    model.save(tmp_path / "model.keras")
    with pytest.raises(RunError, match="Lambda"):
        load_model(tmp_path / "model.keras")
    with pytest.raises(RunError, match="can't be read as a saved Keras model"):
        load_weights(model, str(tmp_path / "model.keras"))


def test_a_model_that_names_a_function_of_another_module_is_refused(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(14)])
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = members["config.json"].replace(b'"module": "keras.layers"', b'"module": "os"', 1)
    config = config.replace(b'"class_name": "Flatten"', b'"class_name": "system"')
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, data in (members | {"config.json": config}).items():
            archive.writestr(name, data)
    with pytest.raises(RunError, match="can't be loaded as a model"):
        load_model(tmp_path / "model.keras")
