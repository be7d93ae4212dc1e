"""The phantom data set is shaped like the real one, repeatable, and never writes over anything else."""

from __future__ import annotations

import csv
import hashlib
import struct
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from beam_pipelines import cohort, phantom, synthesize
from records.errors import StorageError, UsageError
from records.labels import BOX_ALIASES, FINDINGS, NO_FINDING

PATIENTS = cohort.MIN_PATIENTS
SEED = 5


def _make(folder: Path, *flags: str) -> int:
    return synthesize.main([f"--output={folder}", f"--patients={PATIENTS}", f"--seed={SEED}", *flags])


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _rows(folder: Path) -> list[list[str]]:
    text = (folder / "Data_Entry_2017_v2020.csv").read_text()
    return list(csv.reader(text.splitlines()))[1:]


def _list(folder: Path, name: str) -> list[str]:
    return (folder / name).read_text().split("\n")


@pytest.fixture(scope="session")
def phantom_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "set"
    assert _make(folder, "--workers=2") == 0
    return folder


def test_the_same_seed_gives_the_same_bytes_with_one_worker_and_with_two(phantom_set, tmp_path, monkeypatch):
    pictures, test = cohort.plan(PATIENTS, SEED)
    few = [picture for picture in pictures if picture.patient in test][:20] + pictures[:10]
    monkeypatch.setattr(cohort, "plan", lambda *_: (few, test))
    assert _make(tmp_path / "again", "--workers=1") == 0
    for picture in few:
        place = f"images_001/images/{picture.name}"
        assert (tmp_path / "again" / place).read_bytes() == (phantom_set / place).read_bytes()
    boxes = (phantom_set / "BBox_List_2017.csv").read_text().splitlines()
    assert set((tmp_path / "again" / "BBox_List_2017.csv").read_text().splitlines()) <= set(boxes)


def test_another_seed_gives_another_plan_and_other_pixels():
    assert cohort.plan(PATIENTS, 1) != cohort.plan(PATIENTS, 2)
    first, second = (phantom.render(seed, 1, 0, (), view="PA", sex="F")[0] for seed in (1, 2))
    assert not np.array_equal(first, second)


def test_two_pictures_of_one_patient_are_more_alike_than_those_of_two_patients():
    def look(patient: int, image: int) -> np.ndarray:
        pixels, _ = phantom.render(SEED, patient, image, (), view="PA", sex="M")
        return cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32)

    own = [np.abs(look(patient, 0) - look(patient, 1)).mean() for patient in range(1, 7)]
    other = [np.abs(look(patient, 0) - look(patient + 10, 1)).mean() for patient in range(1, 7)]
    assert np.mean(own) < np.mean(other)


def test_every_sign_changes_the_picture():
    healthy, _ = phantom.render(SEED, 1, 0, (), view="PA", sex="M")
    for finding in FINDINGS:
        ill, _ = phantom.render(SEED, 1, 0, (finding,), view="PA", sex="M")
        difference = np.abs(ill.astype(np.float32) - healthy)
        assert difference.max() > 40, finding


@pytest.mark.parametrize("seed", range(8))
def test_every_finding_stands_in_both_lists(seed):
    for patients in (cohort.MIN_PATIENTS, 100):
        pictures, test = cohort.plan(patients, seed)
        for in_test in (False, True):
            shown = {
                name
                for picture in pictures
                if (picture.patient in test) == in_test
                for name in picture.findings
            }
            assert shown == set(FINDINGS)


@pytest.mark.parametrize("seed", range(8))
def test_240_patients_give_about_900_images_and_a_test_list_that_can_be_measured(seed):
    pictures, test = cohort.plan(240, seed)
    assert 850 <= len(pictures) <= 950
    assert 0.20 <= sum(picture.patient in test for picture in pictures) / len(pictures) <= 0.25
    assert 0.33 <= sum(not picture.findings for picture in pictures) / len(pictures) <= 0.42
    for finding in FINDINGS:
        positives = [p.patient for p in pictures if p.patient in test and finding in p.findings]
        assert len(positives) >= 6, finding
        assert len(set(positives)) >= 3, finding


def test_the_lists_are_disjoint_by_patient_and_together_the_table(phantom_set):
    train_val, test = _list(phantom_set, "train_val_list.txt"), _list(phantom_set, "test_list.txt")
    assert not {name[:8] for name in train_val} & {name[:8] for name in test}
    assert sorted(train_val + test) == [row[0] for row in _rows(phantom_set)]


def test_the_lists_have_no_final_newline(phantom_set):
    assert not (phantom_set / "train_val_list.txt").read_bytes().endswith(b"\n")
    assert not (phantom_set / "test_list.txt").read_bytes().endswith(b"\n")


def test_the_table_has_the_header_of_the_real_release(phantom_set):
    text = (phantom_set / "Data_Entry_2017_v2020.csv").read_text()
    assert text.startswith(
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
    )


def test_every_row_is_one_that_the_real_table_could_hold(phantom_set):
    for row in _rows(phantom_set):
        name, cell, follow_up, patient, age, sex, view, *original = row
        assert name == f"{int(patient):08d}_{int(follow_up):03d}.png"
        assert cell == NO_FINDING or set(cell.split("|")) <= set(FINDINGS)
        assert 0 <= int(age) <= 100
        assert (sex in "MF", view in ("PA", "AP"), len(original)) == (True, True, 4)


