"""The bytes of one image file -> the picture that a record would hold, whatever kind of file it is.

PNG goes through the conversion's own code; a JPEG is decoded here, DICOM by `dicom`. What comes out is
reduced and checked as the conversion does it. Nothing that an image says of its patient gets into a reason.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image, ImageOps

from engine.prediction import dicom
from engine.prediction.hostile import parsing
from records import picture, pixels
from records.errors import ImageError

# Of the file, not of its pixels: an uncompressed DICOM of the largest picture, and what stands before it.
MAX_FILE_BYTES = pixels.MAX_DECODED_BYTES + (1 << 20)

_PNG, _JPEG = b"\x89PNG", b"\xff\xd8\xff"
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
# A progressive file has about ten. Each goes over all pixels, so thousands of a few bytes would take minutes.
MAX_SCANS = 100
_JPEG_MODES = {"L": 1, "RGB": 3}


def read_picture(data: bytes, side_px: int) -> np.ndarray:
    """Decode, check and reduce one image as the conversion would.

    Args:
        data: a whole PNG, JPEG or DICOM file; its content says which.
        side_px: S, rows and columns of the result.

    Returns:
        (S, S, 1) uint8, 0 is black.

    Raises:
        ImageError: none of the three, damaged, too large or too small, really coloured, or of one value
            throughout. One line, without anything that the file says of its patient.
    """
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"{len(data):,} bytes; expected an image of at most {MAX_FILE_BYTES:,}")
    return pixels.reduce_checked(_decode(data), side_px)[..., None]


def as_stored(image: np.ndarray, channels: int, jpeg_quality: int | None) -> np.ndarray:
    """Give a picture what it would have gone through in a data set's shards.

    Args:
        image: (S, S, 1) uint8.
        channels: C, stored ones, 1 or 3.
        jpeg_quality: of a data set that stores JPEG; None: it keeps every pixel.

    Returns:
        (S, S, C) uint8.
    """
    if jpeg_quality is None:
        return np.repeat(image, channels, axis=2)
    data = picture.encode(image[..., 0], channels=channels, encoding="jpeg", jpeg_quality=jpeg_quality)
    # With three channels as with one, red, green and blue are alike: their order doesn't matter.
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).reshape(
        *image.shape[:2], channels
    )


def _decode(data: bytes) -> np.ndarray:
    if data.startswith(_PNG):
        return pixels.decode_grey(data)
    if data.startswith(_JPEG):
        return _decode_jpeg(data)
    if dicom.is_dicom(data):
        return dicom.decode_grey(data)
    raise ImageError("neither PNG, JPEG nor DICOM" if data else "the file is empty")


def _decode_jpeg(data: bytes) -> np.ndarray:
    """Decode a grey JPEG, or a coloured one with R = G = B, turned as its EXIF orientation says."""
    # libjpeg makes up what a cut-off file lacks. No marker stands within the coded pixels.
    if data.rfind(_END) < data.rfind(_SCAN):
        raise ImageError("damaged JPEG: unexpected end of file")
    if (scans := data.count(_SCAN)) > MAX_SCANS:
        raise ImageError(f"a JPEG of {scans:,} scans; expected at most {MAX_SCANS}")
    with parsing("JPEG"):
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
        width, height, mode = *image.size, image.mode
    if mode not in _JPEG_MODES:
        raise ImageError("a JPEG that is neither grey nor RGB; expected grey, or R = G = B in every pixel")
    if not 0 < width * height * _JPEG_MODES[mode] <= pixels.MAX_DECODED_BYTES:
        raise ImageError(
            f"{width} x {height} pixels of {_JPEG_MODES[mode]} bytes; expected 1 to "
            f"{pixels.MAX_DECODED_BYTES:,} bytes in all"
        )
    with parsing("JPEG"):
        values = np.asarray(ImageOps.exif_transpose(image))
    if mode == "L":
        return values
    first, second, third = cv2.split(values)
    if not (np.array_equal(first, second) and np.array_equal(first, third)):
        raise ImageError("a colour image; expected grey, or R = G = B in every pixel")
    return first
