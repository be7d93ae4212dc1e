from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fabricated import make_data_set, make_record

from engine.report import data_counts, record_columns
from engine.report.record_columns import Columns
from records import manifest, storage, tfrecord
from records.errors import ShardError
from records.example import Record
from records.labels import FINDINGS
from records.manifest import Manifest
from records.splits import SPLITS

Records = dict[str, list[list[Record]]]


def flat(records: Records, split: str) -> list[Record]:
    return [record for shard in records[split] for record in shard]


@pytest.fixture(scope="module")
def splits(data_set: Manifest) -> dict[str, Columns]:
    return record_columns.read(data_set)


@pytest.fixture
def own_data_set(tmp_path: Path, data_set: Manifest) -> Manifest:
    """A copy that a test may damage."""
    shutil.copytree(Path(data_set.location).parent, tmp_path / "data")
    return manifest.load(str(tmp_path / "data"))


def test_columns_hold_what_the_records_say(splits: dict[str, Columns], records: Records) -> None:
    for name in SPLITS:
        written = flat(records, name)
        columns = splits[name]
        assert len(columns) == len(written)
        for column, values in (
            (columns.patient_ids, [record.patient_id for record in written]),
            (columns.labels, [record.labels for record in written]),
            (columns.age_years, [record.age_years for record in written]),
            (columns.sex, [record.sex for record in written]),
            (columns.view, [record.view for record in written]),
            (columns.follow_up, [record.follow_up for record in written]),
        ):
            np.testing.assert_array_equal(column, np.array(values))


