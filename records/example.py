"""One record: an image with its labels and circumstances, as a serialized `tf.train.Example`.

Schema version 1. TensorFlow is not needed to write or read it: the three message types are declared here
from their published field numbers (`tensorflow/core/example/feature.proto`), in a pool of their own, so that
they live beside TensorFlow's in one process. A reader without this project uses:

    {"image": tf.io.FixedLenFeature([], tf.string),         # the picture in `encoding`
     "encoding": tf.io.FixedLenFeature([], tf.string),      # raw | png | jpeg
     "shape": tf.io.FixedLenFeature([3], tf.int64),         # rows, columns, stored channels
     "image_id": tf.io.FixedLenFeature([], tf.string),      # 00000001_000.png
     "patient_id": tf.io.FixedLenFeature([], tf.int64),
     "labels": tf.io.FixedLenFeature([14], tf.int64),       # in `labels.FINDINGS` order
     "view": tf.io.FixedLenFeature([], tf.string),          # PA | AP
     "sex": tf.io.FixedLenFeature([], tf.string),           # M | F
     "age_years": tf.io.FixedLenFeature([], tf.float32),    # NaN where the table's is impossible
     "follow_up": tf.io.FixedLenFeature([], tf.int64)}
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from records.errors import RecordError
from records.labels import FINDINGS

SCHEMA_VERSION = 1
ENCODINGS = ("raw", "png", "jpeg")
# What stands before the labels in their entry: its length, its key, the lengths of feature, list and values.
_LABELS_HEADER = b"\x0a\x1c\x0a\x06labels\x12\x12\x1a\x10\x0a\x0e"


@dataclass(frozen=True)
class Record:
    """What one record holds.

    Attributes:
        image: the picture's bytes in `encoding`; raw is row-major uint8 of `shape`.
        encoding: one of `ENCODINGS`.
        shape: rows, columns, stored channels.
        image_id: the file name in the label table.
        patient_id: the NIH's number of the patient.
        labels: (14,) uint8 in `labels.FINDINGS` order.
        view: PA or AP.
        sex: M or F.
        age_years: NaN where the table's age is impossible.
        follow_up: number of the follow-up visit, 0 for the first.
    """

    image: bytes
    encoding: str
    shape: tuple[int, int, int]
    image_id: str
    patient_id: int
    labels: np.ndarray
    view: str
    sex: str
    age_years: float
    follow_up: int

    def pixels(self) -> np.ndarray:
        """Return the picture of a raw record as (rows, columns, stored channels) uint8, 0 is black.

        Raises:
            RecordError: the record isn't raw, or its bytes don't fill its shape.
        """
        if self.encoding != "raw":
            raise RecordError(f"{self.image_id}: encoded as `{self.encoding}`; expected `raw`")
        if min(self.shape) < 1 or len(self.image) != math.prod(self.shape):
            raise RecordError(f"{self.image_id}: {len(self.image)} bytes don't fill the shape {self.shape}")
        return np.frombuffer(self.image, np.uint8).reshape(self.shape)


class Layout(NamedTuple):
    """Where the picture and the labels lie inside a serialized record, in bytes from its start.

    The labels are packed varints of 0 or 1, so each of the 14 bytes is one label.
    """

    image_offset: int
    image_bytes: int
    labels_offset: int


class Wrapping(NamedTuple):
    """A serialized record without its picture.

    Attributes:
        before: from the record's start to the picture's first byte.
        after: from behind the picture's last byte to the record's end.
        layout: of the whole record.
    """

    before: bytes
    after: bytes
    layout: Layout


def encode(record: Record) -> bytes:
    """Serialize a record; equal records give equal bytes (map keys are sorted)."""
    wrapping = wrap(record)
    return b"".join((wrapping.before, record.image, wrapping.after))


def wrap(record: Record) -> Wrapping:
    """Serialize what stands around a record's picture, and tell where picture and labels come to lie.

    Raises:
        RecordError: the labels are not 14 of 0 or 1.
    """
    _check_labels(record.labels.tobytes())
    # In the order of the keys as protobuf sorts them, which puts `image` behind `image_id`.
    entries = (
        _serialize_entry("age_years", "float_list", record.age_years)
        + _entry("encoding", "bytes_list", record.encoding.encode())
        + _entry("follow_up", "int64_list", record.follow_up)
        + _serialize_entry("image_id", "bytes_list", record.image_id.encode())
        + _picture_header(len(record.image))
    )
    after = (
        _entry("labels", "int64_list", *record.labels.tolist())
        + _serialize_entry("patient_id", "int64_list", record.patient_id)
        + _entry("sex", "bytes_list", record.sex.encode())
        + _entry("shape", "int64_list", *record.shape)
        + _entry("view", "bytes_list", record.view.encode())
    )
    image_bytes = len(record.image)
    before = b"\x0a" + _to_varint(len(entries) + image_bytes + len(after)) + entries
    labels_offset = len(before) + image_bytes + len(_LABELS_HEADER)
    return Wrapping(before, after, Layout(len(before), image_bytes, labels_offset))


def _serialize_entry(key: str, kind: str, *values: float | bytes) -> bytes:
    """Serialize one entry of the map of features."""
    features = _Features()
    getattr(features.feature[key], kind).value.extend(values)
    return bytes(features.SerializeToString(deterministic=True))


# For values that come again and again. Not for floats: 0.0 equals -0.0, and has other bytes.
_entry = functools.lru_cache(maxsize=4096)(_serialize_entry)


def decode(serialized: bytes) -> Record:
    """Parse a serialized record.

    Raises:
        RecordError: not an Example, or a field is missing, repeated, of another kind or out of range.
    """
    example = _Example()
    try:
        example.ParseFromString(serialized)
    except DecodeError as error:
        raise RecordError(f"the payload of {len(serialized)} bytes is no tf.train.Example") from error
    fields = example.features.feature
    text = {key: _text(fields, key) for key in ("encoding", "image_id", "view", "sex")}
    if text["encoding"] not in ENCODINGS:
        raise RecordError(
            f"{text['image_id']}: encoding `{text['encoding']}`; expected one of {', '.join(ENCODINGS)}"
        )
    rows, columns, channels = _values(fields, "shape", "int64_list", 3)
    labels = _values(fields, "labels", "int64_list", len(FINDINGS))
    if not {0, 1}.issuperset(labels):
        raise RecordError(f"{text['image_id']}: labels {list(labels)}; expected 0 or 1")
    return Record(
        image=_single(fields, "image", "bytes_list"),
        shape=(rows, columns, channels),
        patient_id=_single(fields, "patient_id", "int64_list"),
        labels=np.array(labels, np.uint8),
        age_years=_single(fields, "age_years", "float_list"),
        follow_up=_single(fields, "follow_up", "int64_list"),
        **text,
    )


def decode_without_picture(before: bytes, after: bytes, image_bytes: int) -> Record:
    """Parse a record from the bytes around its picture, so that the picture need not be read.

    Args:
        before: from the record's start to the picture's first byte.
        after: from behind the picture's last byte to the record's end.
        image_bytes: the picture's size.

    Returns:
        The record with an empty `image`.

    Raises:
        RecordError: these bytes don't surround a picture of that size, and as in `decode`.
    """
    header = _picture_header(image_bytes)
    try:
        size, start = _varint(before, 1)
    except IndexError as error:
        raise RecordError("the record's wire format is not that of a tf.train.Example") from error
    found = (before[:1], size, before[-len(header) :])
    if found != (b"\x0a", len(before) - start + image_bytes + len(after), header):
        raise RecordError(f"the bytes before and after it surround no picture of {image_bytes} bytes")
    entries = before[start : -len(header)] + _picture_header(0) + after
    return decode(b"\x0a" + _to_varint(len(entries)) + entries)


def locate(serialized: bytes) -> Layout:
    """Find where the picture and the labels lie, by walking the wire format once.

    Raises:
        RecordError: a field is missing or the labels are not 14 single bytes.
    """
    try:
        spans = dict(_feature_spans(serialized))
        image_start, image_end = spans["image"]
        labels_start, labels_end = spans["labels"]
    except KeyError as error:
        raise RecordError(f"the record has no field {error}") from error
    except (IndexError, ValueError) as error:
        raise RecordError("the record's wire format is not that of a tf.train.Example") from error
    _check_labels(serialized[labels_start:labels_end])
    return Layout(image_start, image_end - image_start, labels_start)


def _check_labels(labels: bytes) -> None:
    if len(labels) != len(FINDINGS) or max(labels) > 1:
        raise RecordError(f"the labels are {len(labels)} bytes; expected {len(FINDINGS)}, each of 0 or 1")


def _feature_spans(serialized: bytes) -> list[tuple[str, tuple[int, int]]]:
    """Return (key, span of the innermost value) for each feature of an Example.

    Every level holds one length-delimited field: Example.features = 1, Features.feature = 1 (map entries with
    key = 1 and value = 2), Feature.*_list = 1, 2 or 3, and the list's value = 1.
    """
    start, end = 0, len(serialized)
    features = _fields(serialized, start, end)[1]
    spans = []
    for _, (start, end) in _repeated(serialized, *features):
        entry = _fields(serialized, start, end)
        key = serialized[slice(*entry[1])].decode()
        ((_, list_span),) = _repeated(serialized, *entry[2])
        values = _repeated(serialized, *list_span)
        if len(values) == 1:
            spans.append((key, values[0][1]))
    return spans


def _fields(data: bytes, start: int, end: int) -> dict[int, tuple[int, int]]:
    return dict(_repeated(data, start, end))


def _repeated(data: bytes, start: int, end: int) -> list[tuple[int, tuple[int, int]]]:
    """Return (field number, span of its bytes) for a message of length-delimited fields."""
    found = []
    while start < end:
        tag, start = _varint(data, start)
        size, start = _varint(data, start)
        if tag & 7 != 2 or start + size > end:
            raise RecordError("the record's wire format is not that of a tf.train.Example")
        found.append((tag >> 3, (start, start + size)))
        start += size
    return found


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:  # more would be no varint, and its bytes without end a number without end
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
    raise RecordError("the record's wire format is not that of a tf.train.Example")


@functools.lru_cache(maxsize=1024)
def _picture_header(image_bytes: int) -> bytes:
    """Return what stands between the entries before a picture and its first byte."""
    header = b""
    # From within: the list's value, the feature's bytes_list, the entry's key and value, the entry.
    for tags in (b"\x0a", b"\x0a", b"\x0a\x05image\x12", b"\x0a"):
        header = tags + _to_varint(len(header) + image_bytes) + header
    return header


def _to_varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def _single(fields: Any, key: str, kind: str) -> Any:
    return _values(fields, key, kind, 1)[0]


def _text(fields: Any, key: str) -> str:
    value = _single(fields, key, "bytes_list")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise RecordError(f"field `{key}` holds {value[:32]!r}; expected UTF-8 text") from error


def _values(fields: Any, key: str, kind: str, count: int) -> Any:
    # Asking a protobuf map for a key would create it.
    values = getattr(fields[key], kind).value if key in fields else ()
    if len(values) != count:
        raise RecordError(f"field `{key}` holds {len(values)} values of {kind}; expected {count}")
    return values


def _declare_messages() -> Any:
    """Declare Example, Features and Feature in a pool of their own and return the Example class."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="cxr_example.proto", package="cxr", syntax="proto3")

    def message(name: str, fields: list[tuple[str, int, int, int, str]]) -> Any:
        declared = file.message_type.add(name=name)
        for field_name, number, label, kind, type_name in fields:
            declared.field.add(
                name=field_name, number=number, label=label, type=kind, type_name=type_name or None
            )
        return declared

    one, many, nested = field.LABEL_OPTIONAL, field.LABEL_REPEATED, field.TYPE_MESSAGE
    message("BytesList", [("value", 1, many, field.TYPE_BYTES, "")])
    message("FloatList", [("value", 1, many, field.TYPE_FLOAT, "")])
    message("Int64List", [("value", 1, many, field.TYPE_INT64, "")])
    feature = message(
        "Feature",
        [
            ("bytes_list", 1, one, nested, ".cxr.BytesList"),
            ("float_list", 2, one, nested, ".cxr.FloatList"),
            ("int64_list", 3, one, nested, ".cxr.Int64List"),
        ],
    )
    feature.oneof_decl.add(name="kind")
    for member in feature.field:
        member.oneof_index = 0
    features = message("Features", [("feature", 1, many, nested, ".cxr.Features.FeatureEntry")])
    entry = features.nested_type.add(name="FeatureEntry")
    entry.field.add(name="key", number=1, label=one, type=field.TYPE_STRING)
    entry.field.add(name="value", number=2, label=one, type=nested, type_name=".cxr.Feature")
    entry.options.map_entry = True
    message("Example", [("features", 1, one, nested, ".cxr.Features")])
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("cxr.Example"))


_Example: Any = _declare_messages()
_Features: Any = type(_Example().features)
