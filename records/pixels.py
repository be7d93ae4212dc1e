"""Image bytes -> checked grey image -> square of the stored side: one code for conversion and for prediction.

8-bit grey PNGs, all but a few of the NIH's, are decoded by kornia-rs, 2 to 2.5 times as fast as libpng; any
other kind of PNG goes through OpenCV. Both give the same pixels. Sides are reduced by OpenCV's INTER_AREA;
what isn't square gets black bars.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import cv2
import kornia_rs.io
import numpy as np

from records.errors import ImageError

RESIZE_KERNEL = "area"
# A grey picture of eight times the side of any NIH original; more is refused before memory is taken for it.
MAX_DECODED_BYTES = 8192 * 8192

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB`\x82"
_GREY = 0
_COLOUR_TYPES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGBA"}
# As OpenCV decodes them.
_CHANNELS = {0: 1, 2: 3, 3: 4, 4: 4, 6: 4}
# The NIH's side; another one is worth a note.
USUAL_SIDE_PX = 1024
# Of the longer side to the shorter: a strip is no chest.
MAX_ASPECT = 2.0


class PngHeader(NamedTuple):
    """What the IHDR chunk says."""

    width_px: int
    height_px: int
    bit_depth: int
    colour_type: int
    interlaced: bool

    @property
    def pixel_bytes(self) -> int:
        """Bytes that a decoded pixel takes."""
        return _CHANNELS.get(self.colour_type, 4) * (2 if self.bit_depth == 16 else 1)


def read_header(data: bytes) -> PngHeader:
    """Read a PNG's header without decoding it.

    Raises:
        ImageError: the bytes are no PNG.
    """
    if not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR" or len(data) < 33:
        if data.startswith(_SIGNATURE):
            raise ImageError("damaged PNG: it doesn't begin with an IHDR chunk")
        raise ImageError(
            f"not a PNG: it starts with {data[:8]!r}" if data else "not a PNG: the file is empty"
        )
    width, height, bit_depth, colour_type, _, _, interlace = struct.unpack(">IIBBBBB", data[16:29])
    return PngHeader(width, height, bit_depth, colour_type, bool(interlace))


def decode_grey(data: bytes) -> np.ndarray:
    """Decode a PNG to its grey values.

    Args:
        data: a whole PNG file: grey, or colour with R = G = B, with or without alpha; 16-bit values are
            rounded to 8.

    Returns:
        (height, width) uint8, 0 is black.

    Raises:
        ImageError: not a PNG, damaged, truncated, too large, or really coloured.
    """
    header = read_header(data)
    decoded_bytes = header.width_px * header.height_px * header.pixel_bytes
    if not 0 < decoded_bytes <= MAX_DECODED_BYTES:
        raise ImageError(
            f"{header.width_px} x {header.height_px} pixels of {header.pixel_bytes} bytes; expected 1 to "
            f"{MAX_DECODED_BYTES:,} bytes in all"
        )
    if header.bit_depth == 8 and header.colour_type == _GREY and not header.interlaced:
        return _decode_common(data, header)
    return _decode_other(data)


def oddity(header: PngHeader) -> str:
    """Say in what a PNG differs from the NIH's usual ones (1024 x 1024, 8-bit grey), or nothing.

    Returns:
        Such as `8-bit RGBA` or `512 x 400 pixels, 16-bit grey, interlaced`.
    """
    kind = f"{header.bit_depth}-bit {_COLOUR_TYPES.get(header.colour_type, 'of unknown colour type')}"
    size = f"{header.width_px} x {header.height_px} pixels"
    usual_side = header.width_px == header.height_px == USUAL_SIDE_PX
    parts = [size] * (not usual_side) + [kind] * (kind != "8-bit grey") + ["interlaced"] * header.interlaced
    return ", ".join(parts)


def resize(grey: np.ndarray, side_px: int) -> np.ndarray:
    """Reduce a grey image to a square of `side_px` by area; one that isn't square gets equal black bars.

    Args:
        grey: (height, width) uint8; the longer side has at least `side_px`.
        side_px: rows and columns of the result.

    Returns:
        (side_px, side_px) uint8.

    Raises:
        ImageError: the image is smaller, or longer than twice its width.
    """
    height, width = grey.shape
    longer, shorter = max(height, width), min(height, width)
    if longer < side_px:
        raise ImageError(
            f"{width} x {height} pixels; expected at least {side_px} on a side: enlarging would invent pixels"
        )
    if longer > MAX_ASPECT * shorter:
        raise ImageError(f"{width} x {height} pixels; expected sides of at most {MAX_ASPECT:g} to 1")
    if height == width:
        return _reduce(grey, side_px, side_px)
    # Rounded half up, in integers: the same on every machine.
    rows, columns = ((2 * side * side_px + longer) // (2 * longer) for side in (height, width))
    square = np.zeros((side_px, side_px), np.uint8)
    top, left = (side_px - rows) // 2, (side_px - columns) // 2
    square[top : top + rows, left : left + columns] = _reduce(grey, rows, columns)
    return square


def reduce_checked(grey: np.ndarray, side_px: int) -> np.ndarray:
    """Reduce as `resize` does, and refuse what is no picture: one value throughout.

    Args:
        grey: (height, width) uint8.
        side_px: rows and columns of the result.

    Returns:
        (side_px, side_px) uint8.

    Raises:
        ImageError: too small, too narrow, or of one value throughout.
    """
    reduced = resize(grey, side_px)
    if _is_constant(grey):
        raise ImageError(f"every pixel is {grey[0, 0]}; expected a picture")
    return reduced


def _is_constant(grey: np.ndarray) -> bool:
    middle = grey[len(grey) // 2].tobytes()
    if middle.count(middle[:1]) < len(middle):  # so in nearly every picture; bytes are looked at the fastest
        return False
    return bool(grey.min() == grey.max())


def _reduce(grey: np.ndarray, rows: int, columns: int) -> np.ndarray:
    if grey.shape == (rows, columns):
        return grey
    return cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA)


def _decode_common(data: bytes, header: PngHeader) -> np.ndarray:
    # kornia-rs stops at the last pixel; what lost or damaged its end is not the file that was sent.
    if data.rfind(_END) < 0:
        raise ImageError("damaged PNG: unexpected end of file")
    try:
        image = kornia_rs.io.decode_image_png_u8(data, (header.height_px, header.width_px), "mono")
    except Exception as error:  # kornia-rs raises plain Exception
        reason = " ".join(str(error).split()).removeprefix("Failed to decode the png image. ")
        raise ImageError(f"damaged PNG: {reason}") from error
    return np.asarray(image)[..., 0]


def _decode_other(data: bytes) -> np.ndarray:
    # libpng hands out what it has of a truncated file, so completeness is checked before.
    _check_chunks(data)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ImageError("damaged PNG: OpenCV can't decode it")
    if image.ndim == 3:
        # Planes of their own are compared ten times as fast as interleaved values.
        first, *others = cv2.split(image)[:3]
        if not all(np.array_equal(first, other) for other in others):
            raise ImageError("a colour image; expected grey, or R = G = B in every pixel")
        image = first
    if image.dtype == np.uint16:
        return np.ascontiguousarray(((image.astype(np.uint32) + 128) // 257).astype(np.uint8))
    return np.ascontiguousarray(image)


def _check_chunks(data: bytes) -> None:
    """Walk the chunks of a PNG to IEND and check each one's CRC."""
    position = len(_SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        if zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ImageError(f"damaged PNG: CRC error in chunk {kind!r}")
        if kind == b"IEND":
            return
        position = end
    raise ImageError("damaged PNG: unexpected end of file")
