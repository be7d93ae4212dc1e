"""The visible signs of the 14 findings in a phantom X-ray.

Responsible for what each finding does to a chest, in two steps: `reshape` changes the shape before anything
is drawn, then the finding's entry in `SIGNS` draws into the film. The healthy chest and its coordinates
(side, u, v) come from `phantom_chest`; which findings a patient has is left to the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from beam_pipelines.phantom_chest import Chest, area, draw_heart, lung_outline, place
from beam_pipelines.phantom_strokes import (
    GRID_Y,
    SIDE_PX,
    blank_canvas,
    blob,
    cloud,
    draw_line,
    ellipse,
    polygon,
    soften,
)


@dataclass
class Film:
    """What a sign is drawn into.

    Attributes:
        chest: its shape.
        thickness: (512, 512) float32, changed in place.
        lungs: (2, 512, 512) float32, 1 inside each lung where the heart leaves it free.
        rng: of this picture.
    """

    chest: Chest
    thickness: np.ndarray
    lungs: np.ndarray
    rng: np.random.Generator


def reshape(chest: Chest, finding: str, rng: np.random.Generator) -> None:
    """Choose the finding's sides and change the shapes that it changes, before anything is drawn."""
    both = rng.random() < _BOTH_SIDES[finding]
    chest.sides[finding] = [0, 1] if both else [int(rng.integers(2))]
    if finding == "Cardiomegaly":
        chest.heart_ratio = rng.uniform(0.68, 0.77)
        chest.heart_shift = rng.uniform(0.14, 0.20)
    elif finding == "Emphysema":
        chest.lung_air += 0.14
        chest.apex -= 16
        chest.base = [base + rng.uniform(26, 36) for base in chest.base]
        chest.dome *= 0.25
        chest.heart_ratio *= 0.80 if chest.heart_ratio < 0.5 else 0.95
    elif finding == "Atelectasis":
        side = chest.sides[finding][0]
        chest.base[side] -= rng.uniform(34, 48)
        chest.middle += (6, -6)[1 - side]
    elif finding == "Fibrosis":
        chest.base = [base - 18 for base in chest.base]


# --- Drawing -----------------------------------------------------------------------------------------
# Each draws into a film and returns one mask, (512, 512) float32, for each separate thing that it drew.


def _infiltration(film: Film) -> list[np.ndarray]:
    """Patchy haze: flecks of cotton wool spread over one zone."""
    masks = []
    for side in film.chest.sides["Infiltration"]:
        x, y = place(film.chest, side, film.rng.uniform(0.45, 0.6), film.rng.uniform(0.30, 0.60))
        zone = ellipse(x, y, film.rng.uniform(62, 76), film.rng.uniform(80, 100), soft=0.6) * film.lungs[side]
        flecks = np.clip(cloud(film.rng, 20) + 0.4 * cloud(film.rng, 9), 0, 1.3)
        film.thickness += zone * (0.14 + 0.62 * flecks)
        masks.append(zone)
    return masks


def _effusion(film: Film) -> list[np.ndarray]:
    """Fluid that blunts the costophrenic angle and climbs the chest wall as a meniscus."""
    masks = []
    u = np.linspace(-0.02, 1.05, 30)
    for side in film.chest.sides["Effusion"]:
        level = film.rng.uniform(0.10, 0.28)
        top = 1 - level * (0.55 + 0.45 * u) - 0.16 * np.clip(u - 0.6, 0, 1) ** 2 / 0.16
        outline = np.concatenate([place(film.chest, side, u, top), place(film.chest, side, u, 1.06)[::-1]])
        fluid = polygon(outline, 3)
        film.thickness += fluid * film.lungs[side] * 1.35
        masks.append(fluid)
    return masks


def _atelectasis(film: Film) -> list[np.ndarray]:
    """Plates of airless lung above a raised diaphragm; `reshape` took the volume."""
    side = film.chest.sides["Atelectasis"][0]
    canvas = blank_canvas()
    u = np.linspace(0.12, 0.95, 12)
    height = film.rng.uniform(0.62, 0.72)
    for number in range(int(film.rng.integers(2, 4))):
        plate = place(film.chest, side, u, height + 0.13 * number + film.rng.uniform(-0.06, 0.06) * u)
        draw_line(canvas, plate, int(film.rng.integers(9, 13)), 255)
    plates = soften(canvas, 2.0)
    film.thickness += plates * film.lungs[side] * 0.85
    return [plates]


