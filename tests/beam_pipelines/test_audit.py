"""The audit finds what was spoilt, and names it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from beam_pipelines import audit, audit_checks, convert, finish
from records import example, index, manifest, tfrecord
from records.errors import ManifestError


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
    with contextlib.suppress(ManifestError):
        finish.restore(manifest.load(str(folder)))


def _rewrite_records(folder: Path, change: Callable[[int, example.Record], bytes | example.Record]) -> str:
    """Change records of the first training shard; shard, index and manifest agree afterwards.

    Returns the shard's name.
    """
    values = json.loads((folder / manifest.FILE_NAME).read_text())
    split = values["splits"]["train"]
    shard, index_path = split["shards"][0], folder / split["index"]["path"]
    written, framed = io.BytesIO(), (folder / shard["path"]).read_bytes()
    for number, frame in enumerate(tfrecord.read(io.BytesIO(framed), shard["path"])):
        made = change(number, example.decode(frame.payload))
        tfrecord.write(written, made if isinstance(made, bytes) else example.encode(made))
    _write(folder, shard, written.getvalue())
    rows = index.from_bytes(index_path.read_bytes(), "index")
    frames = tfrecord.read(io.BytesIO(written.getvalue()), shard["path"])
    readable = [frame for frame in frames if len(frame.payload) > 100]
    _write(
        folder,
        split["index"],
        index.to_bytes(np.concatenate([index.of_frames(readable, 0), rows[rows["shard"] > 0]])),
    )
    (folder / manifest.FILE_NAME).write_text(json.dumps(values))
    finish.restore(manifest.load(str(folder)))
    return Path(shard["path"]).name


def _write(folder: Path, stored: dict, data: bytes) -> None:
    (folder / stored["path"]).write_bytes(data)
    stored.update(size_bytes=len(data), crc32c=manifest.crc32c(data))


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
    assert "training pixels: mean is" in faults


def test_prevalence_and_the_number_of_shared_patients_are_counted_again(data_folder, capsys):
    def change(values):
        values["splits"]["train"]["prevalence"]["Mass"] += 0.001
        values["patients_in_two_splits"] = 1

    _change_manifest(data_folder, change)
    first, second = _faults(data_folder, capsys)
    assert "train: prevalence is" in first
    assert "for Mass in the manifest" in first
    assert "patients_in_two_splits is 1 in the manifest, 0 in the records" in second


def test_a_quarantined_image_that_is_a_record_is_found(data_folder, capsys):
    def change(values):
        values["quarantined"] = [{"image_id": "00000001_000.png", "reason": "damaged PNG"}]
        values["source"]["rows"] += 1

    _change_manifest(data_folder, change)
    (fault,) = _faults(data_folder, capsys)
    assert "00000001_000.png is left out (damaged PNG), but stands as " in fault


@pytest.mark.parametrize("key", ["rows", "missing"])
def test_rows_of_the_table_that_went_nowhere_are_found(data_folder, capsys, key):
    _change_manifest(data_folder, lambda values: values["source"].update({key: values["source"][key] + 1}))
    (fault,) = _faults(data_folder, capsys)
    assert "rows in the label table, but" in fault
    assert "0 left out and 60 in the records" in fault


def test_statistics_that_are_null_though_there_are_pixels_are_a_fault(data_folder, capsys):
    _change_manifest(data_folder, lambda values: values["statistics"].update(mean=None))
    (fault,) = _faults(data_folder, capsys)
    assert "training pixels: mean is None in the manifest" in fault


def _without_side(values):
    del values["image"]["side_px"]


@pytest.mark.parametrize(
    "change",
    [
        _without_side,
        lambda values: values.update(image=None),
        lambda values: values.update(statistics={}),
        lambda values: values["splits"]["train"]["shards"][0].update(path=5),
        lambda values: values["splits"]["train"]["shards"][0].update(path="../shards/train/x"),
        lambda values: values["splits"]["train"]["positives"].update(Cough=1),
    ],
)
def test_a_manifest_with_other_keys_is_one_line_and_exit_code_1(data_folder, capsys, change):
    _change_manifest(data_folder, change)
    assert audit.main([str(data_folder)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {data_folder}/manifest.json: not a manifest of this project: ")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xff\xff\xff\xff\xff", "the payload of 5 bytes is no tf.train.Example"),
        (b"", "field `encoding` holds 0 values"),
    ],
)
def test_a_record_that_is_no_example_is_named_and_the_others_are_read(data_folder, capsys, payload, reason):
    shard = _rewrite_records(data_folder, lambda number, record: payload if number == 1 else record)
    assert audit.main([str(data_folder)]) == 1
    printed = capsys.readouterr()
    assert "60 records read" in " ".join(printed.out.split())  # lines break at the width
    (fault,) = [line for line in printed.err.splitlines() if line.startswith("fault: ")]
    assert f"{shard}: record 1: {reason}" in fault


def test_an_index_that_points_elsewhere_is_found(data_folder, capsys):
    values = json.loads((data_folder / manifest.FILE_NAME).read_text())
    stored = values["splits"]["train"]["index"]
    rows = index.from_bytes((data_folder / stored["path"]).read_bytes(), "index").copy()
    rows["image_offset"][-1] += 1
    rows["shard"][0] = 99
    _write(data_folder, stored, index.to_bytes(rows))
    (data_folder / manifest.FILE_NAME).write_text(json.dumps(values))
    faults = _faults(data_folder, capsys)
    assert f"index.npy: names more than the {len(values['splits']['train']['shards'])} shards" in faults[0]
    assert [fault.count("the index doesn't point at its records") for fault in faults] == [0, 1, 1]


def test_a_shard_is_read_without_holding_more_than_a_few_of_its_records(drawn, tmp_path):
    output = tmp_path / "shards"
    assert convert.main(drawn.arguments(output, records_per_shard=1000)) == 0
    checked = audit_checks.Audit(manifest.load(str(output)))
    shard = checked.data.splits["train"].shards[0]
    assert shard.records > 30
    tracemalloc.start()
    try:
        checked.run()
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not checked.faults
    assert peak_bytes < 10 * shard.size_bytes / shard.records


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


@pytest.mark.parametrize(
    ("column", "change", "said"),
    [
        ("patient", {"patient_id": 77}, "patient 77, the label table says "),
        ("follow-up", {"follow_up": 9}, "follow-up 9, the label table says "),
        ("age", {"age_years": 99.0}, "age 99.0, the label table says "),
        ("age", {"age_years": float("nan")}, "age nan, the label table says "),
        ("sex", {"sex": "X"}, "sex X, the label table says "),
        ("view", {"view": "AP"}, "view AP, the label table says PA"),
    ],
)
def test_every_column_unlike_the_table_is_found(data_folder, drawn, capsys, column, change, said):
    shard = _rewrite_records(
        data_folder, lambda number, record: dataclasses.replace(record, **change) if number == 2 else record
    )
    faults = _faults(data_folder, capsys, "--labels", str(drawn.table))
    assert [fault for fault in faults if f"{shard}: record 2: " in fault and said in fault]
    assert len([fault for fault in faults if "the label table says" in fault]) == 1


def test_an_age_that_is_unknown_in_record_and_table_is_no_fault(data_folder, drawn, tmp_path, capsys):
    _rewrite_records(data_folder, lambda _, record: dataclasses.replace(record, age_years=float("nan")))
    lines = drawn.table.read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    table = tmp_path / "table.csv"
    table.write_text("\n".join([lines[0], *(",".join([*row[:4], "414", *row[5:]]) for row in rows)]))
    ages = [fault for fault in _faults(data_folder, capsys, "--labels", str(table)) if "age nan" in fault]
    assert not ages


def test_no_manifest_is_one_line_and_exit_code_1(tmp_path, capsys):
    assert audit.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
