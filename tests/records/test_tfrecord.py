from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records import tfrecord
from records.errors import ShardError

PAYLOADS = [b"the first record", b"and the second"]


def shard(payloads: list[bytes]) -> bytes:
    buffer = io.BytesIO()
    for payload in payloads:
        tfrecord.write(buffer, payload)
    return buffer.getvalue()


def read(data: bytes) -> list[tfrecord.Frame]:
    return list(tfrecord.read(io.BytesIO(data), "shard"))


def frame_bytes(payload: bytes) -> int:
    return tfrecord.HEADER_BYTES + len(payload) + tfrecord.FOOTER_BYTES


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_whatever_is_written_is_read_back_with_its_offsets(payloads: list[bytes]) -> None:
    data = shard(payloads)
    frames = read(data)
    assert [frame.payload for frame in frames] == payloads
    for frame in frames:
        assert data[frame.payload_offset :][: len(frame.payload)] == frame.payload


def test_an_empty_file_has_no_records() -> None:
    assert read(b"") == []


def test_the_masked_checksum_is_the_published_one() -> None:
    # CRC32C of "123456789" is 0xE3069283 (RFC 3720); rotated right by 15 bits, plus 0xA282EAD8.
    assert tfrecord.masked_crc32c(b"123456789") == (0x2507C60D + 0xA282EAD8) & 0xFFFFFFFF


def test_records_before_the_damage_are_still_read() -> None:
    frames = tfrecord.read(io.BytesIO(shard(PAYLOADS)[:-1]), "shard")
    assert next(frames).payload == PAYLOADS[0]
    with pytest.raises(ShardError, match=r"^shard: record 1 at byte 32: the shard ends inside the record"):
        next(frames)


def test_every_single_flipped_byte_is_detected_and_its_record_named() -> None:
    data = shard(PAYLOADS)
    for position in range(len(data)):
        for mask in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= mask
            number = int(position >= frame_bytes(PAYLOADS[0]))
            offset = number * frame_bytes(PAYLOADS[0])
            with pytest.raises(ShardError, match=f"^shard: record {number} at byte {offset}: .*CRC32C"):
                read(bytes(damaged))


def test_every_truncation_is_detected_except_between_records() -> None:
    data = shard(PAYLOADS)
    first = frame_bytes(PAYLOADS[0])
    for end in range(len(data)):
        if end in (0, first):
            assert len(read(data[:end])) == end // first
            continue
        where = re.escape(f"shard: record {int(end > first)} at byte {first * (end > first)}: ")
        with pytest.raises(ShardError, match=where + "the shard ends inside .*truncated"):
            read(data[:end])


def test_bytes_behind_the_last_record_are_detected() -> None:
    with pytest.raises(ShardError, match="record 2 at byte 62"):
        read(shard(PAYLOADS) + b"\0")
    with pytest.raises(ShardError, match="record 2 at byte 62"):
        read(shard(PAYLOADS) + bytes(100))


def test_a_length_beyond_reason_is_refused_though_its_checksum_is_right() -> None:
    length = struct.pack("<Q", tfrecord.MAX_PAYLOAD_BYTES + 1)
    header = length + struct.pack("<I", tfrecord.masked_crc32c(length))
    with pytest.raises(ShardError, match="record 0 at byte 0"):
        read(header + bytes(100))


def test_tensorflow_reads_what_is_written(tmp_path: Path) -> None:
    import tensorflow as tf

    payloads = [*PAYLOADS, b"", bytes(range(256)) * 300]
    path = tmp_path / "ours.tfrecord"
    path.write_bytes(shard(payloads))
    assert list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) == payloads


def test_what_tensorflow_writes_is_read_and_equal_to_the_byte(tmp_path: Path) -> None:
    import tensorflow as tf

    payloads = [*PAYLOADS, b"", bytes(range(256)) * 300]
    path = tmp_path / "theirs.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)
    assert [frame.payload for frame in read(path.read_bytes())] == payloads
    assert path.read_bytes() == shard(payloads)
