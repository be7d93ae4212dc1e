from __future__ import annotations

import io
import threading
from pathlib import Path

import cv2
import dicom_files
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from beam_pipelines import checked
from engine.prediction import pictures
from records import picture
from records.errors import ImageError

SIDE_PX = 32
# The EXIF orientations, and what undoes each.
UPRIGHT = {
    1: lambda turned: turned,
    2: np.fliplr,
    3: lambda turned: np.rot90(turned, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda turned: np.rot90(turned, -1),
    7: lambda turned: np.rot90(turned, 2).T,
    8: np.rot90,
}


def grey_picture(height: int = 80, width: int = 60) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 400, (height, width)).astype(np.float32)
    return np.clip(128 + cv2.GaussianBlur(noise, (0, 0), 4), 0, 255).astype(np.uint8)


def jpeg(values: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def png(values: np.ndarray) -> bytes:
    return cv2.imencode(".png", values)[1].tobytes()


def with_alpha(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey, grey, grey, 255 - grey], axis=-1)


def refusal(data: bytes, side_px: int = SIDE_PX) -> str:
    with pytest.raises(ImageError) as caught:
        pictures.read_picture(data, side_px)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        png(grey_picture()),
        png(with_alpha(grey_picture())),
        png(grey_picture().astype(np.uint16) * 257 + 19),
        png(np.stack([grey_picture()] * 3, axis=-1)),
    ],
    ids=["grey", "rgba", "16 bits", "rgb"],
)
def test_a_png_becomes_the_very_picture_that_a_conversion_stores(data: bytes) -> None:
    read = pictures.read_picture(data, SIDE_PX)
    assert (read.shape, read.dtype) == ((SIDE_PX, SIDE_PX, 1), np.uint8)
    np.testing.assert_array_equal(read[..., 0], checked.check(data, SIDE_PX).grey)


@pytest.mark.parametrize("turn", UPRIGHT)
def test_a_jpeg_is_turned_as_its_orientation_says(turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    data = jpeg(grey_picture(), exif=exif.tobytes())
    upright = UPRIGHT[turn](np.asarray(Image.open(io.BytesIO(data))))
    expected = pictures.read_picture(png(np.ascontiguousarray(upright)), SIDE_PX)
    np.testing.assert_array_equal(pictures.read_picture(data, SIDE_PX), expected)


def test_a_grey_jpeg_in_three_channels_is_the_same_picture() -> None:
    grey = pictures.read_picture(jpeg(grey_picture()), SIDE_PX)
    in_colour = pictures.read_picture(jpeg(np.stack([grey_picture()] * 3, axis=-1), subsampling=0), SIDE_PX)
    np.testing.assert_array_equal(grey, in_colour)


def test_a_dicom_becomes_the_picture_of_its_png() -> None:
    stored = grey_picture()
    stored[0, :2] = 0, 255
    inverted = dicom_files.file(255 - stored, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(
        pictures.read_picture(inverted, SIDE_PX), pictures.read_picture(png(stored), SIDE_PX)
    )


@pytest.mark.parametrize("write", [png, jpeg, dicom_files.file], ids=["png", "jpeg", "dicom"])
@pytest.mark.parametrize(
    ("shape", "expected"),
    [((20, 20), "expected at least 32 on a side"), ((90, 40), "expected sides of at most 2 to 1")],
)
def test_what_a_conversion_would_refuse_is_refused(write, shape: tuple[int, int], expected: str) -> None:
    assert expected in refusal(write(grey_picture(*shape)))
    assert refusal(write(np.full((40, 40), 9, np.uint8))).startswith("every pixel is ")


def test_what_is_none_of_the_three_is_said_without_quoting_it() -> None:
    assert refusal(b"") == "the file is empty"
    assert refusal(b"Rossi Annamaria, born 1947") == "neither PNG, JPEG nor DICOM"
    assert refusal(b"GIF89a" + bytes(200)) == "neither PNG, JPEG nor DICOM"


def test_a_coloured_jpeg_is_refused() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    assert refusal(jpeg(colours)).startswith("a colour image")
    cmyk = io.BytesIO()
    Image.new("CMYK", (40, 40)).save(cmyk, "JPEG")
    assert "neither grey nor RGB" in refusal(cmyk.getvalue())


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_off_anywhere_is_refused(progressive: bool) -> None:
    # With a second picture inside, as cameras put one into the header.
    exif = Image.Exif()
    exif[0x010E] = "\xff".join(jpeg(grey_picture()).decode("latin-1")[:800])
    data = jpeg(grey_picture(), progressive=progressive, exif=exif.tobytes())
    pictures.read_picture(data, SIDE_PX)
    for end in range(3, len(data), 5):
        refusal(data[:end])


@given(st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b""]), st.binary(max_size=300))
def test_rubbish_raises_nothing_but_an_image_error(start: bytes, rubbish: bytes) -> None:
    refusal(start + rubbish)


