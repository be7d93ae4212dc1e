"""Pictures and heat maps as PNG. S = stored side in pixels, C = stored channels."""

from __future__ import annotations

import cv2
import numpy as np


def of_picture(picture: np.ndarray) -> bytes:
    """(S, S, C) uint8, all channels alike -> an 8-bit grey PNG."""
    return _encode(picture[..., 0])


def of_heat_map(heat_map: np.ndarray) -> bytes:
    """(S, S) from 0 to 1 -> an RGBA PNG to lay over the picture: the lower, the more transparent.

    The colours are those of the heat maps' gallery: perceptually uniform, and light where the map is high.
    """
    values = np.rint(255 * np.clip(heat_map, 0, 1)).astype(np.uint8)
    blue_green_red = cv2.applyColorMap(values, cv2.COLORMAP_INFERNO)
    return _encode(np.dstack([blue_green_red, values]))


def _encode(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(pixels))[1].tobytes()
