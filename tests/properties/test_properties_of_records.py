"""Properties of tables, splits, shards and manifests, for whatever hypothesis draws."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from records import example, index, labels, manifest, splits, tfrecord
from records.errors import CxrError, ManifestError, ShardError, TableError
from records.labels import FINDINGS
from records.table import COLUMNS, ImageTable, read_boxes, read_list, read_table

multi_hots = st.lists(st.integers(0, 1), min_size=14, max_size=14)
payloads = st.lists(st.binary(max_size=300), max_size=6)
counts = st.integers(0, 2**62)


@st.composite
def image_tables(draw: st.DrawFn, max_rows: int = 60) -> ImageTable:
    """Any patients with any findings: one with all images, each with one, and all between."""
    patient_ids = draw(st.lists(st.integers(1, 25), min_size=1, max_size=max_rows))
    vectors = draw(st.lists(multi_hots, min_size=len(patient_ids), max_size=len(patient_ids)))
    rows = len(patient_ids)
    return ImageTable(
        name="table.csv",
        sha256="",
        release="v2020",
        image_ids=np.array([f"{patient:08d}_{row:03d}.png" for row, patient in enumerate(patient_ids)], str),
        patient_ids=np.array(patient_ids, np.int64),
        labels=np.array(vectors, np.uint8),
        follow_up=np.zeros(rows, np.int64),
        age_years=np.zeros(rows, np.float32),
        sex=np.full(rows, "M"),
        view=np.full(rows, "PA"),
    )


@given(table=image_tables(), seed=st.integers(0, 2**32 - 1), share=st.integers(5, 95))
@settings(max_examples=100)
def test_a_stratified_split_misses_its_size_by_no_more_than_two_patients(
    table: ImageTable, seed: int, share: int
) -> None:
    fractions = (share / 100, (100 - share) / 200, (100 - share) / 200)
    assignment = splits.stratified(table, fractions=fractions, seed=seed)
    largest = np.unique(table.patient_ids, return_counts=True)[1].max()
    found = np.bincount(assignment, minlength=3)
    # Findings pull as well as sizes do: with a few images more cannot be promised.
    assert (np.abs(found - np.array(fractions) * len(table)) <= 2 * largest + 0.25 * len(table)).all()


@given(table=image_tables(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_a_random_split_has_as_many_patients_as_its_cuts_say(table: ImageTable, seed: int) -> None:
    fractions = (0.5, 0.25, 0.25)
    assignment = splits.random_patients(table, fractions=fractions, seed=seed)
    patients = len(np.unique(table.patient_ids))
    in_split = [len(np.unique(table.patient_ids[assignment == number])) for number in range(3)]
    assert sum(in_split) == patients
    for number in (1, 2):
        assert abs(in_split[number] - fractions[number] * patients) <= 1.5


@given(table=image_tables(), seed=st.integers(0, 2**32 - 1), data=st.data())
@settings(max_examples=60)
def test_the_order_of_the_rows_of_a_patient_changes_no_split(table: ImageTable, seed: int, data) -> None:
    """Which patient is where depends on the patients' order alone."""
    order = np.argsort(table.patient_ids, kind="stable")
    first = _taken(table, order)
    within = np.concatenate(
        [data.draw(st.permutations(np.flatnonzero(first.patient_ids == patient).tolist()))
         for patient in np.unique(first.patient_ids)]
    ).astype(int)  # fmt: skip
    second = _taken(first, within)
    for fractions in ((0.6, 0.2, 0.2), (0.9, 0.1, 0.0)):
        one = splits.stratified(first, fractions=fractions, seed=seed)
        other = splits.stratified(second, fractions=fractions, seed=seed)
        assert dict(zip(first.patient_ids, one, strict=True)) == dict(
            zip(second.patient_ids, other, strict=True)
        )


def _taken(table: ImageTable, rows: np.ndarray) -> ImageTable:
    columns = ("image_ids", "patient_ids", "labels", "follow_up", "age_years", "sex", "view")
    return dataclasses.replace(table, **{name: getattr(table, name)[rows] for name in columns})


