from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records import example
from records.errors import RecordError

GOLDEN = Path(__file__).parent / "golden" / "record.bin"

RECORD = example.Record(
    image=bytes(range(24)),
    encoding="raw",
    shape=(4, 6, 1),
    image_id="00000013_005.png",
    patient_id=13,
    labels=np.array([1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], np.uint8),
    view="AP",
    sex="F",
    age_years=58.5,
    follow_up=5,
)
TEXT_FIELDS = ("encoding", "image_id", "view", "sex")


def changed(**values) -> example.Record:
    return dataclasses.replace(RECORD, **values)


def assert_equal(first: example.Record, second: example.Record) -> None:
    for field in dataclasses.fields(example.Record):
        np.testing.assert_equal(getattr(first, field.name), getattr(second, field.name), field.name)


def payload_with(key: str, kind: str, values: list) -> bytes:
    """The record with one field replaced; an empty list removes it."""
    message = example._Example()
    message.ParseFromString(example.encode(RECORD))
    del message.features.feature[key]
    if values:
        getattr(message.features.feature[key], kind).value.extend(values)
    return message.SerializeToString(deterministic=True)


@st.composite
def records(draw) -> example.Record:
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3])))
    pixels = math.prod(shape)
    # Pictures of label-like bytes and of field names are the ones that could mislead a search.
    picture = draw(
        st.one_of(
            st.binary(min_size=pixels, max_size=pixels),
            st.just((example.encode(RECORD) * 2)[:pixels]),
            st.just(bytes(pixels)),
        )
    )
    return example.Record(
        image=picture,
        encoding="raw",
        shape=shape,
        image_id=draw(st.text(st.characters(codec="utf-8"), max_size=20)),
        patient_id=draw(st.integers(-(2**63), 2**63 - 1)),
        labels=np.array(draw(st.lists(st.integers(0, 1), min_size=14, max_size=14)), np.uint8),
        view=draw(st.sampled_from(["PA", "AP"])),
        sex=draw(st.sampled_from(["M", "F"])),
        age_years=draw(st.floats(width=32)),
        follow_up=draw(st.integers(0, 2**40)),
    )


@given(records())
def test_every_record_survives_the_round_trip(record: example.Record) -> None:
    decoded = example.decode(example.encode(record))
    assert_equal(decoded, record)
    assert decoded.labels.dtype == np.uint8
    assert decoded.pixels().shape == record.shape
    assert decoded.pixels().tobytes() == record.image


@given(records())
def test_the_picture_and_the_labels_are_located_whatever_the_record_holds(record: example.Record) -> None:
    serialized = example.encode(record)
    layout = example.locate(serialized)
    assert layout.image_bytes == len(record.image)
    assert serialized[layout.image_offset :][: layout.image_bytes] == record.image
    assert serialized[layout.labels_offset :][:14] == record.labels.tobytes()
    # The map entry's key, then the lengths of feature, list and packed values.
    assert serialized[: layout.labels_offset].endswith(b"\n\x06labels\x12\x12\x1a\x10\n\x0e")


def test_a_picture_that_holds_a_whole_record_does_not_mislead_locate() -> None:
    inner = example.encode(changed(labels=1 - RECORD.labels))
    serialized = example.encode(changed(image=inner, shape=(1, len(inner), 1)))
    layout = example.locate(serialized)
    assert serialized[layout.image_offset :][: layout.image_bytes] == inner
    assert serialized[layout.labels_offset :][:14] == RECORD.labels.tobytes()


@pytest.mark.parametrize("picture_bytes", [1, 127, 128, 16_383, 16_384, 102_400, 307_200])
def test_locate_holds_at_every_width_of_the_length(picture_bytes: int) -> None:
    picture = np.random.default_rng(0).bytes(picture_bytes)
    serialized = example.encode(changed(image=picture, shape=(1, picture_bytes, 1)))
    layout = example.locate(serialized)
    assert serialized[layout.image_offset :][: layout.image_bytes] == picture
    assert serialized[layout.labels_offset :][:14] == RECORD.labels.tobytes()


