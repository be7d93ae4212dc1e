"""Draws one phantom chest X-ray: a random but repeatable chest with the visible signs of some findings.

Pure functions: the same seed, patient, image and findings give the same pixels, in any process. This module
is the entry: it deals out the random numbers, and turns a drawing into a picture as film and plate do. The
drawing is left to `phantom_chest` and `phantom_signs`, who has which findings to `cohort`, and all files to
`synthesize`.

A drawing is a map of thickness T, (512, 512) float32: bone, blood and fluid add to it, air takes away. One
curve, 1 - exp(-T), turns it into grey.
"""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np

from beam_pipelines.phantom_chest import anatomy, draw_chest, pose
from beam_pipelines.phantom_signs import SIGNS, Film, reshape
from beam_pipelines.phantom_strokes import SIDE_PX, Box, blank_canvas, bounding_box, draw_line, soften

PICTURE_SIDE_PX = 1024
_ZOOM = PICTURE_SIDE_PX / SIDE_PX


def render(
    seed: int, patient: int, image: int, findings: Collection[str], *, view: str, sex: str
) -> tuple[np.ndarray, list[tuple[str, Box]]]:
    """Draw one picture.

    Args:
        seed: seed of the data set.
        patient: the number that fixes the anatomy.
        image: number of the picture among the patient's; fixes the pose, the exposure and the signs.
        findings: names out of `records.labels.FINDINGS`.
        view: `PA` or `AP`; an AP heart looks a little wider and the picture flatter.
        sex: `M` or `F`.

    Returns:
        picture: (1024, 1024) uint8, 0 is black.
        boxes: (finding, box) for each separate sign, in pixels of the picture.
    """
    rng = _generator(seed, patient, image + 1)
    chest = pose(anatomy(_generator(seed, patient, 0), sex), rng, view)
    ordered = [finding for finding in SIGNS if finding in findings]
    for finding in ordered:
        reshape(chest, finding, rng)
    film = Film(chest, *draw_chest(chest, rng), rng)
    found = [(finding, bounding_box(mask)) for finding in ordered for mask in SIGNS[finding](film)]
    return _expose(film.thickness, found, rng, view)


def _generator(seed: int, patient: int, part: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(patient, part))))


def _expose(
    thickness: np.ndarray, found: list[tuple[str, Box]], rng: np.random.Generator, view: str
) -> tuple[np.ndarray, list[tuple[str, Box]]]:
    """Turn thickness into grey, place the patient before the plate and add the noise of the plate."""
    thickness += 2.5 * _lead_letter(rng)
    grey = 1 - np.exp(-np.maximum(thickness, 0.03) * rng.uniform(0.88, 1.12))
    flat = rng.uniform(0.90, 1.0) - (0.05 if view == "AP" else 0.0)
    grey = grey * (250 * flat) + (1 - flat) * 120
    matrix = cv2.getRotationMatrix2D((SIDE_PX / 2, SIDE_PX / 2), rng.normal(0, 1.5), rng.uniform(0.95, 1.04))
    matrix[:, 2] += rng.uniform(-9, 9, 2)
    matrix *= _ZOOM
    size = (PICTURE_SIDE_PX, PICTURE_SIDE_PX)
    grey = cv2.warpAffine(grey, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    noise = rng.integers(0, 256, size, np.uint8)
    strength = rng.uniform(0.012, 0.020)
    picture = cv2.addWeighted(
        grey, 1.0, noise.astype(np.float32), strength, -127.5 * strength, dtype=cv2.CV_8U
    )
    return picture, [(finding, _move(box, matrix)) for finding, box in found]


def _lead_letter(rng: np.random.Generator) -> np.ndarray:
    """The L of lead that marks the patient's left, as a mask."""
    canvas = blank_canvas()
    x, y = rng.uniform(430, 480), rng.uniform(20, 50)
    draw_line(canvas, np.array([(x, y), (x, y + 18), (x + 10, y + 18)]), 3, 255)
    return soften(canvas, 0.7)


def _move(box: Box, matrix: np.ndarray) -> Box:
    """Map a box of the canvas to the smallest upright box of the picture that holds it."""
    x, y, width, height = box
    corners = np.array([(x, y), (x + width, y), (x, y + height), (x + width, y + height)])
    moved = np.clip(corners @ matrix[:, :2].T + matrix[:, 2], 0, PICTURE_SIDE_PX)
    low, high = moved.min(0), moved.max(0)
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])