@st.composite
def table_rows(draw: st.DrawFn) -> list[dict[str, str]]:
    """Rows as the NIH writes them, of one release."""
    in_units = draw(st.booleans())
    rows = []
    for visit in range(draw(st.integers(1, 8))):
        patient = draw(st.integers(1, 99_999_999))
        found = draw(st.lists(st.sampled_from(FINDINGS), unique=True))
        age = draw(st.integers(0, 999))
        rows.append(
            {
                "Image Index": f"{patient:08d}_{visit:03d}.png",
                "Finding Labels": "|".join(found) or labels.NO_FINDING,
                "Follow-up #": str(visit),
                "Patient ID": str(patient),
                "Patient Age": f"{age:03d}{draw(st.sampled_from('YMD'))}" if in_units else str(age),
                "Patient Gender": draw(st.sampled_from("MF")),
                "View Position": draw(st.sampled_from(["PA", "AP"])),
            }
        )
    return rows


@given(rows=table_rows(), columns=st.permutations(COLUMNS), packed=st.booleans(), end=st.sampled_from("\n\r"))
@settings(max_examples=60)
def test_any_table_of_the_nihs_kind_is_read_by_name_whatever_its_columns_order(
    rows: list[dict[str, str]], columns: list[str], packed: bool, end: str
) -> None:
    end = "\r\n" if end == "\r" else end
    text = end.join([",".join(columns), *(",".join(row[column] for column in columns) for row in rows), ""])
    table = _read(read_table, gzip.compress(text.encode()) if packed else text.encode())
    assert table.image_ids.tolist() == [row["Image Index"] for row in rows]
    assert table.patient_ids.tolist() == [int(row["Patient ID"]) for row in rows]
    assert table.sex.tolist() == [row["Patient Gender"] for row in rows]
    found = [set(row["Finding Labels"].split("|")) - {labels.NO_FINDING} for row in rows]
    assert [set(labels.decode(vector).split("|")) - {labels.NO_FINDING} for vector in table.labels] == found
    ages = table.age_years[~np.isnan(table.age_years)]
    assert ((ages >= 0) & (ages <= 122)).all()


@given(names=st.lists(st.text("abc0123._-", min_size=1, max_size=9), min_size=1, max_size=9, unique=True))
@settings(max_examples=40)
def test_any_list_of_names_is_read_as_it_stands(names: list[str]) -> None:
    assert _read(read_list, "\n\n".join(names).encode()) == names


