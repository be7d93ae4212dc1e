"""The chest of a phantom X-ray: its shape, and the drawing of a healthy one in that shape.

Responsible for what a patient keeps from picture to picture, for what two visits change, and for the
coordinates that signs use. What a finding does to shape and picture is left to `phantom_signs`; shades of
grey are left to `phantom`.

A picture is a map of thickness T, (512, 512) float32: bone, blood and fluid add to it, air takes away.
A place in a lung has the coordinates (side, u, v): side 0 is the left one of the picture, u runs from the
mediastinum (0) to the chest wall (1), v from the apex (0) to the diaphragm (1), so that ribs, vessels and
signs follow each patient's shape.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from beam_pipelines.phantom_strokes import (
    GRID_X,
    GRID_Y,
    SIDE_PX,
    blank_canvas,
    cloud,
    draw_line,
    ellipse,
    polygon,
    soften,
)


@dataclass
class Chest:
    """The shape of one chest in one picture; lengths in pixels of the canvas, pairs by side."""

    middle: float
    half_width: float
    apex: float
    base: list[float]
    dome: float
    heart_ratio: float
    heart_shift: float
    lung_air: float
    stoutness: float
    rib_gap: float
    rib_drop: float
    breasts: float
    vessels: list[tuple[int, int, np.ndarray]]
    # The sides on which each finding shows, where `phantom_signs.reshape` chose them.
    sides: dict[str, list[int]] = field(default_factory=dict)


# --- Shape -------------------------------------------------------------------------------------------


def anatomy(rng: np.random.Generator, sex: str) -> Chest:
    """Draw what all pictures of one patient share."""
    base = rng.uniform(345, 375)
    return Chest(
        middle=256 + rng.uniform(-6, 6),
        half_width=rng.uniform(172, 200) * (0.97 if sex == "F" else 1.0),
        apex=rng.uniform(66, 86),
        base=[base - rng.uniform(4, 12), base],
        dome=rng.uniform(20, 32),
        heart_ratio=rng.uniform(0.40, 0.46),
        heart_shift=rng.uniform(0.12, 0.20),
        lung_air=rng.uniform(0.72, 0.82),
        stoutness=rng.uniform(0.92, 1.12),
        rib_gap=rng.uniform(27, 32),
        rib_drop=rng.uniform(22, 42),
        breasts=rng.uniform(0.10, 0.30) if sex == "F" else 0.0,
        vessels=[vessel for side in (0, 1) for _ in range(11) for vessel in _branches(rng, side)],
    )


def _branches(rng: np.random.Generator, side: int) -> list[tuple[int, int, np.ndarray]]:
    """Grow one vessel from the hilum: (side, width, (N, 2) path of (u, v)) for stem and twigs."""
    end = np.array([rng.uniform(0.45, 0.95), rng.uniform(0.05, 0.97)])
    start = np.array([rng.uniform(0.06, 0.16), 0.5 + 0.16 * (end[1] - 0.5) + rng.uniform(-0.04, 0.04)])
    steps = np.linspace(0, 1, 9)[:, None]
    stem = start + (end - start) * steps + rng.normal(0, 0.010, (9, 2)) * steps
    stem[:, 1] += rng.uniform(-0.09, 0.09) * np.sin(np.pi * steps[:, 0])
    vessels = [(side, 3, stem[:4]), (side, 2, stem[3:7]), (side, 1, stem[6:])]
    for root in (stem[2], stem[4], stem[5], stem[6]):
        tip = root + (end - start) * rng.uniform(0.2, 0.45) + rng.normal(0, 0.10, 2)
        vessels.append((side, 1, root + (tip - root) * steps[::2]))
    return vessels


def pose(chest: Chest, rng: np.random.Generator, view: str) -> Chest:
    """Vary breath, heart beat and direction of the rays, as between two visits."""
    breath = rng.uniform(-8, 8)
    chest.base = [base + breath for base in chest.base]
    chest.heart_ratio += rng.uniform(-0.012, 0.012) + (0.015 if view == "AP" else 0.0)
    chest.lung_air += rng.uniform(-0.02, 0.02)
    return chest


# --- Places in a lung --------------------------------------------------------------------------------


def place(chest: Chest, side: int, u: np.ndarray | float, v: np.ndarray | float) -> np.ndarray:
    """Map lung coordinates of one shape to pixels of the canvas, (..., 2) float32 (x, y)."""
    u, v = np.broadcast_arrays(np.asarray(u, np.float32), np.asarray(v, np.float32))
    floor = chest.base[side] - chest.dome * (1 - 4 * (u - 0.4) ** 2) + 14 * np.maximum(u, 0) ** 4
    y = chest.apex + v * (floor - chest.apex)
    depth = np.clip((y - chest.apex) / (chest.base[side] + chest.dome - chest.apex), 0, 1)
    wall = 0.32 + 0.68 * (1 - (1 - depth) ** 2.3) ** 0.55
    inner = 0.32 - 0.20 * np.minimum(1, depth / 0.12) ** 0.5
    x = chest.middle + (2 * side - 1) * chest.half_width * (inner + u * (wall - inner))
    return np.stack([x, y], -1).astype(np.float32)


def area(
    chest: Chest, side: int, inner: float | np.ndarray, outer: float | np.ndarray, v: np.ndarray
) -> np.ndarray:
    """Outline the part of a lung between two u at the heights v, (2 N, 2) pixels."""
    return np.concatenate([place(chest, side, outer, v), place(chest, side, inner, v)[::-1]])


def lung_outline(chest: Chest, side: int) -> np.ndarray:
    """Outline a lung, (120, 2) pixels: down the chest wall, in along the diaphragm, up the mediastinum."""
    along = np.linspace(0, 1, 40)
    return np.concatenate(
        [
            place(chest, side, 1, along),
            place(chest, side, along[::-1], 1),
            place(chest, side, 0, along[::-1]),
        ]
    )


# --- Drawing -----------------------------------------------------------------------------------------


def draw_chest(chest: Chest, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a healthy chest of the given shape.

    Returns:
        thickness: (512, 512) float32.
        lungs: (2, 512, 512) float32, 1 inside each lung where the heart leaves it free.
    """
    heart = draw_heart(chest)
    lungs = np.stack([polygon(lung_outline(chest, side), 1.5) for side in (0, 1)]) * (1 - 0.93 * heart)
    both = lungs[0] + lungs[1]
    depth = cv2.resize(
        cv2.blur(cv2.resize(both, (64, 64), interpolation=cv2.INTER_AREA), (11, 11)), (SIDE_PX, SIDE_PX)
    )
    thickness = _draw_trunk(chest) + _draw_belly(chest, rng) * (1 - both)
    thickness += 0.55 * heart * _fade(chest)
    thickness -= chest.lung_air * both * (0.62 + 0.42 * depth + 0.035 * cloud(rng, 20))
    thickness += _draw_ribs(chest) + _draw_middle(chest)
    vessels = blank_canvas()
    for side, width, path in chest.vessels:
        draw_line(vessels, place(chest, side, path[:, 0], path[:, 1]), width, 90 + 45 * width)
    thickness += soften(vessels, 0.9) * both * 0.30
    return thickness, lungs


