"""Compressed pictures of records to pixels."""

from __future__ import annotations

import cv2
import numpy as np


def to_pixels(data: np.ndarray, channels: int) -> np.ndarray | None:
    """Decode PNG or JPEG bytes to (rows, columns, channels) uint8; None if they are damaged."""
    if not len(data):
        return None
    try:
        grey = channels == 1
        picture = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    if picture is None:
        return None
    return picture[..., None] if grey else picture[..., ::-1]
