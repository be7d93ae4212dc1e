"""The picture of a record: reduced grey values <-> bytes as raw, PNG or JPEG."""

from __future__ import annotations

import cv2
import numpy as np

from records.errors import RecordError
from records.example import Record

# Of grey pictures OpenCV's own choice, each pixel's difference to its left neighbour in runs: a third
# faster to decode than what libpng chooses, and no larger. Of three channels that would be larger by two
# thirds; there zlib's level 6 is 7 % smaller than 1 and takes twice the time.
_PNG_PARAMETERS = {1: (), 3: (cv2.IMWRITE_PNG_COMPRESSION, 1)}


def encode(grey: np.ndarray, *, channels: int, encoding: str, jpeg_quality: int | None = None) -> bytes:
    """Turn a grey picture into a record's bytes.

    Args:
        grey: (rows, columns) uint8, 0 is black.
        channels: 1, or 3 for R = G = B.
        encoding: one of `example.ENCODINGS`.
        jpeg_quality: 1 to 100; jpeg only.
    """
    image = grey if channels == 1 else np.repeat(grey[..., None], channels, axis=-1)
    if encoding == "raw":
        return image.tobytes()
    if encoding == "png":
        return cv2.imencode(".png", image, _PNG_PARAMETERS[channels])[1].tobytes()
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(jpeg_quality or 0)])[1].tobytes()


def decode(record: Record) -> np.ndarray:
    """Return the picture of a record, whatever its encoding, as (rows, columns, stored channels) uint8.

    Raises:
        RecordError: its bytes can't be decoded, or not to the record's shape.
    """
    if record.encoding == "raw":
        return record.pixels()
    data = np.frombuffer(record.image, np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    except cv2.error:  # such as a picture beyond OpenCV's own limit
        image = None
    if image is None:
        raise RecordError(f"{record.image_id}: its {record.encoding} picture is damaged")
    image = image[..., None] if image.ndim == 2 else image
    if image.shape != record.shape or image.dtype != np.uint8:
        raise RecordError(
            f"{record.image_id}: its {record.encoding} picture is {image.dtype} of {image.shape}; "
            f"expected uint8 of {record.shape}"
        )
    return image
