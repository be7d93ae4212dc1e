"""What stands around a record's picture, as a writer makes it, against the whole record."""

from __future__ import annotations

import math

import numpy as np
import pytest

from records import example, index, tfrecord
from records.errors import RecordError


def record(**changed: object) -> example.Record:
    values = {
        "image": bytes(range(24)), "encoding": "raw", "shape": (4, 6, 1), "image_id": "00000013_005.png",
        "patient_id": 13, "labels": np.arange(14, dtype=np.uint8) % 2, "view": "AP", "sex": "F",
        "age_years": 58.5, "follow_up": 5,
    }  # fmt: skip
    return example.Record(**{**values, **changed})  # type: ignore[arg-type]


RECORDS = [
    record(),
    record(image=b"", shape=(0, 0, 1)),
    record(image=bytes(200_000), shape=(400, 500, 1)),
    record(image_id="n" * 200, patient_id=2**40, follow_up=300),
    record(image_id="", view="", sex="", encoding="jpeg"),
    record(age_years=-0.0),
    record(age_years=0.0),
    record(age_years=math.nan, patient_id=-1, follow_up=0),
]


@pytest.mark.parametrize("made", RECORDS)
def test_a_wrapping_with_its_picture_is_the_record_and_tells_where_all_lies(made: example.Record) -> None:
    wrapping = example.wrap(made)
    serialized = wrapping.before + made.image + wrapping.after
    assert serialized == example.encode(made)
    assert wrapping.layout == example.locate(serialized)


@pytest.mark.parametrize("made", RECORDS)
def test_protobuf_alone_serializes_a_record_to_the_same_bytes(made: example.Record) -> None:
    whole = example._Example()
    whole.ParseFromString(example.encode(made))
    assert whole.SerializeToString(deterministic=True) == example.encode(made)


def test_zero_keeps_its_sign_whichever_came_first() -> None:
    for years in (0.0, -0.0, 0.0):
        decoded = example.decode(example.encode(record(age_years=years)))
        assert math.copysign(1, decoded.age_years) == math.copysign(1, years)


@pytest.mark.parametrize("labels", [[0] * 13, [0] * 15, [0] * 13 + [2]])
def test_labels_that_a_reader_would_not_find_are_not_written(labels: list[int]) -> None:
    with pytest.raises(RecordError, match="expected 14, each of 0 or 1"):
        example.wrap(record(labels=np.array(labels, np.uint8)))


def test_a_payload_framed_in_parts_is_framed_like_a_whole_one() -> None:
    assert tfrecord.frame(b"one", b"", b"two") == tfrecord.frame(b"onetwo")


def test_a_row_of_the_index_is_what_the_frame_itself_says() -> None:
    made = record()
    frame = tfrecord.Frame(1_000, example.encode(made))
    row = index.row(3, 1_000, len(frame.payload), example.wrap(made).layout)
    np.testing.assert_array_equal(np.array([row], index.DTYPE), index.of_frames([frame], 3))
