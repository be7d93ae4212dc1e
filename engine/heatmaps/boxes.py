"""Drawn boxes in a stored picture, the region that a heat map predicts, and how well the two agree.

A box is x, y, width and height in pixels; pixel i covers i to i + 1. K = boxes of one finding in one picture,
L = `LEVELS`. NumPy and SciPy only; where a picture lies and what its boxes are is `boxed_images`'.

The region at a level is the smallest upright box around that connected part of the map, at or above a share
of its maximum, which holds the maximum. A box, because boxes were drawn: Wang et al. 2017, "ChestX-ray8",
https://arxiv.org/abs/1705.02315, section 4, compare likewise. The part with the maximum keeps IoU and the
pointing game about one place; Zhou et al. 2016, https://arxiv.org/abs/1512.04150, take the largest part. No
level is chosen on the boxes: `LEVEL` is half of the maximum, and the others are reported beside it; Zhou's is
0.2, Wang's two are 0.24 and 0.71.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
from scipy import ndimage

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
LEVEL = 0.5
# T(IoU) of Wang et al. 2017.
IOU_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

# Of the maximum: what arithmetic in float32 rounds away, less than from one pixel to the next.
_EQUAL = 1e-6


class Found(NamedTuple):
    """What one heat map says of one finding in one picture; zeros and NaN where the map is all 0.

    Attributes:
        has_map: whether any place is above 0.
        peak: x and y of the maximum, the centre of its pixel.
        regions: (L, 4) float64, predicted at each level.
        ious: (L, K) float64 of each region with each box.
        hit: whether the maximum lies in any of the boxes.
    """

    has_map: bool
    peak: tuple[float, float]
    regions: np.ndarray
    ious: np.ndarray
    hit: bool

    @property
    def iou(self) -> float:
        """With the box that fits best, at `LEVEL`."""
        return float(self.ious[LEVELS.index(LEVEL)].max())


def to_stored(boxes: np.ndarray, width_px: int, height_px: int, side_px: int) -> np.ndarray:
    """Move boxes from a picture to its stored square, as `records.pixels.resize` moves the pixels.

    Args:
        boxes: (K, 4), in pixels of the picture.
        width_px: of the picture; one that isn't square lies between black bars.
        height_px: of the picture.
        side_px: of the square.

    Returns:
        (K, 4) float64, cut off at the picture's edges; 0 wide or high if outside.
    """
    longer = max(width_px, height_px)
    rows, columns = ((2 * side * side_px + longer) // (2 * longer) for side in (height_px, width_px))
    corner = np.array([(side_px - columns) // 2, (side_px - rows) // 2], np.float64)
    scale = np.array([columns / width_px, rows / height_px])
    boxes = np.asarray(boxes, np.float64)
    size = np.array([width_px, height_px])
    low = np.clip(boxes[:, :2], 0, size)
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, size)
    return np.concatenate([corner + low * scale, (high - low) * scale], axis=1)


def find(heat_map: np.ndarray, boxes: np.ndarray) -> Found:
    """Hold a heat map against the boxes of one finding.

    Args:
        heat_map: (S, S) finite, at least 0.
        boxes: (K, 4) in stored pixels.
    """
    if not (heat_map > 0).any():
        nowhere = np.full((len(LEVELS), 4), np.nan)
        return Found(False, (np.nan, np.nan), nowhere, np.zeros((len(LEVELS), len(boxes))), False)
    row, column = peak(heat_map)
    regions = np.array([region(heat_map, level, (row, column)) for level in LEVELS])
    ious = np.array([iou(found, boxes) for found in regions])
    x, y = column + 0.5, row + 0.5
    return Found(True, (x, y), regions, ious, bool(contain(boxes, x, y).any()))


def peak(heat_map: np.ndarray) -> tuple[int, int]:
    """Return row and column of the maximum; of equal ones, one by lot.

    Even ground gives equal ones, and so does an ensemble whose members point to places where the others see
    nothing. The first or the innermost one would favour findings that lie there. The lot is drawn from their
    places, so that the same map always gives the same one.
    """
    equal = np.flatnonzero(heat_map.ravel() >= heat_map.max() * (1 - _EQUAL))
    lot = zlib.crc32(equal.astype("<i8").tobytes()) % len(equal)
    row, column = np.unravel_index(equal[lot], heat_map.shape)
    return int(row), int(column)


def region(heat_map: np.ndarray, level: float, place: tuple[int, int]) -> np.ndarray:
    """Return the (4,) smallest box of what holds together with `place` at a share of the maximum."""
    parts, _ = ndimage.label(heat_map >= level * heat_map[place])
    rows, columns = np.nonzero(parts == parts[place])
    left, top = columns.min(), rows.min()
    return np.array([left, top, columns.max() + 1 - left, rows.max() + 1 - top], np.float64)


def iou(one: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the (K,) intersections over unions of a (4,) box with (K, 4) boxes; 0 where both are empty."""
    low = np.maximum(one[:2], boxes[:, :2])
    high = np.minimum(one[:2] + one[2:], boxes[:, :2] + boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    union = one[2:].prod() + boxes[:, 2:].prod(axis=1) - shared
    return np.divide(shared, union, out=np.zeros(len(boxes)), where=union > 0)


def contain(boxes: np.ndarray, x: float, y: float) -> np.ndarray:
    """Say of (K, 4) boxes which hold a point: the pointing game of Zhang et al. 2016, without its margin.

    Source: "Top-down Neural Attention by Excitation Backprop", https://arxiv.org/abs/1608.00507.
    """
    offset = np.array([x, y]) - boxes[:, :2]
    return ((offset >= 0) & (offset < boxes[:, 2:])).all(axis=1)


def covered_share(boxes: np.ndarray, side_px: int) -> float:
    """Return the share of a square picture that lies in any of (K, 4) boxes: what pointing blindly hits."""
    edges = [np.unique(np.concatenate([boxes[:, a], boxes[:, a] + boxes[:, a + 2]])) for a in (0, 1)]
    centres = [(axis[1:] + axis[:-1]) / 2 for axis in edges]
    # Between neighbouring edges all points lie in the same boxes.
    held = [
        (boxes[:, a, None] <= centres[a]) & (centres[a] < boxes[:, a, None] + boxes[:, a + 2, None])
        for a in (0, 1)
    ]
    areas = np.outer(np.diff(edges[1]), np.diff(edges[0]))
    covered = np.einsum("ky,kx->yx", held[1].astype(int), held[0].astype(int)) > 0
    return float(areas[covered].sum() / side_px**2)
