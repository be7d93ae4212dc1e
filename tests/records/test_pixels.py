from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from records import pixels
from records.errors import ImageError

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
SIDE_PX = 16
# The passes of an interlaced PNG: first column, first row, column step, row step.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def grey_picture(side_px: int = SIDE_PX, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side_px, side_px), dtype=np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def scanlines(image: np.ndarray) -> bytes:
    """Unfiltered rows of (rows, columns[, channels]) uint8, or uint16 in big-endian order."""
    return b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in image)


def png(
    raw: bytes,
    colour_type: int,
    *,
    bit_depth: int = 8,
    size: tuple[int, int] = (SIDE_PX, SIDE_PX),
    before_data: bytes = b"",
    interlaced: bool = False,
    data_chunks: int = 3,
) -> bytes:
    header = struct.pack(">IIBBBBB", *size, bit_depth, colour_type, 0, 0, interlaced)
    packed = zlib.compress(raw)
    step = -(-len(packed) // data_chunks)
    data = b"".join(chunk(b"IDAT", packed[start : start + step]) for start in range(0, len(packed), step))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before_data + data + chunk(b"IEND", b"")


def with_alpha(grey: np.ndarray, channels: int) -> np.ndarray:
    alpha = grey_picture(grey.shape[0], seed=1)
    return np.stack([grey] * channels + [alpha], axis=-1)


def grey_palette() -> bytes:
    """A palette that turns value v into grey 255 - v."""
    return chunk(b"PLTE", bytes(255 - value for value in range(256) for _ in range(3)))


def pillow_png(grey: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def opencv_png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


# Each writes a grey picture as a PNG of another kind.
WRITERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "grey": lambda grey: png(scanlines(grey), GREY),
    "grey in one chunk": lambda grey: png(scanlines(grey), GREY, data_chunks=1),
    "grey by OpenCV": opencv_png,
    "grey by Pillow": pillow_png,
    "grey with gamma": lambda grey: png(
        scanlines(grey), GREY, before_data=chunk(b"gAMA", struct.pack(">I", 45455))
    ),
    "grey with a transparent value": lambda grey: png(
        scanlines(grey), GREY, before_data=chunk(b"tRNS", b"\0\x05")
    ),
    "interlaced": lambda grey: png(
        b"".join(scanlines(grey[y::dy, x::dx]) for x, y, dx, dy in ADAM7), GREY, interlaced=True
    ),
    "rgb": lambda grey: png(scanlines(np.stack([grey] * 3, axis=-1)), RGB),
    "rgba": lambda grey: png(scanlines(with_alpha(grey, 3)), RGBA),
    "rgba by OpenCV": lambda grey: opencv_png(with_alpha(grey, 3)),
    "grey and alpha": lambda grey: png(scanlines(with_alpha(grey, 1)), GREY_ALPHA),
    "palette": lambda grey: png(scanlines(255 - grey), PALETTE, before_data=grey_palette()),
    "palette with transparency": lambda grey: png(
        scanlines(255 - grey), PALETTE, before_data=grey_palette() + chunk(b"tRNS", bytes(10))
    ),
    "16-bit": lambda grey: png(scanlines(grey.astype(np.uint16) * 257), GREY, bit_depth=16),
    "16-bit rgb": lambda grey: png(
        scanlines(np.stack([grey.astype(np.uint16) * 257] * 3, axis=-1)), RGB, bit_depth=16
    ),
    "16-bit by OpenCV": lambda grey: opencv_png(grey.astype(np.uint16) * 257),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_png_decodes_to_its_grey_values(kind: str) -> None:
    grey = grey_picture()
    decoded = pixels.decode_grey(WRITERS[kind](grey))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, grey)


@pytest.mark.parametrize("bit_depth", [1, 2, 4])
def test_small_bit_depths_are_stretched_to_eight(bit_depth: int) -> None:
    levels = grey_picture() >> (8 - bit_depth)
    bits = np.unpackbits(levels[..., None], axis=-1)[..., -bit_depth:]
    rows = np.packbits(bits.reshape(SIDE_PX, -1), axis=-1)
    decoded = pixels.decode_grey(png(scanlines(rows), GREY, bit_depth=bit_depth))
    np.testing.assert_array_equal(decoded, levels * (255 // (2**bit_depth - 1)))


@given(st.integers(0, 65535))
def test_a_16_bit_value_is_rounded_to_the_nearest_of_8_bits(value: int) -> None:
    data = png(scanlines(np.full((2, 2), value, np.uint16)), GREY, bit_depth=16, size=(2, 2))
    assert pixels.decode_grey(data)[0, 0] == round(value / 257)


@pytest.mark.parametrize("kind", ["grey", "rgba"])
def test_a_picture_that_is_not_square_keeps_its_rows_and_columns(kind: str) -> None:
    grey = grey_picture()[:5]
    image, colour_type = (grey, GREY) if kind == "grey" else (with_alpha(grey_picture(), 3)[:5], RGBA)
    decoded = pixels.decode_grey(png(scanlines(image), colour_type, size=(SIDE_PX, 5)))
    np.testing.assert_array_equal(decoded, grey)


@pytest.mark.parametrize("side_px", [1024, 640, 321, 1000])
@pytest.mark.parametrize("kind", ["grey by OpenCV", "rgba by OpenCV"])
def test_decoding_and_reducing_equals_opencv_with_inter_area(kind: str, side_px: int) -> None:
    data = WRITERS[kind](grey_picture(side_px))
    reference = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(
        pixels.resize(pixels.decode_grey(data), 320),
        cv2.resize(reference, (320, 320), interpolation=cv2.INTER_AREA),
    )


def test_a_picture_of_the_stored_side_stays_as_it_is() -> None:
    grey = grey_picture()
    np.testing.assert_array_equal(pixels.resize(grey, SIDE_PX), grey)


def test_reducing_by_a_whole_factor_averages_blocks() -> None:
    grey = np.kron(np.array([[10, 20], [30, 40]], np.uint8), np.array([[0, 2], [4, 6]], np.uint8))
    assert pixels.resize(grey, 2).tolist() == [[30, 60], [90, 120]]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((7, 7), "at least 8 on a side"),
        ((1, 1), "at least 8 on a side"),
        ((16, 7), "sides of at most 2 to 1"),
        ((7, 16), "sides of at most 2 to 1"),
    ],
)
def test_a_picture_that_is_too_small_or_too_narrow_is_not_resized(
    shape: tuple[int, int], expected: str
) -> None:
    with pytest.raises(ImageError, match=f"{shape[1]} x {shape[0]} pixels; expected {expected}"):
        pixels.resize(np.zeros(shape, np.uint8), 8)


@pytest.mark.parametrize(("height", "width"), [(400, 300), (300, 400), (641, 640)])
def test_a_picture_that_is_not_square_keeps_its_proportions_between_black_bars(
    height: int, width: int
) -> None:
    grey = np.random.default_rng(1).integers(1, 256, (height, width), np.uint8)
    square = pixels.resize(grey, 320)
    assert square.shape == (320, 320)
    rows, columns = (round(320 * side / max(height, width)) for side in (height, width))
    top, left = (320 - rows) // 2, (320 - columns) // 2
    inside = square[top : top + rows, left : left + columns]
    np.testing.assert_array_equal(inside, cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA))
    assert square.astype(int).sum() == inside.astype(int).sum()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (pixels.PngHeader(1024, 1024, 8, 0, False), ""),
        (pixels.PngHeader(1024, 1024, 8, 6, False), "8-bit RGBA"),
        (pixels.PngHeader(1024, 1024, 8, 3, True), "8-bit palette, interlaced"),
        (pixels.PngHeader(2048, 2500, 16, 0, False), "2048 x 2500 pixels, 16-bit grey"),
        (pixels.PngHeader(1024, 1024, 8, 4, False), "8-bit grey and alpha"),
        (pixels.PngHeader(512, 512, 8, 0, False), "512 x 512 pixels"),
    ],
)
def test_what_is_unusual_about_a_file_is_said(header: pixels.PngHeader, expected: str) -> None:
    assert pixels.oddity(header) == expected


