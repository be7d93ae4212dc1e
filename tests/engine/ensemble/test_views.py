from __future__ import annotations

import numpy as np
import pytest

from engine.ensemble import views
from records.errors import ConfigError


@pytest.fixture(params=[1, 3])
def images(request: pytest.FixtureRequest) -> np.ndarray:
    """Five pictures of 50 x 50."""
    return np.random.default_rng(0).integers(0, 256, (5, 50, 50, request.param), np.uint8)


def test_the_identity_gives_the_pictures_back(images: np.ndarray) -> None:
    np.testing.assert_array_equal(views.apply(images, views.IDENTITY), images)


def test_a_shift_by_whole_pixels_moves_pixels_and_leaves_black_behind(images: np.ndarray) -> None:
    moved = views.apply(images, (0.02, -0.04, 0.0))  # 1 px down, 2 px to the left
    np.testing.assert_array_equal(moved[:, 1:, :-2], images[:, :-1, 2:])
    assert not moved[:, 0].any()
    assert not moved[:, :, -2:].any()


def test_a_quarter_turn_is_that_of_numpy(images: np.ndarray) -> None:
    np.testing.assert_array_equal(views.apply(images, (0.0, 0.0, 90.0)), np.rot90(images, axes=(1, 2)))


def test_pictures_keep_shape_and_dtype_in_every_view(images: np.ndarray) -> None:
    for name in views.VIEWS:
        for view in views.named(name):
            seen = views.apply(images, view)
            assert (seen.shape, seen.dtype) == (images.shape, np.uint8)


def test_every_kind_begins_with_the_picture_itself_and_has_each_view_once() -> None:
    for kind in views.VIEWS.values():
        assert kind[0] == views.IDENTITY
        assert len(set(kind)) == len(kind)


def test_a_kind_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match="none, shift, rotate"):
        views.named("flip")
