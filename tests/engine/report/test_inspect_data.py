from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from fabricated import make_data_set, make_record
from rich.console import Console

from engine.report import inspect_data
from records import manifest, storage
from records.errors import ManifestError, ShardError, UsageError
from records.example import Record
from records.labels import FINDINGS
from records.manifest import Manifest

Records = dict[str, list[list[Record]]]


@pytest.fixture
def own_data_set(tmp_path: Path, data_set: Manifest) -> Manifest:
    """A copy that a test may damage."""
    shutil.copytree(Path(data_set.location).parent, tmp_path / "data")
    return manifest.load(str(tmp_path / "data"))


def flat(records: Records, split: str) -> dict[str, Record]:
    return {record.image_id: record for shard in records[split] for record in shard}


def test_picked_records_are_those_that_were_written(data_set: Manifest, records: Records) -> None:
    written = flat(records, "train")
    picked = inspect_data.pick(data_set, "train", 12)
    assert len({record.image_id for record in picked}) == 12
    for record in picked:
        expected = written[record.image_id]
        assert record.image == expected.image
        assert record.labels.tolist() == expected.labels.tolist()
        assert (record.patient_id, record.age_years) == (expected.patient_id, expected.age_years)


def test_the_same_records_are_picked_each_time_from_every_shard(data_set: Manifest, records: Records) -> None:
    first, second = ([r.image_id for r in inspect_data.pick(data_set, "train", 12)] for _ in range(2))
    assert first == second
    for shard in records["train"]:
        assert {record.image_id for record in shard} & set(first)


def test_a_sheet_shows_every_finding_that_fits(data_set: Manifest) -> None:
    picked = inspect_data.pick(data_set, "train", 14)
    shown = np.any([record.labels for record in picked], axis=0)
    assert [name for name, value in zip(FINDINGS, shown, strict=True) if not value] == ["Hernia"]
    assert any(not record.labels.any() for record in picked)


def test_a_rare_finding_is_shown_among_many_common_ones() -> None:
    labels = np.zeros((1000, 14), np.uint8)
    labels[:, 0] = 1
    labels[777, 0], labels[777, 13] = 0, 1
    chosen = inspect_data.spread(labels, np.arange(1000), 4)
    assert 777 in chosen
    assert np.diff(chosen).min() > 100


def test_a_split_smaller_than_the_sheet_is_shown_whole(data_set: Manifest) -> None:
    picked = inspect_data.pick(data_set, "validation", 500)
    assert len(picked) == data_set.splits["validation"].images


def test_a_damaged_picture_is_noticed_by_its_checksum(own_data_set: Manifest) -> None:
    for shard in own_data_set.splits["validation"].shards:
        path = Path(own_data_set.locate(shard))
        data = bytearray(path.read_bytes())
        data[len(data) // 2 :: 97] = b"\x55" * len(data[len(data) // 2 :: 97])
        path.write_bytes(data)
    with pytest.raises(
        ShardError,
        match="the CRC32C doesn't match; the shard is damaged: run the conversion again with --resume",
    ):
        inspect_data.pick(own_data_set, "validation", 12)


def test_a_truncated_missing_or_stale_file_is_one_clear_line(own_data_set: Manifest) -> None:
    split = own_data_set.splits["validation"]
    path = Path(own_data_set.locate(split.shards[0]))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ShardError, match="ends before its last record; it is truncated"):
        inspect_data.pick(own_data_set, "validation", 12)
    path.unlink()
    with pytest.raises(ShardError, match="no such file or directory; run the conversion again with --resume"):
        inspect_data.pick(own_data_set, "validation", 12)
    fewer = dataclasses.replace(split, images=split.images - 1)
    stale = dataclasses.replace(own_data_set, splits={**own_data_set.splits, "validation": fewer})
    with pytest.raises(ShardError, match="12 records, the manifest says 11"):
        inspect_data.pick(stale, "validation", 12)


def test_the_summary_holds_the_manifests_counts(data_set: Manifest, capsys: pytest.CaptureFixture) -> None:
    assert inspect_data.run(data_set.location, 16, None, True) == 0
    shown = json.loads(capsys.readouterr().out)
    train = data_set.splits["train"]
    assert shown["splits"]["train"] == {
        "images": 60,
        "patients": train.patients,
        "shards": 3,
        "bytes": sum(Path(data_set.locate(shard)).stat().st_size for shard in train.shards),
    }
    assert shown["findings"]["Mass"]["train"]["images"] == train.positives["Mass"]
    assert shown["sha256"] == data_set.sha256
    assert (shown["patients_in_two_splits"], shown["quarantined"]) == (0, 1)


def test_the_screen_shows_source_splits_findings_and_the_leakage_proof(data_set: Manifest) -> None:
    console = Console(file=io.StringIO(), width=112, markup=False)
    inspect_data.print_summary(data_set, console)
    text = console.file.getvalue()
    train = data_set.splits["train"]
    for expected in (
        "Data_Entry_2017_v2020.csv, release v2020, sha256 abababababab",
        "stratified, seed 17",
        "mean 127.25, deviation 73.50",
        "Phantom data: drawn, not patients.",
        f"{train.positives['Mass']} / {train.positive_patients['Mass']}",
        f"{train.prevalence['Mass']:.2%}",
    ):
        assert expected in text
    assert ["patients", "in", "two", "splits", "0"] in [line.split() for line in text.splitlines()]


def test_a_sheet_of_the_first_split_with_images_is_written(tmp_path: Path, records: Records) -> None:
    data_set = make_data_set(tmp_path, {"train": [], "validation": [], "test": [[make_record(1)]]})
    png = tmp_path / "sheet.png"
    assert inspect_data.run(data_set.location, 16, str(png), True) == 0
    assert cv2.imread(str(png)).shape[1] < 400
    with pytest.raises(UsageError, match="the train split is empty"):
        inspect_data.run(data_set.location, 16, str(png), True, split="train")


def test_no_data_set_and_no_images_are_said_so(tmp_path: Path, data_set: Manifest) -> None:
    with pytest.raises(ManifestError, match="no manifest"):
        inspect_data.run(str(tmp_path), 16, None, False)
    with pytest.raises(UsageError, match="--images 0; expected at least 1"):
        inspect_data.run(data_set.location, 0, None, False)
    empty = make_data_set(tmp_path, {"train": [], "validation": [], "test": []})
    with pytest.raises(UsageError, match="holds no image"):
        inspect_data.run(empty.location, 16, str(tmp_path / "sheet.png"), True)


def test_records_of_a_bucket_are_those_of_the_folder(data_set: Manifest, s3: str) -> None:
    folder = Path(data_set.location).parent
    for path in folder.rglob("*.*"):
        storage.write_bytes(f"{s3}/data/{path.relative_to(folder)}", path.read_bytes())
    remote = manifest.load(f"{s3}/data/manifest.json")
    here, there = (inspect_data.pick(found, "train", 8) for found in (data_set, remote))
    assert [record.image for record in here] == [record.image for record in there]


def test_a_look_at_a_data_set_loads_no_tensorflow() -> None:
    code = (
        "import sys; from engine.report import inspect_data, page; "
        "from engine.evaluation import printed, summary; "
        "print(sorted({'tensorflow', 'keras', 'sklearn', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