def test_equal_records_give_equal_bytes() -> None:
    assert example.encode(RECORD) == example.encode(changed(labels=RECORD.labels.copy()))
    assert example.encode(RECORD) != example.encode(changed(follow_up=6))


def test_the_bytes_of_a_record_are_the_golden_ones() -> None:
    """A change here breaks every data set; set REGENERATE_GOLDEN=1 only with a new schema version."""
    serialized = example.encode(RECORD)
    if os.environ.get("REGENERATE_GOLDEN"):
        GOLDEN.write_bytes(serialized)
    assert serialized == GOLDEN.read_bytes()
    assert_equal(example.decode(GOLDEN.read_bytes()), RECORD)
    assert example.SCHEMA_VERSION == 1


def test_an_age_that_is_not_a_number_stays_so() -> None:
    assert math.isnan(example.decode(example.encode(changed(age_years=float("nan")))).age_years)


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_only_a_raw_record_has_pixels(encoding: str) -> None:
    record = example.decode(example.encode(changed(encoding=encoding)))
    with pytest.raises(RecordError, match=f"encoded as `{encoding}`; expected `raw`"):
        record.pixels()


@pytest.mark.parametrize("shape", [(4, 5, 1), (4, 6, 3), (-4, -6, 1), (2**32, 2**32, 0), (0, 0, 0)])
def test_a_picture_that_does_not_fill_its_shape_has_no_pixels(shape: tuple[int, int, int]) -> None:
    with pytest.raises(RecordError, match="24 bytes don't fill the shape"):
        changed(shape=shape).pixels()


KINDS = {
    **dict.fromkeys(("image", *TEXT_FIELDS), "bytes_list"),
    **dict.fromkeys(("shape", "patient_id", "labels", "follow_up"), "int64_list"),
    "age_years": "float_list",
}


@pytest.mark.parametrize("key", KINDS)
def test_a_missing_field_is_named(key: str) -> None:
    with pytest.raises(RecordError, match=f"field `{key}` holds 0 values"):
        example.decode(payload_with(key, KINDS[key], []))


@pytest.mark.parametrize("key", KINDS)
def test_a_repeated_field_is_named(key: str) -> None:
    value = b"raw" if KINDS[key] == "bytes_list" else 1
    with pytest.raises(RecordError, match=f"field `{key}` holds 15 values"):
        example.decode(payload_with(key, KINDS[key], [value] * 15))


@pytest.mark.parametrize("key", KINDS)
def test_a_field_of_another_kind_is_named(key: str) -> None:
    kind = "float_list" if KINDS[key] != "float_list" else "int64_list"
    with pytest.raises(RecordError, match=f"field `{key}` holds 0 values of {KINDS[key]}"):
        example.decode(payload_with(key, kind, [1]))


@pytest.mark.parametrize("key", TEXT_FIELDS)
def test_text_that_is_not_utf_8_is_named(key: str) -> None:
    with pytest.raises(RecordError, match=f"field `{key}` holds .*; expected UTF-8 text"):
        example.decode(payload_with(key, "bytes_list", [b"\xff\x8e"]))


@pytest.mark.parametrize("value", [2, -1, 256, 2**62])
def test_a_label_that_is_neither_0_nor_1_is_refused(value: int) -> None:
    payload = payload_with("labels", "int64_list", [0] * 13 + [value])
    with pytest.raises(RecordError, match="expected 0 or 1"):
        example.decode(payload)
    with pytest.raises(RecordError, match="each of 0 or 1"):
        example.locate(payload)


def test_fourteen_bytes_that_are_seven_labels_are_not_located() -> None:
    with pytest.raises(RecordError, match="each of 0 or 1"):
        example.locate(payload_with("labels", "int64_list", [128] * 7))


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(RecordError, match="encoding `bmp`; expected one of raw, png, jpeg"):
        example.decode(example.encode(changed(encoding="bmp")))


