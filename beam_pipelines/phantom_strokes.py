"""Strokes and masks: the shapes that a phantom X-ray is drawn from.

Responsible for the size of the canvas, for filled shapes, lines and smooth noise on it, and for the box
around a mask. Knows nothing of anatomy: what a shape stands for is left to `phantom_chest` and
`phantom_signs`.

Lines go to a uint8 canvas, 255 is full; `soften` turns it into a mask, (512, 512) float32 in [0, 1].
"""

from __future__ import annotations

import cv2
import numpy as np

SIDE_PX = 512
GRID_Y, GRID_X = np.mgrid[0:SIDE_PX, 0:SIDE_PX].astype(np.float32)

# (x, y, width, height) in pixels; of the canvas in here, of the picture in what `phantom.render` returns.
Box = tuple[float, float, float, float]


def blank_canvas() -> np.ndarray:
    """(512, 512) uint8 zeros, to draw lines into."""
    return np.zeros((SIDE_PX, SIDE_PX), np.uint8)


def ellipse(x: float, y: float, wide: float, high: float, *, angle: float = 0.0, soft: float) -> np.ndarray:
    """A filled ellipse, (512, 512) float32 in [0, 1]; `soft` is the border as a share of the radius."""
    turn = np.deg2rad(angle)
    dx, dy = GRID_X - np.float32(x), GRID_Y - np.float32(y)
    along = (dx * np.float32(np.cos(turn)) + dy * np.float32(np.sin(turn))) / np.float32(wide)
    across = (dy * np.float32(np.cos(turn)) - dx * np.float32(np.sin(turn))) / np.float32(high)
    ramp = np.clip((1 + soft / 2 - np.sqrt(along**2 + across**2)) / np.float32(soft), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def polygon(outline: np.ndarray, soft: float) -> np.ndarray:
    """A filled polygon with a border of `soft` pixels, (512, 512) float32 in [0, 1]."""
    canvas = blank_canvas()
    cv2.fillPoly(canvas, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return soften(canvas, soft)


def blob(
    rng: np.random.Generator, centre: np.ndarray, radius: float, *, rough: float, soft: float
) -> np.ndarray:
    """A disc with an uneven border; `rough` is its deviation as a share of the radius."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    waves = [rng.normal(0, rough) * np.cos(k * angle + rng.uniform(0, 6)) for k in (2, 3, 5)]
    reach = radius * (1 + np.sum(waves, axis=0))[:, None]
    return polygon(centre + reach * np.stack([np.cos(angle), np.sin(angle)], -1), soft)


def draw_line(canvas: np.ndarray, path: np.ndarray, width: int, value: int) -> None:
    """Draw an open line through the (N, 2) points of a path, in place."""
    cv2.polylines(canvas, [np.round(path * 16).astype(np.int32)], False, value, width, cv2.LINE_AA, 4)


def soften(canvas: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a uint8 canvas and scale it to float32 in [0, 1]."""
    return cv2.GaussianBlur(canvas, (0, 0), sigma).astype(np.float32) * np.float32(1 / 255)


def cloud(rng: np.random.Generator, grain_px: int) -> np.ndarray:
    """Smooth noise with mean 0 and about deviation 1, (512, 512) float32."""
    cells = SIDE_PX // grain_px + 2
    return cv2.resize(
        rng.standard_normal((cells, cells), np.float32), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC
    )


def bounding_box(mask: np.ndarray) -> Box:
    """The smallest upright box that holds all of a mask above 0.3; zeros where there is none."""
    x, y, width, height = cv2.boundingRect((mask > 0.3).astype(np.uint8))
    return float(x), float(y), float(width), float(height)