@pytest.mark.parametrize("shape", [(16, 16), (16, 12)])
def test_one_value_throughout_is_no_picture(shape: tuple[int, int]) -> None:
    grey = np.full(shape, 7, np.uint8)
    with pytest.raises(ImageError, match="every pixel is 7; expected a picture"):
        pixels.reduce_checked(grey, 16)
    grey[0, 0] = 255
    np.testing.assert_array_equal(pixels.reduce_checked(grey, 16), pixels.resize(grey, 16))


def refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        pixels.decode_grey(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_cut_off_anywhere_is_refused(kind: str) -> None:
    data = WRITERS[kind](grey_picture())
    for end in range(len(data)):
        with pytest.raises(ImageError):
            pixels.decode_grey(data[:end])


@pytest.mark.parametrize("kind", ["grey", "grey in one chunk", "rgba", "16-bit", "interlaced"])
def test_a_single_damaged_byte_is_refused_wherever_it_is(kind: str) -> None:
    data = WRITERS[kind](grey_picture())
    for position in range(len(data)):
        for mask in (0x01, 0x20, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= mask
            with pytest.raises(ImageError):
                pixels.decode_grey(bytes(damaged))


@pytest.mark.parametrize("kind", ["grey", "rgba"])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_file_without_one_of_its_data_chunks_is_refused(kind: str, lost: int) -> None:
    data = WRITERS[kind](grey_picture())
    start = -4
    for _ in range(lost + 1):
        start = data.index(b"IDAT", start + 8) - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    assert refusal(data[:start] + data[end:]).startswith("damaged PNG: ")


@pytest.mark.parametrize(("colour_type", "channels"), [(GREY, 1), (RGBA, 4)])
def test_a_file_with_too_few_rows_is_refused(colour_type: int, channels: int) -> None:
    rows = np.zeros((SIDE_PX // 2, SIDE_PX, channels), np.uint8)
    assert refusal(png(scanlines(rows), colour_type)).startswith("damaged PNG: ")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a PNG: the file is empty"),
        (b"hello world, this is no picture at all", "not a PNG: it starts with b'hello wo'"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "not a PNG"),
        (b"\x89PNG\r\n\x1a\n", "damaged PNG: it doesn't begin with an IHDR chunk"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", bytes(40)), "damaged PNG: it doesn't begin with an IHDR"),
    ],
)
def test_what_is_no_png_is_named(data: bytes, reason: str) -> None:
    assert refusal(data).startswith(reason)


@given(st.binary(max_size=200))
def test_rubbish_behind_a_header_raises_nothing_but_an_image_error(rubbish: bytes) -> None:
    header = WRITERS["grey"](grey_picture())[:33]
    with pytest.raises(ImageError):
        pixels.decode_grey(rubbish)
    with pytest.raises(ImageError):
        pixels.decode_grey(header + rubbish)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_single_coloured_pixel_is_enough_to_refuse(channel: int) -> None:
    image = np.stack([grey_picture()] * 3, axis=-1)
    image[3, 4, channel] ^= 1
    assert refusal(png(scanlines(image), RGB)).startswith("a colour image; expected grey")


def test_a_palette_with_a_colour_that_is_used_is_refused() -> None:
    palette = bytearray(grey_palette())
    palette[8] ^= 0x40
    palette = chunk(b"PLTE", bytes(palette[8:-4]))
    image = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    assert refusal(png(scanlines(image), PALETTE, before_data=palette)).startswith("a colour image")


@pytest.mark.parametrize("colour_type", [GREY, RGBA])
@pytest.mark.parametrize("size", [(8192, 8193), (100_000, 100_000), (2**31 - 1, 2**31 - 1), (0, 16), (16, 0)])
def test_a_header_that_asks_for_too_much_is_refused_without_taking_memory(
    colour_type: int, size: tuple[int, int]
) -> None:
    data = png(bytes(100), colour_type, size=size)
    tracemalloc.start()
    line = refusal(data)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    pixel_bytes = 4 if colour_type == RGBA else 1
    assert line.startswith(
        f"{size[0]} x {size[1]} pixels of {pixel_bytes} bytes; expected 1 to 67,108,864 bytes"
    )
    assert peak_bytes < 1_000_000


@pytest.mark.parametrize(
    ("colour_type", "bit_depth", "side_px"),
    [(GREY, 8, 8192), (GREY, 16, 5792), (RGBA, 8, 4096), (RGBA, 16, 2896)],
)
def test_the_limit_is_of_the_bytes_that_a_picture_takes(
    colour_type: int, bit_depth: int, side_px: int
) -> None:
    within = png(bytes(100), colour_type, bit_depth=bit_depth, size=(side_px, side_px))
    beyond = png(bytes(100), colour_type, bit_depth=bit_depth, size=(side_px, side_px + 8))
    assert "bytes in all" not in refusal(within)
    assert "bytes in all" in refusal(beyond)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's size from /proc")
def test_a_bomb_within_the_limit_does_not_take_more_than_its_pixels() -> None:
    """8192 x 8192 pixels of 8 bits are 64 MiB; the process is allowed a gigabyte of address space more."""
    code = (
        "import resource, struct, sys, zlib\n"
        "from records import pixels\n"
        "from records.errors import ImageError\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)\n"
        "try:\n"
        "    pixels.decode_grey(sys.stdin.buffer.read())\n"
        "except ImageError:\n"
        "    print('refused')\n"
    )
    bomb = png(bytes(100), GREY, size=(8192, 8192))
    result = subprocess.run(
        [sys.executable, "-c", code],
        input=bomb,
        capture_output=True,
        cwd=Path(pixels.__file__).parents[1],
        check=False,
    )
    assert result.stdout == b"refused\n", result.stderr.decode()


def test_a_header_is_read_without_the_rest() -> None:
    data = WRITERS["interlaced"](grey_picture())
    assert pixels.read_header(data[:33]) == pixels.PngHeader(SIDE_PX, SIDE_PX, 8, GREY, True)


@pytest.mark.real_data
def test_real_images_decode_as_opencv_decodes_them(nih: Path) -> None:
    colour_types = []
    for path in sorted((nih / "images").glob("*.png")):
        data = path.read_bytes()
        header = pixels.read_header(data)
        colour_types.append(header.colour_type)
        assert header[:3] == (1024, 1024, 8)
        # Every image of the rarer kind, and some of the common one.
        if header.colour_type == GREY and len(colour_types) % 8:
            continue
        reference = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        grey = pixels.decode_grey(data)
        np.testing.assert_array_equal(grey, reference)
        np.testing.assert_array_equal(
            pixels.resize(grey, 320), cv2.resize(reference, (320, 320), interpolation=cv2.INTER_AREA)
        )
    assert (colour_types.count(GREY), colour_types.count(RGBA)) == (312, 8)


@pytest.mark.real_data
def test_a_real_image_that_is_damaged_is_refused(nih: Path) -> None:
    data = (nih / "images" / "00000001_000.png").read_bytes()
    for position in np.linspace(0, len(data) - 1, 40).astype(int):
        damaged = bytearray(data)
        damaged[position] ^= 1
        for wrong in (bytes(damaged), data[:position]):
            with pytest.raises(ImageError):
                pixels.decode_grey(wrong)
