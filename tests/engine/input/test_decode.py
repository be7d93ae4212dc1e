"""Compressed pictures to pixels: the accurate transform's values, and nothing outside of a picture's row."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf

from engine.input import decode
from engine.input.reader import ShardReader
from records import index, picture, storage
from records.errors import RecordError

SIDE_PX = 320
ENCODINGS = ("png", "jpeg")
# What no decoder leaves in a row by chance: every value differs from its neighbours.
UNTOUCHED = np.random.default_rng(9).integers(0, 256, (3, SIDE_PX, SIDE_PX, 3), np.uint8)


def chest(seed: int, side_px: int = SIDE_PX) -> np.ndarray:
    """(side_px, side_px) uint8: a bright middle, dark lungs, ribs, a burnt-in mark and a film's grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : side_px * 1j, -1 : 1 : side_px * 1j]
    lungs = np.exp(-(((np.abs(x) - 0.45) / 0.28) ** 2) - (y / 0.65) ** 2)
    ribs = np.sin(18 * (y + 0.3 * np.abs(x) + 0.02 * rng.normal())) > 0.6
    grey = 190 - 150 * lungs + 25 * ribs * lungs + rng.normal(0, 4, y.shape)
    grey[10:30, 10:40] = 255
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def stored(grey: np.ndarray, encoding: str, channels: int = 1) -> np.ndarray:
    data = picture.encode(grey, channels=channels, encoding=encoding, jpeg_quality=95)
    return np.frombuffer(data, np.uint8)


def rows_of(channels: int) -> np.ndarray:
    """(3, S, S, C) uint8, a batch of which the middle row is to be filled."""
    return np.ascontiguousarray(UNTOUCHED[..., :channels])


def decoded(data: np.ndarray, channels: int) -> np.ndarray:
    """Decode into the middle one of three rows, check that the others stay, and return the middle one."""
    rows = rows_of(channels)
    decode.into(data, rows[1])
    assert np.array_equal(rows[[0, 2]], rows_of(channels)[[0, 2]])
    return rows[1]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_pixel_is_the_one_that_tensorflow_decodes_accurately(
    encoding: str, channels: int, seed: int
) -> None:
    data = stored(chest(seed), encoding, channels)
    if encoding == "png":
        wanted = tf.io.decode_png(data.tobytes(), channels=channels)
    else:
        wanted = tf.io.decode_jpeg(data.tobytes(), channels=channels, dct_method="INTEGER_ACCURATE")
    assert np.array_equal(decoded(data, channels), wanted)


def test_the_pictures_tell_the_accurate_jpeg_transform_from_the_fast_one() -> None:
    data = stored(chest(1), "jpeg").tobytes()
    fast, accurate = (tf.io.decode_jpeg(data, dct_method=f"INTEGER_{way}") for way in ("FAST", "ACCURATE"))
    assert not np.array_equal(fast, accurate)


@pytest.mark.parametrize("channels", [1, 3])
def test_pngs_come_back_to_the_pixel(channels: int) -> None:
    grey = chest(4)
    pixels = decoded(stored(grey, "png", channels), channels)
    assert np.array_equal(pixels, np.repeat(grey[..., None], channels, axis=2))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_colours_come_out_in_the_order_red_green_blue(encoding: str) -> None:
    blue_green_red = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    blue_green_red[...] = (20, 90, 200)
    data = cv2.imencode({"png": ".png", "jpeg": ".jpg"}[encoding], blue_green_red)[1].ravel()
    assert np.abs(decoded(data, 3).astype(int) - (200, 90, 20)).max() <= (0 if encoding == "png" else 2)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_grey_picture_fills_three_channels_and_a_grey_looking_one_of_three_fills_one(encoding: str) -> None:
    one, three = (stored(chest(5), encoding, channels) for channels in (1, 3))
    assert np.array_equal(decoded(one, 3), np.repeat(decoded(one, 1), 3, axis=2))
    assert np.array_equal(decoded(three, 1), decoded(three, 3)[..., :1])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("side_px", [1, SIDE_PX - 1, SIDE_PX + 1, 2 * SIDE_PX])
def test_a_picture_of_another_size_is_refused_and_writes_nothing(
    encoding: str, channels: int, side_px: int
) -> None:
    rows = rows_of(channels)
    wanted = rf"of shape \({side_px}, {side_px}, {channels}\); expected \(320, 320, {channels}\)$"
    with pytest.raises(RecordError, match=wanted):
        decode.into(stored(cv2.resize(chest(6), (side_px, side_px)), encoding, channels), rows[1])
    assert np.array_equal(rows, rows_of(channels))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_picture_of_as_many_pixels_in_another_shape_is_refused(encoding: str) -> None:
    data = stored(chest(6).reshape(SIDE_PX // 2, 2 * SIDE_PX), encoding)
    with pytest.raises(RecordError, match=r"of shape \(160, 640, 1\)"):
        decode.into(data, rows_of(1)[1])


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("damaged", ["empty", "no picture", "without its head", "another head", "cut off"])
def test_damaged_bytes_are_undecodable_and_write_nothing(encoding: str, damaged: str) -> None:
    data, rows = stored(chest(7), encoding), rows_of(1)
    bad = {
        "empty": data[:0],
        "no picture": np.full(500, 7, np.uint8),
        "without its head": data[20:],
        "another head": np.concatenate([data[:12] ^ 255, data[12:]]),
        "cut off": data[: len(data) // 2],
    }[damaged]
    with pytest.raises(RecordError, match=r"^the picture is undecodable; expected \(320, 320, 1\)$"):
        decode.into(bad, rows[1])
    assert np.array_equal(rows, rows_of(1))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_damaged_picture_in_a_batch_names_its_record(tmp_path, write_data_set, encoding: str) -> None:
    data_set = write_data_set(tmp_path, encoding=encoding)
    train = data_set.splits["train"]
    row = index.from_bytes(storage.read_bytes(data_set.locate(train.index)), "index")[9]
    path = Path(data_set.locate(train.shards[row["shard"]]))
    shard = np.fromfile(path, np.uint8)
    shard[row["image_offset"] : row["image_offset"] + 20] = 0
    shard.tofile(path)
    place = re.escape(f"{path}: the record at byte {row['payload_offset']}: the picture is undecodable; ")
    wanted = place + r"expected \(32, 32, 1\): run the conversion again with --resume$"
    with ShardReader(data_set, "train", verify=False) as reader:
        with pytest.raises(RecordError, match=wanted):
            reader.gather(np.arange(7, 14))
        reader.gather(np.array([7, 8, 10]))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_batch_of_pictures_of_another_size_names_the_first_record(
    tmp_path, write_data_set, encoding: str
) -> None:
    data_set = write_data_set(tmp_path, encoding=encoding)
    smaller = dataclasses.replace(data_set, image={**data_set.image, "side_px": 31})
    wanted = (
        r"train-00002-of-00003\.tfrecord: the record at byte \d+: the picture is of shape \(32, 32, 1\); "
    )
    with (
        ShardReader(smaller, "train") as reader,
        pytest.raises(RecordError, match=wanted + r"expected \(31, 31, 1\): run the conversion again"),
    ):
        reader.gather(np.array([19, 0]))
