"""One image file -> the checked picture that a record holds, or the reason why it can't be one.

What needs more than the one file (is it in the table, is another one its copy) is decided elsewhere.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
import xxhash

from records import pixels

FINGERPRINT_BYTES = 16
_SHAPE = struct.Struct("<2i")


class CheckedImage(NamedTuple):
    """A picture that passed.

    Attributes:
        grey: (side, side) uint8, 0 is black.
        fingerprint: XXH3-128 of size and pixels before they were reduced: equal for equal pixels, and by
            chance equal for others once in 10^28 sets of this size.
        oddity: what is unusual about the file, empty for the NIH's usual kind.
    """

    grey: np.ndarray
    fingerprint: bytes
    oddity: str


def check(data: bytes, side_px: int) -> CheckedImage:
    """Decode, check and reduce one PNG.

    Args:
        data: the whole file.
        side_px: rows and columns of the result.

    Raises:
        ImageError: not a PNG, damaged, truncated, too large or too small, really coloured, or of one value
            throughout; the message is the reason that quarantine lists.
    """
    header = pixels.read_header(data)
    grey = pixels.decode_grey(data)
    reduced = pixels.reduce_checked(grey, side_px)
    return CheckedImage(reduced, _fingerprint(grey), pixels.oddity(header))


def _fingerprint(grey: np.ndarray) -> bytes:
    digest = xxhash.xxh3_128(_SHAPE.pack(*grey.shape))
    digest.update(np.ascontiguousarray(grey).data)
    return digest.digest()
