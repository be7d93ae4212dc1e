"""Pictures of records: raw, PNG and JPEG."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from records import example, picture
from records.errors import RecordError

GREY = cv2.resize(np.random.default_rng(3).integers(0, 256, (8, 8), np.uint8), (64, 64))


def record(encoding: str, channels: int, image: bytes) -> example.Record:
    return example.Record(
        image=image,
        encoding=encoding,
        shape=(64, 64, channels),
        image_id="00000001_000.png",
        patient_id=1,
        labels=np.zeros(14, np.uint8),
        view="PA",
        sex="F",
        age_years=50.0,
        follow_up=0,
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_raw_and_png_pictures_come_back_to_the_pixel(encoding: str, channels: int) -> None:
    data = picture.encode(GREY, channels=channels, encoding=encoding)
    decoded = picture.decode(record(encoding, channels, data))
    np.testing.assert_array_equal(decoded, np.repeat(GREY[..., None], channels, axis=-1))


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_pictures_come_back_grey_and_closer_the_higher_the_quality(channels: int) -> None:
    errors = []
    for quality in (30, 95):
        data = picture.encode(GREY, channels=channels, encoding="jpeg", jpeg_quality=quality)
        decoded = picture.decode(record("jpeg", channels, data)).astype(int)
        assert (decoded == decoded[..., :1]).all()
        errors.append(abs(decoded - GREY[..., None]).max())
    assert 0 < errors[1] < errors[0]
    assert errors[1] <= 8


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
@pytest.mark.parametrize("image", [b"", b"not a picture"])
def test_a_damaged_picture_is_told(encoding: str, image: bytes) -> None:
    with pytest.raises(RecordError, match=f"00000001_000.png: its {encoding} picture is damaged"):
        picture.decode(record(encoding, 1, image))


def test_a_picture_of_another_shape_than_its_record_says_is_told() -> None:
    data = picture.encode(GREY, channels=3, encoding="png")
    with pytest.raises(RecordError, match=r"uint8 of \(64, 64, 3\); expected uint8 of \(64, 64, 1\)"):
        picture.decode(record("png", 1, data))
    deep = cv2.imencode(".png", GREY.astype(np.uint16) * 257)[1].tobytes()
    with pytest.raises(RecordError, match="is uint16 of"):
        picture.decode(dataclasses.replace(record("png", 1, deep)))