@given(
    boxes=st.lists(
        st.tuples(
            st.sampled_from(FINDINGS),
            *[st.floats(0, 1024, allow_nan=False)] * 2,
            *[st.floats(0.001, 1024, allow_nan=False)] * 2,
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=40)
def test_any_rectangle_is_read_as_it_stands(boxes: list[tuple]) -> None:
    header = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    text = "\n".join([header, *(f"a.png,{finding},{x!r},{y!r},{w!r},{h!r}" for finding, x, y, w, h in boxes)])
    found = _read(read_boxes, text.encode())
    assert [(box.finding, box.x_px, box.y_px, box.width_px, box.height_px) for box in found] == boxes


def _read(read, data: bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        return read(str(path))


@given(payloads)
@settings(max_examples=25)
def test_tensorflow_and_we_write_the_same_bytes_and_read_each_others(written: list[bytes]) -> None:
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours", Path(folder) / "theirs"
        ours.write_bytes(b"".join(map(tfrecord.frame, written)))
        with tf.io.TFRecordWriter(str(theirs)) as writer:
            for payload in written:
                writer.write(payload)
        assert ours.read_bytes() == theirs.read_bytes()
        assert [value.numpy() for value in tf.data.TFRecordDataset(str(ours))] == written
        assert [frame.payload for frame in tfrecord.read(io.BytesIO(theirs.read_bytes()), "")] == written


@given(payloads.filter(bool), st.data())
@settings(max_examples=60)
def test_no_changed_byte_of_a_shard_goes_unnoticed(written: list[bytes], data) -> None:
    whole = bytearray(b"".join(map(tfrecord.frame, written)))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ShardError):
        list(tfrecord.read(io.BytesIO(bytes(whole)), "shard"))


@given(parts=st.lists(st.binary(max_size=50), max_size=5))
@settings(max_examples=40)
def test_a_frame_of_parts_is_that_of_the_whole(parts: list[bytes]) -> None:
    assert tfrecord.frame(*parts) == tfrecord.frame(b"".join(parts))


@st.composite
def stored_files(draw: st.DrawFn) -> dict[str, object]:
    letters = st.characters(codec="utf-8", categories=("L", "N", "P", "S"), exclude_characters="/\\")
    part = st.text(letters, min_size=1, max_size=8)
    parts = draw(st.lists(part.filter(lambda text: text not in {".", ".."}), min_size=1, max_size=3))
    return {
        "path": "/".join(parts),
        "size_bytes": draw(counts),
        "crc32c": f"{draw(st.integers(0, 2**32 - 1)):08x}",
    }


@st.composite
def split_parts(draw: st.DrawFn) -> manifest.Split:
    by_finding = st.fixed_dictionaries(dict.fromkeys(FINDINGS, counts))
    return manifest.Split(
        images=draw(counts),
        patients=draw(counts),
        positives=draw(by_finding),
        positive_patients=draw(by_finding),
        prevalence=draw(st.fixed_dictionaries(dict.fromkeys(FINDINGS, st.floats(0, 1)))),
        shards=tuple(
            manifest.Shard(**file, records=draw(counts))
            for file in draw(st.lists(stored_files(), max_size=3))
        ),
        index=manifest.StoredFile(**draw(stored_files())),
    )


texts = st.text(st.characters(codec="utf-8"), max_size=20)
left_out = st.lists(st.builds(manifest.LeftOut, image_id=texts, reason=texts), max_size=3).map(tuple)
open_objects = st.dictionaries(texts, st.one_of(texts, counts, st.booleans(), st.none()), max_size=3)


@st.composite
def manifests(draw: st.DrawFn) -> manifest.Manifest:
    image = {
        "side_px": draw(st.integers(1, 4096)),
        "stored_channels": draw(st.sampled_from([1, 3])),
        "encoding": "raw",
    }
    mean = st.one_of(st.none(), st.floats(-1e299, 1e299, allow_nan=False))
    return manifest.Manifest(
        source=draw(open_objects) | {"rows": draw(counts)},
        split={"strategy": draw(texts), "seed": draw(counts)},
        image=image,
        statistics={"mean": draw(mean), "deviation": draw(mean), "pixels": draw(counts)},
        splits={name: draw(split_parts()) for name in splits.SPLITS},
        patients_in_two_splits=draw(counts),
        quarantined=draw(left_out),
        excluded=draw(left_out),
        versions=draw(st.dictionaries(texts, texts, max_size=3)),
        request_sha256=draw(texts),
    )


@given(made=manifests())
@settings(max_examples=30)
def test_any_manifest_survives_the_round_trip(made: manifest.Manifest) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.json"
        path.write_bytes(made.to_json())
        loaded = manifest.load(folder)
    assert loaded == made
    assert loaded.to_json() == made.to_json()
    assert loaded.sha256 == made.sha256


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)


@given(value=json_values, key=st.sampled_from(["image", "splits", "statistics", "quarantined", "findings"]))
@settings(max_examples=60)
def test_another_value_in_a_manifest_is_refused_and_nothing_else_is_raised(value: object, key: str) -> None:
    golden = Path(__file__).parents[1] / "records" / "golden" / "manifest.json"
    values = json.loads(golden.read_bytes())
    assume(value != values[key] and value != [])
    values[key] = value
    with pytest.raises(ManifestError) as raised:
        _read(_load_renamed, json.dumps(values).encode())
    assert str(raised.value).isprintable()


def _load_renamed(path: str) -> manifest.Manifest:
    return manifest.load(str(Path(path).rename(f"{path}.json")))


@given(rows=st.lists(st.tuples(st.integers(0, 2**31 - 1), *[st.integers(0, 2**31 - 1)] * 5), max_size=9))
@settings(max_examples=40)
def test_any_index_survives_the_round_trip(rows: list[tuple]) -> None:
    made = np.array(rows, index.DTYPE)
    np.testing.assert_array_equal(index.from_bytes(index.to_bytes(made), "index"), made)


@given(payload=st.binary(max_size=200), junk=st.integers(1, 20))
@settings(max_examples=60)
def test_a_length_without_end_is_refused_at_once(payload: bytes, junk: int) -> None:
    with pytest.raises(CxrError):
        example.locate(b"\x0a" + b"\xff" * (9 + junk) + payload)


@given(st.lists(st.text("|,ABab\0\n", max_size=12), min_size=1, max_size=4))
@settings(max_examples=60)
def test_a_cell_that_is_no_finding_is_refused(cells: list[str]) -> None:
    for cell in cells:
        with pytest.raises(TableError) as raised:
            labels.encode(cell)
        assert str(raised.value).isprintable()