@given(st.integers(0), st.binary(min_size=1, max_size=6))
def test_a_damaged_jpeg_raises_nothing_but_an_image_error(place: int, rubbish: bytes) -> None:
    data = bytearray(jpeg(grey_picture()))
    place %= len(data)
    data[place : place + len(rubbish)] = rubbish
    try:
        read = pictures.read_picture(bytes(data), SIDE_PX)
    except ImageError:
        return
    assert read.shape == (SIDE_PX, SIDE_PX, 1)


def test_a_jpeg_too_large_for_memory_is_refused_by_its_header() -> None:
    data = jpeg(grey_picture())
    frame = data.index(b"\xff\xc0")
    for side, expected in ((9000, "9000 x 9000 pixels of 1 bytes"), (65000, "damaged JPEG")):
        size = side.to_bytes(2, "big") * 2
        assert refusal(data[: frame + 5] + size + data[frame + 9 :]).startswith(expected)


def test_a_file_too_large_for_an_image_is_refused() -> None:
    assert refusal(bytes(pictures.MAX_FILE_BYTES + 1)).endswith("expected an image of at most 68,157,440")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [None, 60])
def test_a_picture_is_given_what_it_loses_in_shards(channels: int, quality: int | None) -> None:
    image = pictures.read_picture(png(grey_picture()), SIDE_PX)
    stored = pictures.as_stored(image, channels, quality)
    assert (stored.shape, stored.dtype) == ((SIDE_PX, SIDE_PX, channels), np.uint8)
    expected = image
    if quality:
        data = picture.encode(image[..., 0], channels=channels, encoding="jpeg", jpeg_quality=quality)
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)[..., None]
        assert not np.array_equal(expected, image)
    np.testing.assert_array_equal(stored, np.repeat(expected, channels, axis=2))


def test_threads_that_read_at_once_leave_the_filters_of_warnings_as_they_were() -> None:
    import warnings

    before = list(warnings.filters)
    data = dicom_files.file(grey_picture(), WindowCenter=128, WindowWidth=200)
    threads = [
        threading.Thread(target=lambda: [pictures.read_picture(data, SIDE_PX) for _ in range(20)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


@pytest.mark.real_data
def test_real_images_become_the_pictures_that_a_conversion_stores(nih: Path) -> None:
    paths = sorted((nih / "images").glob("*.png"))[::4]
    assert paths
    for path in paths:
        data = path.read_bytes()
        np.testing.assert_array_equal(
            pictures.read_picture(data, 320)[..., 0], checked.check(data, 320).grey, err_msg=path.name
        )


def test_a_jpeg_of_thousands_of_scans_is_refused_before_it_is_decoded() -> None:
    data = jpeg(grey_picture(), progressive=True)
    last = data.rfind(b"\xff\xda")
    assert pictures.read_picture(data, SIDE_PX).shape == (SIDE_PX, SIDE_PX, 1)
    bomb = data[:-2] + 2000 * data[last:-2] + data[-2:]
    assert "scans; expected at most 100" in refusal(bomb)