def _draw_trunk(chest: Chest) -> np.ndarray:
    """Neck, shoulders and torso as one soft body; women's breasts thicken its lower half."""
    wide = chest.half_width * 1.20 * chest.stoutness
    half = [(46, -20), (50, 20), (66, 44), (130, 60), (220, 82), (330, 112), (330, 215), (wide + 22, 268)]
    right = np.array(half + [(wide + 2, 320), (wide + 4, 400), (wide + 14, 540)])
    outline = np.concatenate([right, right[::-1] * (-1, 1)]) + (chest.middle, 0)
    thickness = polygon(outline, 9) * (0.92 * chest.stoutness + 0.0005 * GRID_Y)
    if chest.breasts:
        for offset in (-1, 1):
            thickness += chest.breasts * ellipse(chest.middle + offset * 116, 296, 88, 74, soft=0.35)
    return thickness


def _draw_belly(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """What lies under the diaphragm, dense but for the air in the stomach; it fades in at the flanks."""
    off = np.abs(GRID_X[:1] - chest.middle) / chest.half_width
    start = min(chest.base) - chest.dome - 6 + 46 * np.clip(off - 0.75, 0, 0.5) * 2
    belly = np.clip((GRID_Y - start) / (24 + 170 * np.clip(off - 0.7, 0, 0.6)), 0, 1)
    flank = np.clip((1.28 * chest.stoutness - off) * 4, 0, 1)
    stomach = ellipse(
        chest.middle + 88, chest.base[1] + 30, rng.uniform(18, 34), rng.uniform(11, 18), soft=0.7
    )
    return 1.0 * belly * flank - 0.35 * stomach


def draw_heart(chest: Chest) -> np.ndarray:
    """The shadow of heart and great vessels, (512, 512) float32 in [0, 1]; each row has two edges."""
    across = chest.heart_ratio * 2 * chest.half_width
    right, left = across * (0.5 - chest.heart_shift), across * (0.5 + chest.heart_shift)
    top, low = chest.apex, max(chest.base)
    waist = top + 0.52 * (low - top)
    rows = [
        0,
        top + 30,
        top + 78,
        top + 98,
        top + 120,
        waist,
        (waist + low) / 2,
        low - 26,
        low + 6,
        low + 50,
        511,
    ]
    out_right = [20, 19, 22, 23, 23, max(27, right * 0.68), right * 0.96, right, right * 0.86, 26, 24]
    out_left = [20, 18, 32, 38, 29, max(34, left * 0.50), left * 0.80, left, left * 0.92, 26, 24]
    y = np.arange(SIDE_PX)
    kernel = np.hanning(27) / np.hanning(27).sum()
    edges = [
        np.convolve(np.pad(np.interp(y, rows, x), 13, "edge"), kernel, "valid") for x in (out_right, out_left)
    ]
    right_edge, left_edge = (edge[:, None].astype(np.float32) for edge in edges)
    x = GRID_X - np.float32(chest.middle)
    return np.clip((x + right_edge) / 5 + 0.5, 0, 1) * np.clip((left_edge - x) / 5 + 0.5, 0, 1)


def _fade(chest: Chest) -> np.ndarray:
    """(512, 1) float32: the great vessels thin out towards the neck, and the belly hides the heart."""
    y = GRID_Y[:, :1]
    return np.clip((y - chest.apex + 10) / 80, 0.1, 1) * np.clip((max(chest.base) + 50 - y) / 60, 0.1, 1)


def _draw_middle(chest: Chest) -> np.ndarray:
    """Spine with its discs, breastbone, windpipe and both hila."""
    x = np.abs(GRID_X[:1] - np.float32(chest.middle))
    y = GRID_Y[:, :1] - np.float32(chest.apex)
    spine = np.exp(-((x / 20) ** 4)) * (0.30 + 0.06 * np.cos(y * np.float32(2 * np.pi / 25)))
    spine += np.exp(-np.square((x - 19) / 3)) * 0.10
    soft = np.exp(-np.square(x / 34)) * np.clip(y / 160, 0.1, 0.6)
    windpipe = np.exp(-np.square(x / 8)) * np.clip((y + 90) / 20, 0, 1) * np.clip((100 - y) / 30, 0, 1)
    middle = spine + soft - 0.34 * windpipe
    for side in (0, 1):
        hilum = place(chest, side, 0.10, 0.5)
        middle += 0.26 * ellipse(hilum[0], hilum[1], 24, 40, angle=(14, -14)[side], soft=1.6)
    return middle


def _draw_ribs(chest: Chest) -> np.ndarray:
    """Ribs from behind and in front, the edge of the rib cage, collar bones and shoulder blades."""
    canvas = blank_canvas()
    s = np.linspace(0, 1, 24)
    turn = np.sin(s * np.pi / 2)
    for side, sign in enumerate((-1, 1)):
        wall = place(chest, side, 1.02, np.linspace(0.02, 1.1, 40))
        draw_line(canvas, wall, 5, 150)
        for number in range(10):
            y = chest.apex + 10 + number * chest.rib_gap
            behind = y - 16 * np.sin(np.pi * s * 0.8) + chest.rib_drop * s**3
            reach = np.abs(np.interp(behind[-1], wall[:, 1], wall[:, 0]) - chest.middle)
            x = chest.middle + sign * (18 + (reach - 18) * turn)
            front = np.stack([x, behind[-1] + (1 - turn) * 70 + 5 * np.sin(np.pi * s)], -1)
            _rib(canvas, front[7:], 12, 62)
            _rib(canvas, np.stack([x, behind], -1), 10, 135)
        collar = chest.middle + sign * chest.half_width * (0.12 + 0.90 * s)
        _rib(canvas, np.stack([collar, chest.apex + 46 - 40 * s + 7 * np.sin(2 * np.pi * s)], -1), 11, 160)
        blade = chest.middle + sign * chest.half_width * (1.16 - 0.22 * s**2)
        _rib(canvas, np.stack([blade, chest.apex + 30 + 135 * s], -1), 6, 70)
    return soften(canvas, 0.9) * 0.44


def _rib(canvas: np.ndarray, path: np.ndarray, width: int, value: int) -> None:
    """A bone with brighter edges."""
    draw_line(canvas, path, width, value)
    draw_line(canvas, path, width - 4, int(value * 0.7))