@pytest.mark.parametrize("key", ["image", "labels"])
def test_locate_names_what_is_missing(key: str) -> None:
    with pytest.raises(RecordError, match=f"the record has no field '{key}'"):
        example.locate(payload_with(key, KINDS[key], []))


@given(st.binary(max_size=300))
def test_rubbish_raises_nothing_but_a_record_error(payload: bytes) -> None:
    for read in (example.decode, example.locate):
        with pytest.raises(RecordError):
            read(payload)


def test_a_record_cut_off_anywhere_is_refused() -> None:
    serialized = example.encode(RECORD)
    for end in range(len(serialized)):
        for read in (example.decode, example.locate):
            with pytest.raises(RecordError):
                read(serialized[:end])


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 300),
)
def test_a_damaged_record_raises_nothing_but_a_record_error(
    damage: list[tuple[int, int]], cut_bytes: int
) -> None:
    serialized = bytearray(example.encode(RECORD))
    for position, value in damage:
        serialized[position % len(serialized)] = value
    for payload in (bytes(serialized), bytes(serialized[:-cut_bytes])):
        for read in (example.decode, example.locate):
            with contextlib.suppress(RecordError):  # any other error fails the test
                read(payload)


def test_tensorflow_parses_a_record_with_the_documented_spec() -> None:
    import tensorflow as tf

    spec = eval(_documented_spec(), {"tf": tf})
    parsed = tf.io.parse_example([example.encode(RECORD), GOLDEN.read_bytes()], spec)
    assert set(parsed) == {field.name for field in dataclasses.fields(example.Record)}
    for key, value in parsed.items():
        for row in value.numpy():
            expected = getattr(RECORD, key)
            np.testing.assert_array_equal(row.decode() if key in TEXT_FIELDS else row, expected, key)


def test_a_record_serialized_by_tensorflow_is_read_and_located() -> None:
    """Both declarations of Example live in one process: ours and TensorFlow's."""
    import tensorflow as tf

    theirs = tf.train.Example()
    for key, kind in KINDS.items():
        value = getattr(RECORD, key)
        if kind == "bytes_list":
            value = [value if key == "image" else value.encode()]
        getattr(theirs.features.feature[key], kind).value.extend(np.atleast_1d(value))
    serialized = theirs.SerializeToString()
    assert_equal(example.decode(serialized), RECORD)
    layout = example.locate(serialized)
    assert serialized[layout.image_offset :][: layout.image_bytes] == RECORD.image
    assert serialized[layout.labels_offset :][:14] == RECORD.labels.tobytes()
    assert theirs.SerializeToString(deterministic=True) == example.encode(RECORD)


def _documented_spec() -> str:
    text = example.__doc__ or ""
    return text[text.index("{") : text.index("}") + 1].replace("\n    ", "\n")


def around(record: example.Record) -> tuple[bytes, bytes, int]:
    payload = example.encode(record)
    layout = example.locate(payload)
    end = layout.image_offset + layout.image_bytes
    return payload[: layout.image_offset], payload[end:], layout.image_bytes


@given(records())
def test_without_its_picture_a_record_holds_all_the_rest(record: example.Record):
    assert_equal(example.decode_without_picture(*around(record)), dataclasses.replace(record, image=b""))


@pytest.mark.parametrize("size_bytes", [0, 1, 127, 128, 16383, 16384, 102_400, 3_145_728])
def test_a_picture_of_any_size_can_be_left_out(size_bytes: int):
    record = changed(image=bytes(size_bytes), encoding="png")
    assert_equal(example.decode_without_picture(*around(record)), dataclasses.replace(record, image=b""))


def test_bytes_that_surround_no_such_picture_are_refused():
    before, after, image_bytes = around(RECORD)
    wrong = (
        (before[:-1], after, image_bytes),
        (before, after[1:], image_bytes),
        (before, after, image_bytes + 1),
        (b"", after, image_bytes),
        (b"\x0a\xff", b"", image_bytes),
        (b"x" + before[1:], after, image_bytes),
    )
    for parts in wrong:
        with pytest.raises(RecordError):
            example.decode_without_picture(*parts)
