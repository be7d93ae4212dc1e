"""Boxes and regions against plain pixel counting, on random and on degenerate input."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from engine.heatmaps import boxes
from records import pixels

SIDE = 24


def drawn(box: np.ndarray, side: int = SIDE) -> np.ndarray:
    """The pixels of a box with whole numbers."""
    x, y, width, height = box.astype(int)
    mask = np.zeros((side, side), bool)
    mask[y : y + height, x : x + width] = True
    return mask


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.integers(0, SIDE - 1, (count, 2))
    return np.concatenate([corner, rng.integers(1, SIDE - corner.max(), (count, 2))], axis=1).astype(float)


def flooded(mask: np.ndarray, start: tuple[int, int]) -> list[int]:
    """x, y, width and height of what hangs together with a pixel, found step by step."""
    seen, waiting = {start}, deque([start])
    while waiting:
        row, column = waiting.popleft()
        for place in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            inside = 0 <= place[0] < len(mask) and 0 <= place[1] < len(mask)
            if inside and mask[place] and place not in seen:
                seen.add(place)
                waiting.append(place)
    rows, columns = zip(*seen, strict=True)
    width, height = max(columns) - min(columns) + 1, max(rows) - min(rows) + 1
    return [min(columns), min(rows), width, height]


@pytest.mark.parametrize("seed", range(30))
def test_iou_is_the_share_of_pixels_that_two_boxes_have_in_common(seed):
    rng = np.random.default_rng(seed)
    one, others = random_boxes(rng, 1)[0], random_boxes(rng, 5)
    expected = [(drawn(one) & drawn(other)).sum() / (drawn(one) | drawn(other)).sum() for other in others]
    np.testing.assert_allclose(boxes.iou(one, others), expected, atol=1e-12)


def test_iou_of_equal_touching_and_empty_boxes():
    one = np.array([2.0, 3, 4, 5])
    others = np.array([[2.0, 3, 4, 5], [6, 3, 4, 5], [3, 4, 0, 0], [0, 0, 24, 24]])
    np.testing.assert_allclose(boxes.iou(one, others), [1, 0, 0, 20 / 576])
    assert boxes.iou(np.array([1.0, 1, 0, 0]), np.array([[1.0, 1, 0, 0]])) == [0]
    assert boxes.iou(one, np.zeros((0, 4))).shape == (0,)


@pytest.mark.parametrize("seed", range(30))
def test_the_region_is_the_box_of_what_hangs_together_with_the_maximum(seed):
    rng = np.random.default_rng(seed)
    heat = rng.random((SIDE, SIDE)) ** 2
    start = np.unravel_index(heat.argmax(), heat.shape)
    assert boxes.peak(heat) == start
    found = boxes.find(heat, random_boxes(rng, 2))
    for level, region in zip(boxes.LEVELS, found.regions, strict=True):
        assert region.tolist() == flooded(heat >= level * heat.max(), start)


@pytest.mark.parametrize("seed", range(30))
def test_pointing_hits_where_the_brightest_pixel_is_in_any_box(seed):
    rng = np.random.default_rng(seed)
    heat, given = rng.random((SIDE, SIDE)), random_boxes(rng, 3)
    place = np.unravel_index(heat.argmax(), heat.shape)
    found = boxes.find(heat, given)
    assert found.hit == any(drawn(box)[place] for box in given)
    assert found.iou == pytest.approx(boxes.iou(found.regions[boxes.LEVELS.index(0.5)], given).max())


@pytest.mark.parametrize("seed", range(30))
def test_chance_is_the_share_of_pixels_in_any_box(seed):
    given = random_boxes(np.random.default_rng(seed), 4)
    expected = np.mean(sum(drawn(box).astype(int) for box in given) > 0)
    assert boxes.covered_share(given, SIDE) == pytest.approx(expected)


def test_an_empty_map_points_nowhere():
    found = boxes.find(np.zeros((SIDE, SIDE)), np.array([[0.0, 0, SIDE, SIDE]]))
    assert not found.has_map
    assert not found.hit
    assert found.iou == 0
    assert np.isnan([*found.peak, *found.regions.ravel()]).all()


def test_an_even_map_predicts_all_and_points_somewhere():
    found = boxes.find(np.ones((5, 5)), np.array([[0.0, 0, 5, 5]]))
    assert found.hit
    assert found.ious.tolist() == [[1.0]] * len(boxes.LEVELS)


def test_of_equal_maxima_each_is_taken_as_often_and_always_the_same():
    rng = np.random.default_rng(0)
    firsts = 0
    for _ in range(400):
        heat = np.zeros((SIDE, SIDE))
        one, other = rng.choice(SIDE**2, 2, replace=False)
        heat.flat[[one, other]] = 1, 1 - 1e-7
        row, column = boxes.peak(heat)
        assert row * SIDE + column in (one, other)
        assert boxes.peak(heat) == (row, column)
        firsts += row * SIDE + column == min(one, other)
    assert 160 < firsts < 240


def test_a_second_place_of_the_same_height_is_another_region():
    heat = np.zeros((9, 9))
    heat[4, 4] = heat[0, 0] = 1
    (x, y) = boxes.find(heat, np.array([[0.0, 0, 1, 1]])).peak
    assert boxes.find(heat, np.array([[0.0, 0, 1, 1]])).regions[0].tolist() == [x - 0.5, y - 0.5, 1, 1]


@pytest.mark.parametrize(
    ("width", "height", "side"),
    [
        (1024, 1024, 128),
        (1024, 1024, 100),
        (1024, 800, 128),
        (700, 1024, 128),
        (1301, 977, 64),
        (128, 90, 128),
    ],
)
def test_a_box_moves_to_where_its_pixels_move(width, height, side):
    box = np.array([[0.31 * width, 0.4 * height, 0.4 * width, 0.37 * height]]).round()
    x, y, w, h = box[0].astype(int)
    picture = np.zeros((height, width), np.uint8)
    picture[y : y + h, x : x + w] = 255
    stored = pixels.resize(picture, side).astype(np.float64) / 255
    (moved,) = boxes.to_stored(box, width, height, side)
    rows, columns = stored.max(axis=1), stored.max(axis=0)
    # A pixel at the rim is as bright as the share of it that the box covers.
    np.testing.assert_allclose([columns.sum(), rows.sum()], moved[2:], atol=0.03)
    centres = [(values @ (np.arange(side) + 0.5)) / values.sum() for values in (columns, rows)]
    np.testing.assert_allclose(centres, moved[:2] + moved[2:] / 2, atol=0.03)


def test_what_of_a_box_lies_beyond_the_picture_is_cut_off():
    given = np.array([[-100.0, 900, 300, 300], [1024, 0, 50, 50], [2000, 2000, 10, 10]])
    moved = boxes.to_stored(given, 1024, 1024, 128)
    assert moved[0].tolist() == [0, 112.5, 25, 15.5]
    assert moved[1:, 2].tolist() == [0, 0]
