"""The checks of one image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from beam_pipelines import checked
from records import pixels
from records.errors import ImageError

GREY = cv2.resize(np.random.default_rng(5).integers(0, 256, (32, 32), np.uint8), (400, 400))


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def test_a_usual_image_passes_with_its_reduced_pixels() -> None:
    image = checked.check(png(cv2.resize(GREY, (1024, 1024))), 320)
    np.testing.assert_array_equal(image.grey, pixels.resize(cv2.resize(GREY, (1024, 1024)), 320))
    assert image.oddity == ""
    assert len(image.fingerprint) == checked.FINGERPRINT_BYTES


def test_files_of_different_kinds_with_equal_pixels_have_one_fingerprint() -> None:
    kinds = [GREY, cv2.cvtColor(GREY, cv2.COLOR_GRAY2BGR), cv2.cvtColor(GREY, cv2.COLOR_GRAY2BGRA)]
    kinds.append(GREY.astype(np.uint16) * 257)
    images = [checked.check(png(kind), 320) for kind in kinds]
    assert len({image.fingerprint for image in images}) == 1
    assert [image.oddity for image in images] == [
        f"400 x 400 pixels{kind}" for kind in ("", ", 8-bit RGB", ", 8-bit RGBA", ", 16-bit grey")
    ]


def test_a_single_other_pixel_makes_another_fingerprint() -> None:
    other = GREY.copy()
    other[399, 399] ^= 1
    assert checked.check(png(other), 320).fingerprint != checked.check(png(GREY), 320).fingerprint


def test_equal_bytes_of_another_shape_make_another_fingerprint() -> None:
    wide, high = GREY.reshape(500, 320), GREY.reshape(320, 500)
    assert checked.check(png(wide), 320).fingerprint != checked.check(png(high), 320).fingerprint


@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_image_of_one_value_is_refused(value: int) -> None:
    with pytest.raises(ImageError, match=f"every pixel is {value}; expected a picture"):
        checked.check(png(np.full((400, 400), value, np.uint8)), 320)


def test_a_bomb_is_refused_by_its_header() -> None:
    data = bytearray(png(GREY))
    data[16:24] = (100_000).to_bytes(4, "big") * 2
    with pytest.raises(ImageError, match="100000 x 100000 pixels"):
        checked.check(bytes(data), 320)