def _nodule(film: Film) -> list[np.ndarray]:
    """Small, round, dense and well away from the heart."""
    masks = []
    for _ in range(int(film.rng.integers(3, 6))):
        side = int(film.rng.integers(2))
        centre = place(film.chest, side, film.rng.uniform(0.4, 0.85), film.rng.uniform(0.15, 0.85))
        mask = blob(film.rng, centre, film.rng.uniform(14, 17.5), rough=0.04, soft=2)
        film.thickness += mask * 1.4
        masks.append(mask)
    return masks


def _mass(film: Film) -> list[np.ndarray]:
    """Large, round and a little lobed."""
    side = film.chest.sides["Mass"][0]
    centre = place(film.chest, side, film.rng.uniform(0.4, 0.7), film.rng.uniform(0.2, 0.75))
    mask = blob(film.rng, centre, film.rng.uniform(42, 58), rough=0.07, soft=4)
    film.thickness += mask * (1.15 + 0.06 * cloud(film.rng, 24))
    return [mask]


def _pneumothorax(film: Film) -> list[np.ndarray]:
    """A black rim without vessels at the apex and the side, bounded by the line of the pleura."""
    side = film.chest.sides["Pneumothorax"][0]
    outline, root = lung_outline(film.chest, side), place(film.chest, side, 0.0, 0.85)
    shrunk = root + (outline - root) * (film.rng.uniform(0.66, 0.78), film.rng.uniform(0.74, 0.84))
    rim = film.lungs[side] * (1 - polygon(shrunk, 1))
    line = blank_canvas()
    draw_line(line, shrunk[:40], 2, 255)
    air = cv2.blur(film.thickness, (41, 41)) * 0.25
    film.thickness += rim * (air - film.thickness) * 0.9 + soften(line, 0.8) * 0.45 * film.lungs[side]
    film.thickness += (film.lungs[side] - rim) * 0.14
    return [rim]


def _consolidation(film: Film) -> list[np.ndarray]:
    """A whole lobe without air: dense, even, with the straight edge of a fissure."""
    side = film.chest.sides["Consolidation"][0]
    upper = film.rng.random() < 0.7
    top, bottom = (0.08, film.rng.uniform(0.42, 0.50)) if upper else (film.rng.uniform(0.45, 0.5), 0.80)
    lobe = area(film.chest, side, 0.0, 1.02, np.linspace(top, bottom, 20))
    mask = polygon(lobe, 2.5) * film.lungs[side]
    film.thickness += mask * (0.95 + 0.08 * cloud(film.rng, 40))
    return [mask]


def _pleural_thickening(film: Film) -> list[np.ndarray]:
    """A bright uneven band along the chest wall and over the apex."""
    masks = []
    v = np.linspace(0.0, 0.93, 40)
    for side in film.chest.sides["Pleural_Thickening"]:
        uneven = np.interp(v, np.linspace(0, 1, 9), film.rng.uniform(0.65, 1.35, 9))
        band = polygon(area(film.chest, side, 1 - film.rng.uniform(0.16, 0.21) * uneven, 1.04, v), 2)
        cap = polygon(area(film.chest, side, -0.05, 1.05, np.linspace(0, film.rng.uniform(0.07, 0.12), 8)), 2)
        mask = np.maximum(band, cap) * film.lungs[side]
        film.thickness += mask * 0.95
        masks.append(mask)
    return masks


def _cardiomegaly(film: Film) -> list[np.ndarray]:
    """`reshape` widened the heart; this says where it is."""
    low = max(film.chest.base)
    waist = film.chest.apex + 0.45 * (low - film.chest.apex)
    rows = np.arange(SIDE_PX)[:, None]
    return [draw_heart(film.chest) * ((rows > waist) & (rows < low + 10))]


def _emphysema(film: Film) -> list[np.ndarray]:
    """`reshape` blew up the lungs; bullae thin the upper zones out further."""
    for side in (0, 1):
        for _ in range(2):
            x, y = place(film.chest, side, film.rng.uniform(0.4, 0.7), film.rng.uniform(0.15, 0.45))
            film.thickness -= 0.06 * ellipse(x, y, 30, 36, soft=0.9) * film.lungs[side]
    return []


