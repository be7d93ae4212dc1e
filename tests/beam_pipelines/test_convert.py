"""The conversion as a command: what it writes, what it recognises, what it refuses."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conversions import error_of, tree_of

from beam_pipelines import audit, convert
from records import example, manifest, pixels, tfrecord
from records.labels import FINDINGS
from records.table import read_list, read_table


def _records(folder: Path, split: str) -> list[example.Record]:
    found = []
    for shard in manifest.load(str(folder)).splits[split].shards:
        with (folder / shard.path).open("rb") as file:
            found += [example.decode(frame.payload) for frame in tfrecord.read(file, shard.path)]
    return found


def test_every_record_holds_the_area_reduced_picture_and_the_labels_of_its_own_row(drawn, converted):
    table = read_table(str(drawn.table))
    row_of = {image_id: row for row, image_id in enumerate(table.image_ids)}
    records = [record for split in ("train", "validation", "test") for record in _records(converted, split)]
    assert sorted(record.image_id for record in records) == sorted(table.image_ids)
    for record in records:
        path = next((drawn.folder / "images").rglob(record.image_id))
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        expected = cv2.resize(grey, (320, 320), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(record.pixels()[..., 0], expected)
        row = row_of[record.image_id]
        np.testing.assert_array_equal(record.labels, table.labels[row])
        assert (record.patient_id, record.follow_up) == (table.patient_ids[row], table.follow_up[row])
        assert (record.sex, record.view, record.age_years) == (
            table.sex[row],
            table.view[row],
            table.age_years[row],
        )


def test_the_official_lists_are_honoured_and_validation_comes_out_of_train_val(drawn, converted):
    test = {record.image_id for record in _records(converted, "test")}
    rest = {record.image_id for split in ("train", "validation") for record in _records(converted, split)}
    assert test == set(read_list(str(drawn.folder / "test_list.txt")))
    assert rest == set(read_list(str(drawn.folder / "train_val_list.txt")))
    assert len(_records(converted, "validation")) == 9


def test_no_patient_stands_in_two_splits(converted):
    patients = [
        {record.patient_id for record in _records(converted, split)}
        for split in ("train", "validation", "test")
    ]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 20
    assert manifest.load(str(converted)).patients_in_two_splits == 0


def test_shards_of_a_split_differ_by_at_most_one_record_and_hold_no_more_than_asked(converted):
    for split in manifest.load(str(converted)).splits.values():
        sizes = [shard.records for shard in split.shards]
        assert max(sizes) <= 8
        assert max(sizes) - min(sizes) <= 1


def test_training_mean_and_deviation_equal_numpy_over_the_same_pixels(converted):
    images = np.stack([record.pixels() for record in _records(converted, "train")]).astype(np.float64)
    statistics = manifest.load(str(converted)).statistics
    assert statistics["mean"] == pytest.approx(images.mean(), rel=1e-12)
    assert statistics["deviation"] == pytest.approx(images.std(), rel=1e-12)
    assert statistics["pixels"] == images.size


def test_the_manifest_counts_images_and_patients_with_each_finding(converted):
    for name, split in manifest.load(str(converted)).splits.items():
        records = _records(converted, name)
        for column, finding in enumerate(FINDINGS):
            positive = [record.patient_id for record in records if record.labels[column]]
            assert split.positives[finding] == len(positive)
            assert split.positive_patients[finding] == len(set(positive))
            assert split.prevalence[finding] == pytest.approx(len(positive) / len(records))


def test_worker_processes_give_the_same_bytes_as_one_process(drawn, converted, tmp_path):
    flags = drawn.arguments(
        tmp_path / "shards", direct_running_mode=None, direct_num_workers=3
    )  # the default: several processes
    command = [sys.executable, "-m", "beam_pipelines.convert", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "images/s" in done.stderr
    assert tree_of(tmp_path / "shards") == tree_of(converted)


def test_missing_images_stop_the_conversion_unless_they_are_allowed(own_drawn, tmp_path, capsys):
    for path in list((own_drawn.folder / "images").rglob("00000002_*.png")):
        path.unlink()
    line = error_of(capsys, own_drawn.arguments(tmp_path / "out"), 1)
    assert "3 of the 60 images of table.csv are missing" in line
    assert "00000002_000.png, 00000002_001.png, 00000002_002.png" in line
    assert not (tmp_path / "out").exists()
    assert convert.main(own_drawn.arguments(tmp_path / "out", allow_missing_images=True)) == 0
    assert manifest.load(str(tmp_path / "out")).source["missing"] == 3


def test_which_images_are_there_does_not_change_the_split_of_the_others(own_drawn, converted, tmp_path):
    for path in list((own_drawn.folder / "images").rglob("0000000[1-4]_*.png")):
        path.unlink()
    output = tmp_path / "out"
    assert convert.main(own_drawn.arguments(output, allow_missing_images=True)) == 0
    for split in ("train", "validation", "test"):
        there = {record.image_id for record in _records(output, split)}
        assert there <= {record.image_id for record in _records(converted, split)}


def test_a_text_file_called_png_is_quarantined_with_its_reason_and_stops_the_conversion(
    own_drawn, tmp_path, capsys
):
    victim = own_drawn.folder / "images" / "images_001" / "00000003_001.png"
    victim.write_text("not a picture")
    output = tmp_path / "out"
    line = error_of(capsys, own_drawn.arguments(output), 1)
    assert "1 of 60 images failed the checks" in line
    assert "00000003_001.png: not a PNG" in line
    assert not (output / manifest.FILE_NAME).exists()
    with (output / manifest.QUARANTINE_NAME).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["Image Index"] for row in rows] == ["00000003_001.png"]
    assert convert.main(own_drawn.arguments(output, max_quarantined=0.05, resume=True)) == 0
    made = manifest.load(str(output))
    assert [entry.image_id for entry in made.quarantined] == ["00000003_001.png"]
    assert sum(split.images for split in made.splits.values()) == 59


def test_a_mended_image_is_taken_up_on_resume(own_drawn, tmp_path, capsys):
    victim = own_drawn.folder / "images" / "images_001" / "00000003_001.png"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:2000])
    output = tmp_path / "out"
    assert "damaged PNG" in error_of(capsys, own_drawn.arguments(output), 1)
    victim.write_bytes(whole)
    assert convert.main(own_drawn.arguments(output, resume=True)) == 0
    assert not manifest.load(str(output)).quarantined


@pytest.mark.parametrize(
    ("spoil", "code", "expected"),
    [
        (lambda s: s.table.write_text("a,b\n1,2\n"), 1, "no column `Image Index`"),
        (
            lambda s: s.table.write_text(s.table.read_text().replace("Mass", "Moss", 1)),
            1,
            "unknown finding `Moss`",
        ),
        (
            lambda s: s.table.write_text(s.table.read_text() + s.table.read_text().splitlines()[1] + "\n"),
            1,
            "00000001_000.png stands twice",
        ),
        (
            lambda s: (s.folder / "test_list.txt").write_text("00000099_000.png"),
            1,
            "test_list.txt: names 00000099_000.png, which table.csv doesn't have",
        ),
        (
            lambda s: shutil.copy(
                s.folder / "images/images_001/00000001_000.png", s.folder / "images/00000001_000.png"
            ),
            1,
            "00000001_000.png is there twice",
        ),
        (
            lambda s: shutil.copy(
                s.folder / "images/images_001/00000001_000.png", s.folder / "images/00000077_000.png"
            ),
            1,
            "not in table.csv",
        ),
        (lambda s: shutil.rmtree(s.folder / "images/images_001"), 1, "no .png file below it"),
    ],
    ids=["column", "finding", "row twice", "unknown in list", "file twice", "unknown file", "empty folder"],
)
def test_a_wrong_input_gives_one_clear_line(own_drawn, tmp_path, capsys, spoil, code, expected):
    spoil(own_drawn)
    assert expected in error_of(capsys, own_drawn.arguments(tmp_path / "out"), code)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"recrods_per_shard": 5}, "unknown flag --recrods_per_shard"),
        ({"records_per_shard": 0}, "expected at least 1"),
        ({"test_list": None}, "needs --train_val_list and --test_list"),
        ({"split": "stratified"}, "go with --split official"),
        ({"split": "stratified", "train_val_list": None, "test_list": None}, "needs --fractions"),
        (
            {"split": "random", "fractions": "0.5,0.5,0.5", "train_val_list": None, "test_list": None},
            "that sum to 1",
        ),
        ({"seed": -1}, "--seed=-1"),
        ({"images": ""}, "an empty location"),
        ({"max_quarantined": 5}, "expected a share"),
        ({"fractions": "0.8,0.1,0.1"}, "--fractions goes with"),
        ({"runner": "NoSuchRunner"}, "--runner=NoSuchRunner"),
        ({"direct_num_workers": "many"}, "one of Beam's flags"),
    ],
)
def test_wrong_flags_exit_with_2_and_write_nothing(drawn, tmp_path, capsys, changes, expected):
    assert expected in error_of(capsys, drawn.arguments(tmp_path / "out", **changes), 2)
    assert not (tmp_path / "out").exists()


def test_stratified_and_random_splits_are_named_in_the_manifest(drawn, tmp_path):
    for split in ("stratified", "random"):
        output = tmp_path / split
        lists = {"train_val_list": None, "test_list": None}
        assert convert.main(drawn.arguments(output, split=split, fractions="0.6,0.2,0.2", **lists)) == 0
        made = manifest.load(str(output))
        assert made.split["strategy"] == split
        assert made.split["fractions"] == [0.6, 0.2, 0.2]
        assert made.patients_in_two_splits == 0


def test_a_folder_that_can_not_be_written_gives_one_line_and_no_manifest(drawn, tmp_path, capsys):
    blocked = tmp_path / "out"
    blocked.write_text("a file where a folder must stand")
    assert "can't be" in error_of(capsys, drawn.arguments(blocked), 1)


@pytest.mark.slow
def test_a_data_set_in_s3_equals_the_one_in_a_folder(drawn, converted, s3, tmp_path):
    from records import storage

    for path in (drawn.folder / "images").rglob("*.png"):
        storage.write_bytes(f"{s3}/png/{path.name}", path.read_bytes())
    assert convert.main(drawn.arguments(f"{s3}/shards", images=f"{s3}/png")) == 0
    for name, data in tree_of(converted).items():
        assert storage.read_bytes(f"{s3}/shards/{name}") == data, name


@pytest.mark.real_data
@pytest.mark.parametrize("release", ["Data_Entry_2017", "Data_Entry_2017_v2020"])
def test_the_real_images_convert_by_the_official_lists(nih, tmp_path, capsys, release):
    labels = nih / "labels"
    table = labels / f"{release}.csv.gz"
    arguments = [
        "--images", nih / "images", "--labels", table,
        "--split", "official",
        "--train_val_list", labels / "train_val_list.txt", "--test_list", labels / "test_list.txt",
        "--validation_fraction", "0.1", "--output", tmp_path / "out",
    ]  # fmt: skip
    arguments = [str(argument) for argument in arguments]
    line = error_of(capsys, arguments, 1)
    assert "111,800 of the 112,120 images" in line
    assert "such as 00000002_000.png, " in line
    assert line.count(".png") == 3
    assert convert.main([*arguments, "--allow_missing_images"]) == 0
    made = manifest.load(str(tmp_path / "out"))
    assert made.source["release"] == release.removeprefix("Data_Entry_").removeprefix("2017_")
    assert audit.main([str(tmp_path / "out"), "--labels", str(table)]) == 0
    assert made.splits["train"].images + made.splits["validation"].images == 202
    assert made.splits["test"].images == 118
    for split in ("train", "validation", "test"):
        for record in _records(tmp_path / "out", split):
            data = np.fromfile(nih / "images" / record.image_id, np.uint8)
            grey = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
            expected = cv2.resize(grey, (320, 320), interpolation=cv2.INTER_AREA)
            np.testing.assert_array_equal(record.pixels()[..., 0], expected)
    assert made.image["resize_kernel"] == pixels.RESIZE_KERNEL
