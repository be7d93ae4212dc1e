"""TFRecord framing: length, masked CRC32C of the length, payload, masked CRC32C of the payload.

The format is TensorFlow's (`tensorflow/core/lib/io/record_writer.h`): little-endian, the checksum rotated
right by 15 bits plus a constant, so that a checksum of data that holds checksums stays strong.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

import google_crc32c

from records.errors import ShardError

_MASK_DELTA = 0xA282EAD8
_LENGTH = struct.Struct("<Q")
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
HEADER_BYTES = _HEADER.size
FOOTER_BYTES = _FOOTER.size
_ADVICE = "run the conversion again with --resume"
# No record of ours comes near; a corrupt length must not ask for the machine's memory.
MAX_PAYLOAD_BYTES = 1 << 30


class Frame(NamedTuple):
    """One payload and the byte of the file that it starts at."""

    payload_offset: int
    payload: bytes


def masked_crc32c(data: bytes) -> int:
    """Return the masked CRC32C of `data`, as TFRecord stores it."""
    return _mask(google_crc32c.value(data))


def _mask(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def write(file: IO[bytes], payload: bytes) -> None:
    """Append one framed payload to an open binary file."""
    file.write(frame(payload))


def frame(*parts: bytes) -> bytes:
    """Return one framed payload, which is given in parts and copied once."""
    crc = 0
    for part in parts:
        crc = google_crc32c.extend(crc, part)
    length = _LENGTH.pack(sum(map(len, parts)))
    return b"".join((length, _FOOTER.pack(masked_crc32c(length)), *parts, _FOOTER.pack(_mask(crc))))


def read(file: IO[bytes], name: str) -> Iterator[Frame]:
    """Yield the frames of a shard in order, each checked against both of its checksums.

    Args:
        file: the shard, open for binary reading, at its start.
        name: what to call it in errors.

    Raises:
        ShardError: truncated, or a checksum doesn't match; the line names the record by its number.
    """
    offset = number = 0
    while header := file.read(HEADER_BYTES):
        payload_bytes = _checked_length(header, f"{name}: record {number} at byte {offset}")
        body = file.read(payload_bytes + FOOTER_BYTES)
        where = f"{name}: record {number} at byte {offset}"
        if len(body) < payload_bytes + FOOTER_BYTES:
            raise ShardError(f"{where}: the shard ends inside the record; it is truncated: {_ADVICE}")
        payload = body[:payload_bytes]
        if _FOOTER.unpack_from(body, payload_bytes)[0] != masked_crc32c(payload):
            raise ShardError(f"{where}: the payload's CRC32C doesn't match; the shard is damaged: {_ADVICE}")
        yield Frame(offset + HEADER_BYTES, payload)
        offset += HEADER_BYTES + payload_bytes + FOOTER_BYTES
        number += 1


def _checked_length(header: bytes, where: str) -> int:
    if len(header) < HEADER_BYTES:
        raise ShardError(f"{where}: the shard ends inside a header; it is truncated: {_ADVICE}")
    payload_bytes, length_crc = _HEADER.unpack(header)
    if length_crc != masked_crc32c(header[:8]) or payload_bytes > MAX_PAYLOAD_BYTES:
        raise ShardError(f"{where}: the length's CRC32C doesn't match; the shard is damaged: {_ADVICE}")
    return payload_bytes