def test_the_folder_holds_just_the_pictures_of_the_table(phantom_set):
    present = {path.name for path in (phantom_set / "images_001" / "images").iterdir()}
    assert present == {row[0] for row in _rows(phantom_set)}


def test_every_png_is_1024_square_and_8_bit_grey_or_rgba(phantom_set):
    grey, rgba = 0, 6
    colours = []
    for path in (phantom_set / "images_001" / "images").iterdir():
        width, height, depth, colour = struct.unpack(">IIBB", path.read_bytes()[16:26])
        assert (width, height, depth) == (1024, 1024, 8)
        colours.append(colour)
    assert set(colours) == {grey, rgba}
    assert colours.count(rgba) == round(0.02 * len(colours))


def test_an_rgba_picture_is_grey_and_opaque(phantom_set):
    for path in (phantom_set / "images_001" / "images").iterdir():
        if path.read_bytes()[25] == 6:
            pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert (pixels[..., :3] == pixels[..., :1]).all()
            assert (pixels[..., 3] == 255).all()


def test_boxes_lie_inside_test_images_that_have_the_finding(phantom_set):
    header, *lines = (phantom_set / "BBox_List_2017.csv").read_text().splitlines()
    assert header == "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    findings = {row[0]: row[1].split("|") for row in _rows(phantom_set)}
    test = set(_list(phantom_set, "test_list.txt"))
    boxed = set()
    for name, finding, *numbers in csv.reader(lines):
        x, y, width, height = map(float, numbers)
        assert x >= 0
        assert y >= 0
        assert min(width, height) > 10
        assert max(x + width, y + height) <= 1024
        assert name in test
        assert BOX_ALIASES.get(finding, finding) in findings[name]
        boxed.add(finding)
    assert boxed == {*synthesize.BOX_FINDINGS, "Infiltrate"} - {"Infiltration"}


@pytest.mark.parametrize("finding", ["Mass", "Nodule", "Pneumonia"])
def test_a_box_is_where_the_sign_was_drawn(finding):
    healthy, _ = phantom.render(SEED, 1, 0, (), view="PA", sex="M")
    for image in range(3):
        ill, boxes = phantom.render(SEED, 1, image, (finding,), view="PA", sex="M")
        for _, (x, y, width, height) in boxes:
            inside = ill[
                int(y + height / 4) : int(y + height * 3 / 4), int(x + width / 4) : int(x + width * 3 / 4)
            ]
            assert inside.mean() > np.median(healthy[300:600, 180:340])


def test_a_finished_set_is_recognised_at_once(phantom_set, capsys):
    before = _digests(phantom_set)
    started = time.monotonic()
    assert _make(phantom_set) == 0
    assert time.monotonic() - started < 2
    assert "already there" in capsys.readouterr().out
    assert _digests(phantom_set) == before


def test_an_interrupted_run_is_completed_by_a_rerun(tmp_path, monkeypatch):
    drawn = []

    def fails_in_the_middle(*arguments, **options):
        if len(drawn) == 20:
            raise KeyboardInterrupt
        drawn.append(arguments)
        return _small_picture(*arguments, **options)

    def _small_picture(*arguments, **options):
        return np.full((8, 8), arguments[1], np.uint8), [("Mass", (1.0, 1.0, 2.0, 2.0))]

    folder = tmp_path / "set"
    monkeypatch.setattr(phantom, "render", fails_in_the_middle)
    assert _make(folder, "--workers=1") == 130
    assert not (folder / "phantom.json").exists()
    (folder / "images_001" / "images" / ".00000001_000.png.1.partial").write_bytes(b"half")
    monkeypatch.setattr(phantom, "render", _small_picture)
    assert _make(folder, "--workers=1") == 0
    assert _make(tmp_path / "at once", "--workers=1") == 0
    assert _digests(folder) == _digests(tmp_path / "at once")


def test_a_run_killed_before_its_first_file_is_no_obstacle(tmp_path):
    (tmp_path / ".phantom.partial.json.1.partial").write_bytes(b"{")
    settings = {"patients": PATIENTS, "seed": SEED, "format_version": synthesize.FORMAT_VERSION}
    assert not synthesize._is_complete(tmp_path, settings, [])


def test_a_set_that_lost_a_picture_gets_it_back(phantom_set):
    before = _digests(phantom_set)
    (phantom_set / "images_001" / "images" / _rows(phantom_set)[3][0]).unlink()
    assert _make(phantom_set, "--workers=1") == 0
    assert _digests(phantom_set) == before


def test_a_folder_with_something_else_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("precious")
    assert _make(tmp_path) == StorageError.exit_code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_as_output_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert _make(tmp_path / "file") == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_set_made_with_other_settings_is_refused(phantom_set, capsys):
    assert synthesize.main([f"--output={phantom_set}", f"--patients={PATIENTS}", "--seed=6"]) == 1
    error = capsys.readouterr().err
    assert "'seed': 5" in error
    assert "'seed': 6" in error


@pytest.mark.parametrize("flag", [f"--patients={PATIENTS - 1}", "--seed=-1", "--workers=0"])
def test_a_number_too_small_is_a_usage_error(tmp_path, capsys, flag):
    assert synthesize.main([f"--output={tmp_path}", flag]) == UsageError.exit_code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {flag} is too small; expected ")
    assert error.count("\n") == 1


def test_an_unknown_flag_exits_with_2(tmp_path):
    with pytest.raises(SystemExit) as stop:
        synthesize.main([f"--output={tmp_path}", "--patient=50"])
    assert stop.value.code == 2
