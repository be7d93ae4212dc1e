"""The audit finds what was spoilt, and names it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from beam_pipelines import audit
from records import manifest


@pytest.fixture
def data_folder(converted: Path, tmp_path: Path) -> Path:
    """A copy of the converted data set that a test may spoil."""
    return Path(shutil.copytree(converted, tmp_path / "shards"))


def _faults(folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> list[str]:
    code = audit.main([str(folder), *flags])
    faults = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fault: ")]
    assert code == (1 if faults else 0)
    return faults


def _change_manifest(folder: Path, change) -> None:
    path = folder / manifest.FILE_NAME
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_a_whole_data_set_passes_and_its_table_is_printed(converted, drawn, capsys):
    assert audit.main([str(converted), "--labels", str(drawn.table)]) == 0
    printed = capsys.readouterr().out
    assert "60 records read" in printed
    assert "patients in two splits: 0; faults: 0" in printed


@pytest.mark.parametrize("position", [3, 10, 5000, 100_000, 150_000])
def test_a_flipped_byte_names_shard_and_record(data_folder, capsys, position):
    shard = sorted((data_folder / "train").glob("*.tfrecord"))[1]
    data = bytearray(shard.read_bytes())
    data[position] ^= 4
    shard.write_bytes(data)
    faults = _faults(data_folder, capsys)
    assert len(faults) == 1
    assert shard.name in faults[0]
    assert f"record {0 if position < 102_000 else 1} at byte" in faults[0]


def test_a_missing_shard_a_missing_index_and_an_unknown_shard_are_named(data_folder, capsys):
    shards = sorted((data_folder / "train").glob("*.tfrecord"))
    shutil.copy(shards[0], shards[0].with_name("train-00099-of-00100.tfrecord"))
    shards[1].unlink()
    (data_folder / "test" / "index.npy").unlink()
    faults = "\n".join(_faults(data_folder, capsys))
    assert f"{shards[1]}: can't be read: no such file" in faults
    assert "train-00099-of-00100.tfrecord: a shard that the manifest doesn't name" in faults
    assert "index.npy: can't be read" in faults


def test_two_shards_in_each_others_place_are_found(data_folder, capsys):
    first, second = sorted((data_folder / "train").glob("*.tfrecord"))[:2]
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    faults = "\n".join(_faults(data_folder, capsys))
    assert first.name in faults
    assert second.name in faults


def test_counts_that_the_records_do_not_bear_out_are_found(data_folder, capsys):
    def change(values):
        values["splits"]["train"]["positives"]["Mass"] += 1
        values["splits"]["test"]["patients"] += 1
        values["statistics"]["mean"] += 0.5

    _change_manifest(data_folder, change)
    faults = "\n".join(_faults(data_folder, capsys))
    assert "train: positives is" in faults
    assert "for Mass in the manifest" in faults
    assert "test: patients is" in faults
    assert "training mean and deviation" in faults


def test_a_patient_in_two_splits_is_found(data_folder, capsys):
    def change(values):
        splits = values["splits"]
        splits["validation"], splits["test"] = splits["test"], splits["validation"]
        splits["test"] = splits["validation"]

    _change_manifest(data_folder, change)
    faults = "\n".join(_faults(data_folder, capsys))
    assert "stands in validation and in test" in faults
    assert "is there already" in faults


def test_labels_unlike_the_table_are_found(data_folder, drawn, tmp_path, capsys):
    table = tmp_path / "table.csv"
    table.write_text(drawn.table.read_text().replace("00000001_000.png,Effusion", "00000001_000.png,Mass"))
    assert table.read_text() != drawn.table.read_text()
    faults = _faults(data_folder, capsys, "--labels", str(table))
    assert len(faults) == 1
    assert "00000001_000.png: labels" in faults[0]


def test_no_manifest_is_one_line_and_exit_code_1(tmp_path, capsys):
    assert audit.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