def _edema(film: Film) -> list[np.ndarray]:
    """Haze around both hila in the shape of a butterfly, and short lines at the chest wall."""
    canvas = blank_canvas()
    for side in (0, 1):
        x, y = place(film.chest, side, 0.22, 0.52)
        wing = ellipse(x, y, film.chest.half_width * 0.42, 82, soft=0.9)
        film.thickness += film.lungs[side] * wing * (0.62 + 0.10 * cloud(film.rng, 32))
        for v in np.arange(0.70, 0.95, 0.05):
            draw_line(canvas, place(film.chest, side, np.linspace(0.84, 1, 3), v + 0.01), 2, 255)
    film.thickness += soften(canvas, 0.8) * (film.lungs[0] + film.lungs[1]) * 0.35
    return []


def _fibrosis(film: Film) -> list[np.ndarray]:
    """A coarse net in the lower zones of both lungs: where smooth noise changes its sign, it has threads."""
    coarse, fine = (np.exp(-np.square(cloud(film.rng, grain) / 0.27)) for grain in (34, 22))
    net = 0.16 + 0.85 * np.maximum(coarse, fine)
    for side in (0, 1):
        start, end = place(film.chest, side, 0.5, np.array([0.48, 0.70]))[:, 1]
        film.thickness += net * film.lungs[side] * np.clip((GRID_Y - start) / (end - start), 0, 1)
    return []


def _pneumonia(film: Film) -> list[np.ndarray]:
    """A dense lower patch with a fuzzy border; the bronchi stay black in it."""
    side = film.chest.sides["Pneumonia"][0]
    x, y = place(film.chest, side, film.rng.uniform(0.5, 0.62), film.rng.uniform(0.70, 0.80))
    patch = ellipse(x, y, film.rng.uniform(62, 74), film.rng.uniform(54, 64), soft=0.7) * film.lungs[side]
    canvas = blank_canvas()
    outward = 2 * side - 1
    root = np.array([x - outward * 44, y - 34])
    for angle in np.array([0.15, 0.6, 1.05]) + film.rng.uniform(-0.12, 0.12, 3):
        steps = np.linspace(0, film.rng.uniform(66, 88), 6)[:, None]
        reach = steps * (outward * np.cos(angle), np.sin(angle))
        draw_line(canvas, root + reach + film.rng.normal(0, 1.5, (6, 2)), 6, 255)
    film.thickness += patch * (1.35 - 0.95 * soften(canvas, 1.3))
    return [patch]


def _hernia(film: Film) -> list[np.ndarray]:
    """A round bubble of stomach behind the heart: gas over a fluid level within a bright rim."""
    radius = film.rng.uniform(30, 38)
    x = film.chest.middle + film.rng.uniform(4, 24)
    y = min(film.chest.base) - radius * film.rng.uniform(0.9, 1.2)
    bubble = ellipse(x, y, radius, radius, soft=0.12)
    gas = ellipse(x, y, radius - 5, radius - 5, soft=0.12)
    level = np.clip((y + radius * 0.35 - GRID_Y) / 3, 0, 1)
    film.thickness += 0.7 * (bubble - gas) + 0.35 * gas * (1 - level)
    film.thickness -= 0.85 * gas * level * (film.thickness - 0.35)
    return [bubble]


# In the order of drawing: what takes air away or adds it to a whole lung first, what lies over it last.
SIGNS: dict[str, Callable[[Film], list[np.ndarray]]] = {
    "Cardiomegaly": _cardiomegaly,
    "Emphysema": _emphysema,
    "Edema": _edema,
    "Fibrosis": _fibrosis,
    "Infiltration": _infiltration,
    "Pneumonia": _pneumonia,
    "Consolidation": _consolidation,
    "Atelectasis": _atelectasis,
    "Pneumothorax": _pneumothorax,
    "Effusion": _effusion,
    "Pleural_Thickening": _pleural_thickening,
    "Mass": _mass,
    "Nodule": _nodule,
    "Hernia": _hernia,
}
# How often a finding shows on both sides; the rest shows on one.
_BOTH_SIDES = dict.fromkeys(SIGNS, 0.0) | {"Infiltration": 0.4, "Effusion": 0.35, "Pleural_Thickening": 0.35}
