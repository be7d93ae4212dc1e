"""`predict.run` on run directories made by hand: what is printed of which file."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import cv2
import dicom_files
import keras
import numpy as np
import pytest
from PIL import Image

from beam_pipelines import checked
from engine.evaluation import frozen
from engine.prediction import predict
from records import storage
from records.errors import ImageError, RunError, UsageError
from records.labels import FINDINGS

SIDE_PX = 32


def grey_picture(seed: int = 0, height: int = 80, width: int = 80) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 400, (height, width)).astype(np.float32)
    return np.clip(128 + cv2.GaussianBlur(noise, (0, 0), 4), 0, 255).astype(np.uint8)


def png(values: np.ndarray) -> bytes:
    return cv2.imencode(".png", values)[1].tobytes()


def files(folder: Path) -> list[str]:
    """One of each kind, under names that don't say which."""
    grey = grey_picture(1)
    jpeg = io.BytesIO()
    Image.fromarray(grey).save(jpeg, "JPEG")
    contents = {
        "b.txt": png(grey),
        "a.png": jpeg.getvalue(),
        "c": dicom_files.file(grey, WindowCenter=128, WindowWidth=256),
    }
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [str(folder / name) for name in contents]


def predicted(capsys: pytest.CaptureFixture[str], run_dir: Path, images: list[str], **options) -> dict:
    capsys.readouterr()
    predict.run(str(run_dir), images, as_json=True, **options)
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def freeze(run, sha256: str, *, youden: float | None = 0.4, unfitted: tuple[str, ...] = ()) -> None:
    chosen = frozen.Frozen(
        model_sha256=sha256,
        manifest_sha256="0" * 64,
        thresholds={
            "youden": dict.fromkeys(FINDINGS, youden) | {FINDINGS[1]: None},
            "sensitivity_0.90": dict.fromkeys(FINDINGS, 0.0),
        },
        temperatures=dict.fromkeys(FINDINGS, 2.0) | dict.fromkeys(unfitted, 1.0),
        best_member=None,
        frozen_at="2026-01-01T00:00:00Z",
        git_commit=None,
        temperature_reasons=dict.fromkeys(unfitted, "no positives"),
    )
    frozen.write(run.path / "evaluation" / frozen.FILE_NAME, chosen)


def test_each_file_has_its_own_probabilities_in_the_order_of_the_command_line(
    make_run, data_set, tmp_path, capsys
):
    run = make_run(data_set)
    named = files(tmp_path / "images")
    found = predicted(capsys, run.path, named)
    assert [image["file"] for image in found["images"]] == named
    model = keras.saving.load_model(run.checkpoint_path, compile=False)
    for image, path in zip(found["images"][:1], named, strict=False):
        pixels = checked.check(Path(path).read_bytes(), SIDE_PX).grey[None, ..., None]
        logits = np.asarray(keras.ops.convert_to_numpy(model(pixels)), np.float64)[0]
        raw = np.array([image["raw_probabilities"][finding] for finding in FINDINGS])
        np.testing.assert_allclose(raw, 1 / (1 + np.exp(-logits)), atol=1e-6)
    # The DICOM holds the very pixels of the PNG.
    assert found["images"][2]["raw_probabilities"] == pytest.approx(
        found["images"][0]["raw_probabilities"], abs=1e-6
    )
    assert found["failed"] == []
    assert (found["calibrated"], found["thresholds"]) == (False, None)
    assert found["images"][0]["called"] == []
    assert found["images"][0]["probabilities"] == found["images"][0]["raw_probabilities"]


def test_a_folder_is_walked_and_every_file_counts(make_run, data_set, tmp_path, capsys):
    run = make_run(data_set)
    files(tmp_path / "images")
    (tmp_path / "images" / "below").mkdir()
    (tmp_path / "images" / "below" / "notes.txt").write_text("Rossi Annamaria")
    (tmp_path / "images" / ".hidden").write_text("nothing")
    assert predict.run(str(run.path), [str(tmp_path / "images")], as_json=True) == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert [Path(image["file"]).name for image in found["images"]] == ["a.png", "b.txt", "c"]
    failure = {"file": str(tmp_path / "images/below/notes.txt"), "reason": "neither PNG, JPEG nor DICOM"}
    assert found["failed"] == [failure]
    assert f"{failure['file']}: {failure['reason']}\n" in captured.err


