from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records import example, index, tfrecord
from records.errors import RecordError, ShardError

DTYPE_ON_DISK = [
    ("shard", "<i4"),
    ("payload_offset", "<i8"),
    ("payload_bytes", "<i4"),
    ("image_offset", "<i8"),
    ("image_bytes", "<i4"),
    ("labels_offset", "<i8"),
]


def record(number: int) -> example.Record:
    generator = np.random.default_rng(number)
    side = 4 + number
    return example.Record(
        image=generator.bytes(side * side),
        encoding="raw",
        shape=(side, side, 1),
        image_id=f"{number:08d}_000.png",
        patient_id=number,
        labels=generator.integers(0, 2, 14, dtype=np.uint8),
        view="PA",
        sex="M",
        age_years=40.0,
        follow_up=0,
    )


def shard_of(records: list[example.Record]) -> bytes:
    buffer = io.BytesIO()
    for entry in records:
        tfrecord.write(buffer, example.encode(entry))
    return buffer.getvalue()


def rows_of(data: bytes, shard: int = 0) -> np.ndarray:
    return index.of_frames(tfrecord.read(io.BytesIO(data), "shard"), shard)


ROWS = rows_of(shard_of([record(number) for number in range(3)]), shard=2)
STORED = index.to_bytes(ROWS)


def test_every_picture_label_and_payload_lies_where_the_index_says() -> None:
    records = [record(number) for number in range(20)]
    data = shard_of(records)
    rows = rows_of(data, shard=7)
    assert rows.dtype == index.DTYPE
    assert rows["shard"].tolist() == [7] * 20
    for row, entry in zip(rows, records, strict=True):
        start = row["payload_offset"]
        assert data[start : start + row["payload_bytes"]] == example.encode(entry)
        assert data[row["image_offset"] :][: row["image_bytes"]] == entry.image
        assert data[row["labels_offset"] :][:14] == entry.labels.tobytes()


def test_the_columns_are_the_documented_ones() -> None:
    assert [(name, index.DTYPE[name].str) for name in index.DTYPE.names] == DTYPE_ON_DISK


def test_a_shard_without_records_has_an_index_without_rows() -> None:
    rows = rows_of(b"")
    assert rows.shape == (0,)
    assert index.from_bytes(index.to_bytes(rows), "index").shape == (0,)


def test_an_index_survives_the_round_trip_and_gives_equal_bytes() -> None:
    np.testing.assert_array_equal(index.from_bytes(STORED, "index"), ROWS)
    assert index.to_bytes(ROWS.copy()) == STORED


def test_an_index_is_a_plain_npy_file() -> None:
    np.testing.assert_array_equal(np.load(io.BytesIO(STORED)), ROWS)


def test_a_payload_that_is_no_record_is_not_indexed() -> None:
    with pytest.raises(RecordError):
        index.of_frames([tfrecord.Frame(12, b"rubbish")], 0)


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, rows=ROWS)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"rubbish",
        b"PK\x03\x04 but no zip",
        _npz(),
        _npy(np.zeros(3)),
        _npy(ROWS.reshape(1, 3)),
        _npy(ROWS[["shard", "payload_offset"]]),
        STORED.replace(b"(3,)", b"(4,)"),
        STORED.replace(b"(3,), } ", b"(9999999999999,), }"),
        STORED.replace(b"'<i8'", b"'<zz'"),
        STORED.replace(b"'descr'", b"b'desc'"),
    ],
    ids=range(11),
)
def test_what_is_no_index_is_refused_with_its_name(data: bytes) -> None:
    assert data != STORED
    with pytest.raises(ShardError, match=r"^index\.npy: .*run the conversion again with --resume$"):
        index.from_bytes(data, "index.npy")


def test_every_truncation_is_refused() -> None:
    for end in range(len(STORED)):
        with pytest.raises(ShardError):
            index.from_bytes(STORED[:end], "index")


@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")  # of damaged headers
@given(st.integers(0, len(STORED) - 1), st.integers(0, 255))
def test_a_damaged_index_raises_nothing_but_a_shard_error(position: int, value: int) -> None:
    damaged = bytearray(STORED)
    damaged[position] = value
    with contextlib.suppress(ShardError):
        assert index.from_bytes(bytes(damaged), "index").dtype == index.DTYPE
