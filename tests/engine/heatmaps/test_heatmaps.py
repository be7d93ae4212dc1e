"""`heatmaps.run` on a run whose model finds bright places, and on what it can't be made of."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from bright_places import FOUND, IGNORED, make_run, model, write_boxes

from engine.evaluation import evaluate, lock
from engine.heatmaps import boxed_images, heatmaps
from engine.model import save_model
from records import storage
from records.errors import CxrError, RunError, StorageError, TableError, UsageError
from records.labels import FINDINGS
from records.manifest import Manifest
from records.table import Box

DRAWS = 100


@pytest.fixture
def run_dir(tmp_path: Path, data_set: Manifest) -> Path:
    return make_run(tmp_path / "run", data_set)


@pytest.fixture
def boxes(tmp_path: Path, data_set: Manifest) -> Path:
    return write_boxes(tmp_path / "BBox_List_2017.csv", data_set)


def made(run_dir: Path, boxes: Path, **more) -> dict:
    assert heatmaps.run(str(run_dir), str(boxes), draws=DRAWS, **more) == 0
    return json.loads((run_dir / "heatmaps" / "heatmaps.json").read_bytes())


def reads(run_dir: Path) -> list[dict]:
    path = run_dir / "evaluation" / "test_reads.json"
    return json.loads(path.read_bytes()) if path.is_file() else []


def fails(kind: type[CxrError], match: str, *args, **more) -> None:
    with pytest.raises(kind, match=match) as raised:
        heatmaps.run(*map(str, args), **more)
    assert "\n" not in str(raised.value)


def test_each_picture_is_held_against_its_own_boxes(run_dir, boxes, data_set, capsys):
    numbers = made(run_dir, boxes)
    mass = numbers["findings"][FOUND]
    assert mass["pointing"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert mass["images"] == numbers["boxes_used"] == 25  # train and validation
    assert mass["by_chance"] == pytest.approx(16 / 32**2, rel=0.05)
    assert numbers["layer"] == "bright"
    shown = capsys.readouterr().out
    assert "1.00 [1.00, 1.00]" in shown
    assert "20 boxes are of training pictures, which the model has learnt from" in shown
    entries = numbers["gallery"]
    assert [entry["choice"] for entry in entries] == ["best", "median", "worst"]
    for entry in entries:
        assert cv2.imread(str(run_dir / "heatmaps" / entry["file"])).shape == (570, 940, 3)
    assert len((run_dir / "heatmaps" / "boxes.csv").read_text().splitlines()) == 26


def test_test_pictures_are_read_only_after_test_was_judged_and_that_is_recorded(run_dir, boxes, capsys):
    numbers = made(run_dir, boxes)
    assert numbers["left_out"] == {"its image is not in train or validation, and test is not judged yet": 7}
    assert set(numbers["splits"]) == {"train", "validation"}
    assert reads(run_dir) == []
    assert "test was not judged yet" in capsys.readouterr().err
    evaluate.run(str(run_dir), draws=100)
    assert len(reads(run_dir)) == 1
    numbers = made(run_dir, boxes)
    assert numbers["splits"]["test"]["images"] == 7
    assert numbers["left_out"] == {}
    assert len(reads(run_dir)) == 2
    assert reads(run_dir)[1]["frozen_sha256"] == reads(run_dir)[0]["frozen_sha256"]


def test_one_process_at_a_time_makes_the_heat_maps_of_a_run(run_dir, boxes):
    with lock.held(run_dir):
        fails(RunError, "another process is evaluating or replacing it; call again", run_dir, boxes)
    assert not (run_dir / "heatmaps").exists()


def test_test_judged_by_another_model_stays_closed(run_dir, boxes):
    evaluate.run(str(run_dir), draws=100)
    other = model()
    other.get_layer("logits").set_weights([np.ones((2, 14)), np.zeros(14)])
    save_model(other, run_dir / "best.keras")
    assert set(made(run_dir, boxes)["splits"]) == {"train", "validation"}


def test_the_same_again_is_recognised_and_anything_else_is_not(run_dir, boxes, capsys):
    first = made(run_dir, boxes)
    file = run_dir / "heatmaps" / "heatmaps.json"
    before = file.stat().st_mtime_ns
    capsys.readouterr()
    assert made(run_dir, boxes) == first
    shown = capsys.readouterr()
    assert file.stat().st_mtime_ns == before
    assert "not made again" in shown.err
    assert "1.00 [1.00, 1.00]" in shown.out
    (run_dir / "heatmaps" / first["gallery"][0]["file"]).unlink()
    made(run_dir, boxes)
    assert file.stat().st_mtime_ns > before
    assert len(made(run_dir, boxes, images=1)["gallery"]) == 1
    assert len(list((run_dir / "heatmaps" / "gallery").iterdir())) == 1


def test_a_finding_that_raises_nothing_has_no_map_and_no_hit(run_dir, tmp_path, data_set, capsys):
    both = write_boxes(tmp_path / "both.csv", data_set, (FOUND, IGNORED))
    numbers = made(run_dir, both)
    assert numbers["findings"][IGNORED]["no_map"] == 25
    assert numbers["findings"][IGNORED]["pointing"]["value"] == 0
    assert "25 without a map" in capsys.readouterr().out
    only = made(run_dir, both, findings=f"{FOUND}, Hernia")
    assert list(only["findings"]) == [FOUND]
    assert only["left_out"]["of another finding"] == 32


def test_infiltrate_in_the_list_is_infiltration(run_dir, tmp_path, data_set):
    listed = write_boxes(tmp_path / "listed.csv", data_set, ("Infiltrate",))
    assert list(made(run_dir, listed, findings=["Infiltrate"])["findings"]) == ["Infiltration"]


def test_one_patient_has_numbers_and_no_intervals(run_dir, boxes, capsys):
    header, first, second, *_ = boxes.read_text().splitlines()
    boxes.write_text("\n".join([header, first, second]) + "\n")
    numbers = made(run_dir, boxes)
    assert numbers["total"]["pointing"] == {"value": 1.0, "low": None, "high": None}
    assert "1.00 [not defined] (0.02)" in capsys.readouterr().out


def test_what_cannot_be_made_is_said_in_one_line(run_dir, boxes, tmp_path):
    fails(StorageError, "nowhere.csv", run_dir, tmp_path / "nowhere.csv")
    fails(UsageError, "--findings: unknown finding `Flu`", run_dir, boxes, findings="Mass,Flu")
    fails(UsageError, "--findings: no finding", run_dir, boxes, findings=" , ")
    fails(UsageError, "--images is -1", run_dir, boxes, images=-1)
    fails(UsageError, "--draws is 99; expected at least 100", run_dir, boxes, draws=99)
    fails(
        RunError,
        "none of its 32 boxes can be judged: 32 of another finding",
        run_dir,
        boxes,
        findings="Edema",
    )
    fails(RunError, "no CBAM in this model", run_dir, boxes, cbam=True)
    fails(RunError, "no attention in this model", run_dir, boxes, attention=True)
    fails(RunError, "no run here", tmp_path, boxes)
    text = boxes.read_text()
    boxes.write_text(text.replace("Mass", "Lump", 1))
    fails(TableError, "line 2: unknown finding `Lump`", run_dir, boxes)
    boxes.write_text(text.splitlines()[0] + "\n")
    fails(RunError, "no boxes in it", run_dir, boxes)
    boxes.write_text(f"{text.splitlines()[0]}\n99999999_000.png,Mass,1,1,5,5\n")
    fails(RunError, "none of its 1 boxes can be judged: 1 its image is not in", run_dir, boxes)
    assert not (run_dir / "heatmaps").exists()


def test_a_model_that_gives_no_numbers_is_named_with_its_picture(tmp_path, data_set, boxes):
    broken = model()
    broken.get_layer("logits").set_weights([np.full((2, 14), np.nan), np.zeros(14)])
    run_dir = make_run(tmp_path / "broken", data_set, broken)
    fails(RunError, r"_00\d.png: the heat map of Mass is not finite", run_dir, boxes)


def test_an_ensembles_map_is_the_weighted_mean_of_its_members(tmp_path, data_set):
    from engine.evaluation.models import Member, of_members
    from engine.evaluation.predictor import Predictor
    from engine.heatmaps.run_maps import RunMaps

    other = model()
    other.get_layer("bright").set_weights(
        [
            weights * sign
            for weights, sign in zip(other.get_layer("bright").get_weights(), (-1, -1), strict=True)
        ]
    )
    members, singles = [], []
    for name, made_of in (("a", model()), ("b", other)):
        save_model(made_of, tmp_path / f"{name}.keras")
        members.append(Member(name, tmp_path / f"{name}.keras", name))
        singles.append(RunMaps(Predictor(of_members((members[-1],))), attention=False, cbam=False))
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), np.uint8)
    rows = np.arange(3)
    boxed = [
        boxed_images.BoxedFinding(f"{row}.png", row, "test", row, FOUND, np.ones((1, 4)), np.ones((1, 4)))
        for row in rows
    ]
    first, second = (one.maps(images, rows, boxed) for one in singles)
    assert first.max(axis=(1, 2)).tolist() == [1, 1, 1]
    together = of_members(tuple(members), weights=[0.8, 0.2])
    both = RunMaps(Predictor(together), attention=False, cbam=False).maps(images, rows, boxed)
    mean = 0.8 * first + 0.2 * second
    np.testing.assert_allclose(both, mean / mean.max(axis=(1, 2), keepdims=True), atol=1e-6)
    alone = RunMaps(Predictor(of_members(tuple(members), weights=[1, 0])), attention=False, cbam=False)
    assert list(alone.layers) == ["a"]
    np.testing.assert_array_equal(alone.maps(images, rows, boxed), first)


def test_a_picture_of_another_size_has_its_boxes_between_the_bars(data_set):
    image_id = "00000123_000.png"
    rows = f'Image Index,oddity\n{image_id},"512 x 1024 pixels, 8-bit RGBA"\nother.png,8-bit RGBA\n'
    storage.write_bytes(storage.join(data_set.folder, boxed_images.ODDITIES_NAME), rows.encode())
    listed = [Box(image_id, FOUND, 0, 512, 512, 512), Box(image_id, FOUND, 600, 0, 9, 9)]
    found = boxed_images.select(data_set, listed, ["train"], FINDINGS)
    (one,) = found.boxed
    assert one.stored.tolist() == [[8, 16, 16, 16]]
    assert found.left_out == {"outside of its picture": 1}


def test_the_cbam_of_a_model_is_shown_in_the_gallery(tmp_path, data_set, boxes):
    from engine.model import ChannelAttention, SpatialAttention

    keras.utils.set_random_seed(0)
    plain = model()
    x = ChannelAttention(2)(plain.get_layer("bright").output)
    x = keras.layers.GlobalAveragePooling2D()(SpatialAttention()(x))
    attentive = keras.Model(plain.input, keras.layers.Dense(14, name="logits")(x))
    run_dir = make_run(tmp_path / "attentive", data_set, attentive)
    numbers = made(run_dir, boxes, cbam=True, attention=True, images=2)
    assert numbers["layer"].startswith("spatial_attention")
    for entry in numbers["gallery"]:
        assert cv2.imread(str(run_dir / "heatmaps" / entry["file"])).shape == (570, 1400, 3)