def test_what_cannot_be_read_does_not_stop_the_others(make_run, data_set, tmp_path, capsys):
    run = make_run(data_set)
    named = files(tmp_path / "images")
    damaged = tmp_path / "damaged"
    damaged.write_bytes(png(grey_picture())[:200])
    (tmp_path / "empty").mkdir()
    wrong = [str(damaged), str(tmp_path / "missing.png"), str(tmp_path / "empty"), "ftp://host/image"]
    assert predict.run(str(run.path), [wrong[0], named[0], *wrong[1:], named[1]]) == 1
    captured = capsys.readouterr()
    assert captured.out.count("probability") == 2
    assert f"{damaged}: damaged PNG: " in captured.err
    assert f"{wrong[1]}: no such file or folder\n" in captured.err
    assert f"{wrong[2]}: no file below it\n" in captured.err
    assert f"{wrong[3]}: `ftp://` is not served" in captured.err


def test_batches_go_through_whole(make_run, data_set, tmp_path, capsys, monkeypatch):
    run = make_run(data_set)
    for number in range(7):
        (tmp_path / f"{number}.png").write_bytes(png(grey_picture(number)))
    named = [str(tmp_path / f"{number}.png") for number in range(7)]
    together = predicted(capsys, run.path, named)
    monkeypatch.setattr(predict, "BATCH", 3)
    by_threes = predicted(capsys, run.path, named)
    assert [image["file"] for image in by_threes["images"]] == named
    for one, other in zip(together["images"], by_threes["images"], strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)


def test_what_was_frozen_calibrates_and_calls(make_run, data_set, tmp_path, capsys):
    run = make_run(data_set)
    named = files(tmp_path / "images")[:1]
    raw = predicted(capsys, run.path, named)
    freeze(run, raw["model_sha256"])
    found = predicted(capsys, run.path, named)
    assert (found["calibrated"], found["thresholds"]) == (True, "youden")
    (image,) = found["images"]
    values = {finding: image["raw_probabilities"][finding] for finding in FINDINGS}
    for finding, value in values.items():
        expected = 1 / (1 + ((1 - value) / value) ** 0.5)
        assert image["probabilities"][finding] == pytest.approx(expected, abs=1e-6)
    assert image["called"] == [f for f in FINDINGS if values[f] >= 0.4 and f != FINDINGS[1]]
    assert 0 < len(image["called"]) < len(FINDINGS)
    # The threshold stands on the scale of the calibrated probabilities.
    assert found["threshold_of"][FINDINGS[0]] == pytest.approx(1 / (1 + (0.6 / 0.4) ** 0.5))
    assert found["threshold_of"][FINDINGS[1]] is None
    all_called = predicted(capsys, run.path, named, thresholds="sensitivity_0.90")
    assert all_called["images"][0]["called"] == list(FINDINGS)
    half = predicted(capsys, run.path, named, thresholds="0.5")
    assert half["images"][0]["called"] == [f for f in FINDINGS if values[f] >= 0.5]


@pytest.mark.parametrize(
    ("unfitted", "calibrated", "which"),
    [(FINDINGS[:2], True, ", ".join(FINDINGS[:2])), (FINDINGS, False, "any finding")],
)
def test_a_finding_without_a_temperature_is_said_to_have_none(
    make_run, data_set, tmp_path, capsys, unfitted, calibrated, which
):
    run = make_run(data_set)
    named = files(tmp_path / "images")[:1]
    freeze(run, predicted(capsys, run.path, named)["model_sha256"], unfitted=tuple(unfitted))
    assert predict.run(str(run.path), named, as_json=True) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["calibrated"] is calibrated
    expected = f"note: no temperature could be fitted on validation for {which} (no positives): raw"
    assert expected in captured.err
    image = found["images"][0]
    for finding in unfitted:
        assert image["probabilities"][finding] == image["raw_probabilities"][finding]


def test_what_was_frozen_for_another_model_is_not_used(make_run, data_set, tmp_path, capsys):
    run = make_run(data_set)
    named = files(tmp_path / "images")[:1]
    freeze(run, "f" * 64)
    assert predict.run(str(run.path), named, as_json=True) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["calibrated"] is False
    assert "chosen for another model" in captured.err