@pytest.mark.parametrize(
    ("encoding", "channels"), [("raw", 1), ("raw", 3), ("png", 1), ("png", 3), ("jpeg", 3)]
)
def test_columns_are_the_same_however_the_pictures_are_stored(
    tmp_path: Path, write_data_set, encoding: str, channels: int
) -> None:
    written = write_data_set(tmp_path, encoding=encoding, channels=channels)
    with Path(written.locate(written.splits["test"].shards[1])).open("rb") as shard:
        assert len(list(tfrecord.read(shard, "shard"))) == 3
    columns = record_columns.read(written)
    assert columns["train"].labels.sum(axis=0).tolist() == [
        written.splits["train"].positives[finding] for finding in FINDINGS
    ]
    assert columns["train"].patient_ids.tolist() == [123 + number // 2 for number in range(20)]


def test_images_and_patients_by_finding_are_the_manifests(
    data_set: Manifest, splits: dict[str, Columns]
) -> None:
    images, patients = data_counts.images_by_finding(splits), data_counts.patients_by_finding(splits)
    for row, name in enumerate(SPLITS):
        split = data_set.splits[name]
        assert images[row, :-1].tolist() == [split.positives[finding] for finding in FINDINGS]
        assert patients[row].tolist() == [split.positive_patients[finding] for finding in FINDINGS]


def test_counts_equal_those_of_a_plain_loop(splits: dict[str, Columns], records: Records) -> None:
    every = [record for name in SPLITS for record in flat(records, name)]
    columns = record_columns.joined(splits.values())
    findings = Counter(int(record.labels.sum()) for record in every)
    assert data_counts.findings_per_image(columns).tolist() == [findings[n] for n in range(max(findings) + 1)]
    images = Counter(record.patient_id for record in every)
    assert sorted(data_counts.images_per_patient(columns)) == sorted(images.values())
    groups = data_counts.circumstances(columns)
    assert groups["female"].sum() == sum(record.sex == "F" for record in every)
    assert groups["AP view"].sum() == sum(record.view == "AP" for record in every)
    assert groups["follow-up visit"].sum() == sum(record.follow_up > 0 for record in every)
    shares = data_counts.together(columns.labels)
    for row in range(len(FINDINGS)):
        having = [record.labels for record in every if record.labels[row]]
        for column in range(len(FINDINGS)):
            both = sum(label.sum() == 1 if row == column else label[column] == 1 for label in having)
            expected = both / len(having) if having else np.nan
            np.testing.assert_allclose(shares[row, column], expected)


def test_patients_are_grouped_by_their_images_without_a_gap() -> None:
    names, patients = data_counts.patient_groups(np.array([1, 1, 2, 5, 6, 10, 11, 50, 51, 184]))
    assert dict(zip(names, patients.tolist(), strict=True)) == {
        "1": 2,
        "2": 1,
        "3": 0,
        "4": 0,
        "5": 1,
        "6 to 10": 2,
        "11 to 20": 1,
        "21 to 50": 1,
        "51 to 100": 1,
        "101 or more": 1,
    }
    assert data_counts.patient_groups(np.array([1, 2]))[0] == ["1", "2"]


def test_combinations_come_by_frequency_and_hold_two_findings_at_least() -> None:
    labels = np.zeros((7, 14), np.uint8)
    labels[:3, [0, 1]] = 1
    labels[3:5, [0, 1, 13]] = 1
    labels[5, 4] = 1
    assert data_counts.frequent_combinations(labels, 5) == [
        ("Infiltration|Effusion", 3),
        ("Infiltration|Effusion|Hernia", 2),
    ]
    assert data_counts.frequent_combinations(labels, 1) == [("Infiltration|Effusion", 3)]
    assert data_counts.frequent_combinations(labels[5:], 5) == []


@pytest.mark.parametrize("age_years", [float("nan"), float("inf"), -1.0])
def test_an_age_that_is_none_counts_as_not_known(tmp_path: Path, age_years: float) -> None:
    records = [make_record(0), dataclasses.replace(make_record(2), age_years=age_years)]
    written = make_data_set(tmp_path, {"train": [records], "validation": [], "test": []})
    train = record_columns.read(written)["train"]
    assert data_counts.known_ages(train).tolist() == [True, False]
    assert data_counts.circumstances(train)["age not known"].sum() == 1


def test_empty_splits_have_empty_columns(tmp_path: Path) -> None:
    written = make_data_set(tmp_path, {"train": [], "validation": [], "test": [[make_record(1)]]})
    splits = record_columns.read(written)
    assert [len(splits[name]) for name in SPLITS] == [0, 0, 1]
    assert data_counts.images_by_finding(splits).sum(axis=1).tolist() == [0, 0, 1]
    assert data_counts.findings_per_image(splits["train"]).tolist() == [0]
    assert np.isnan(data_counts.together(splits["train"].labels)).all()


def test_only_the_bytes_around_the_pictures_are_read(
    own_data_set: Manifest, splits: dict[str, Columns]
) -> None:
    shard = own_data_set.splits["train"].shards[0]
    path = Path(own_data_set.locate(shard))
    data = bytearray(path.read_bytes())
    rows = splits["train"].rows[splits["train"].rows["shard"] == 0]
    for start, size in zip(rows["image_offset"], rows["image_bytes"], strict=True):
        data[start : start + size] = bytes(size)
    path.write_bytes(data)
    np.testing.assert_array_equal(record_columns.read(own_data_set)["train"].labels, splits["train"].labels)


def test_damage_around_a_picture_is_one_clear_line(
    own_data_set: Manifest, splits: dict[str, Columns]
) -> None:
    path = Path(own_data_set.locate(own_data_set.splits["train"].shards[1]))
    data = bytearray(path.read_bytes())
    row = splits["train"].rows[splits["train"].rows["shard"] == 1][3]
    data[row["payload_offset"]] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(
        ShardError, match=rf"at byte {row['payload_offset']}: .*the shard is damaged"
    ) as error:
        record_columns.read(own_data_set)
    assert "\n" not in str(error.value)
    path.write_bytes(data[:-1])
    with pytest.raises(ShardError, match="the file is truncated or stale"):
        record_columns.read(own_data_set)


def test_a_manifest_that_counts_other_findings_is_refused(data_set: Manifest) -> None:
    split = data_set.splits["train"]
    other = dataclasses.replace(split, positives={**split.positives, "Mass": split.positives["Mass"] + 1})
    stale = dataclasses.replace(data_set, splits={**data_set.splits, "train": other})
    with pytest.raises(ShardError, match="train records show Mass, the manifest says"):
        record_columns.read(stale)


def test_remote_columns_are_the_local_ones_and_the_shards_are_kept(
    data_set: Manifest, splits: dict[str, Columns], s3: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = Path(data_set.location).parent
    for path in folder.rglob("*.*"):
        storage.write_bytes(f"{s3}/data/{path.relative_to(folder)}", path.read_bytes())
    remote = manifest.load(f"{s3}/data/manifest.json")
    for _ in range(2):
        there = record_columns.read(remote)
        for name in SPLITS:
            np.testing.assert_array_equal(there[name].labels, splits[name].labels)
        assert len(list((tmp_path / "cxr-engine").glob("*.tfrecord"))) == 6
        for shard in remote.splits["train"].shards:
            storage.delete(remote.locate(shard))