def test_the_table_is_sorted_and_says_what_it_shows(make_run, data_set, tmp_path, capsys):
    run = make_run(data_set)
    named = files(tmp_path / "images")[:1]
    assert predict.run(str(run.path), named) == 0
    out = capsys.readouterr().out
    assert (
        "probabilities: raw, not calibrated; no thresholds; no medical device; labels mined from text" in out
    )
    rows = [line.split() for line in out.splitlines() if line.split() and line.split()[0] in FINDINGS]
    assert len(rows) == len(FINDINGS)
    shown = [float(row[1]) for row in rows]
    assert shown == sorted(shown, reverse=True)
    freeze(run, predicted(capsys, run.path, named)["model_sha256"])
    predict.run(str(run.path), named)
    out = capsys.readouterr().out
    assert "probabilities: calibrated; thresholds: youden; no medical device" in out
    assert {line.split()[3] for line in out.splitlines() if line.split()[:1] == [FINDINGS[0]]} <= {
        "yes",
        "no",
    }


@pytest.mark.parametrize("as_json", [False, True])
def test_nothing_of_a_patient_is_printed(make_run, data_set, tmp_path, capfd, as_json: bool):
    run = make_run(data_set)
    grey = grey_picture()
    whole = dicom_files.file(grey, WindowCenter=128, WindowWidth=256)
    images = {
        "whole": whole,
        "cut": whole[: len(whole) // 2],
        "in_header": whole[:450],
        "shifted": whole[:300] + b"\0" + whole[300:],
        "colour": dicom_files.file(grey, PhotometricInterpretation="Annamaria"),
        "frames": dicom_files.file(grey, NumberOfFrames=2),
        "window": dicom_files.file(grey, WindowCenter=1, WindowWidth=1, VOILUTFunction="ROSSI"),
    }
    for name, content in images.items():
        (tmp_path / name).write_bytes(content)
    assert predict.run(str(run.path), [str(tmp_path / name) for name in images], as_json=as_json) == 1
    captured = capfd.readouterr()
    assert "whole" in captured.out
    assert captured.err.count("DICOM") == len(images) - 1
    printed = (captured.out + captured.err).lower()
    assert not [secret for secret in dicom_files.SECRETS if secret.lower() in printed]


def test_a_strange_file_name_stays_on_its_line(make_run, data_set, tmp_path, capsys):
    run = make_run(data_set)
    path = os.fsdecode(os.fsencode(tmp_path) + b"/new\nline\x1b[31m\xff")
    Path(path).write_bytes(png(grey_picture()))
    assert predict.run(str(run.path), [path]) == 0
    assert "new line\\x1b[31m\\udcff\n" in capsys.readouterr().out
    assert predicted(capsys, run.path, [path])["images"][0]["file"] == path


@pytest.mark.parametrize(
    ("images", "error", "line"),
    [
        ([], UsageError, "no image was named"),
        (["/nowhere/a.png"], ImageError, "no image to read: /nowhere/a.png: no such file or folder"),
        (["/nowhere/a"] * 5, ImageError, r"(/nowhere/a: no such file or folder; ){3}\.\.\.$"),
    ],
)
def test_no_image_at_all_is_one_line(make_run, data_set, images, error, line):
    with pytest.raises(error, match=line):
        predict.run(str(make_run(data_set).path), images)


def test_faults_of_the_call_and_of_the_run_are_one_line(make_run, data_set, tmp_path):
    named = files(tmp_path / "images")
    with pytest.raises(UsageError, match=r"--thresholds best: not known; expected one of youden"):
        predict.run(str(tmp_path), named, thresholds="best")
    with pytest.raises(RunError, match="no run here"):
        predict.run(str(tmp_path / "images"), named)
    run = make_run(data_set)
    (run.path / "evaluation").mkdir()
    (run.path / "evaluation" / frozen.FILE_NAME).write_text("{}")
    with pytest.raises(RunError, match=r"frozen\.json: damaged"):
        predict.run(str(run.path), named)


def test_a_model_that_gives_no_numbers_is_one_line(make_run, data_set, tmp_path):
    run = make_run(data_set)
    model = keras.saving.load_model(run.checkpoint_path, compile=False)
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    model.save(run.checkpoint_path)
    with pytest.raises(RunError, match=r"logit of Infiltration for .*b\.txt is nan; expected a number"):
        predict.run(str(run.path), files(tmp_path / "images"))


def test_objects_and_prefixes_of_a_bucket_are_read(make_run, data_set, s3, capsys):
    run = make_run(data_set)
    for number in range(2):
        storage.write_bytes(f"{s3}/images/{number}", png(grey_picture(number)))
    named = [f"{s3}/images/1", f"{s3}/images", f"{s3}/nothing"]
    assert predict.run(str(run.path), named, as_json=True) == 1
    found = json.loads(capsys.readouterr().out)
    assert [image["file"][-1] for image in found["images"]] == ["1", "0", "1"]
    assert [failure["file"] for failure in found["failed"]] == [f"{s3}/nothing"]
