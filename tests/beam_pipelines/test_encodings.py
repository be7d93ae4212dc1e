"""How pictures are stored: encodings, channels and sides."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from conversions import error_of, records_of

from beam_pipelines import audit, convert
from records import manifest, picture, pixels


def originals(source) -> dict[str, np.ndarray]:
    files = (source.folder / "images").rglob("*.png")
    return {path.name: cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in files}


@pytest.mark.parametrize(
    ("encoding", "channels", "side_px"),
    [("raw", 3, 320), ("raw", 1, 100), ("png", 1, 320), ("png", 3, 64), ("jpeg", 1, 320), ("jpeg", 3, 128)],
)
def test_pictures_are_stored_as_asked_and_the_statistics_are_of_what_is_stored(
    drawn, tmp_path, capsys, encoding, channels, side_px
):
    output = tmp_path / "out"
    flags = drawn.arguments(output, encoding=encoding, stored_channels=channels, image_side=side_px)
    assert convert.main(flags) == 0
    made = manifest.load(str(output))
    grey = originals(drawn)
    train = []
    for split, record in records_of(output, with_split=True):
        stored = picture.decode(record)
        assert record.encoding == encoding
        assert stored.shape == (side_px, side_px, channels)
        assert (stored == stored[..., :1]).all()
        difference = stored[..., 0].astype(int) - pixels.resize(grey[record.image_id], side_px)
        assert abs(difference).max() <= (12 if encoding == "jpeg" else 0)
        if split == "train":
            train.append(stored[..., 0])
    assert made.statistics["mean"] == pytest.approx(np.mean(train), rel=1e-9)
    assert made.statistics["deviation"] == pytest.approx(np.std(train), rel=1e-9)
    assert made.image.get("jpeg_quality") == (95 if encoding == "jpeg" else None)
    capsys.readouterr()
    assert audit.main([str(output), "--labels", str(drawn.table)]) == 0


def test_a_lower_jpeg_quality_takes_fewer_bytes(drawn, tmp_path):
    sizes = []
    for quality in (50, 95):
        output = tmp_path / str(quality)
        assert convert.main(drawn.arguments(output, encoding="jpeg", jpeg_quality=quality)) == 0
        made = manifest.load(str(output))
        assert made.image["jpeg_quality"] == quality
        sizes.append(sum(shard.size_bytes for shard in made.splits["train"].shards))
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"jpeg_quality": 90}, "--jpeg_quality goes with --encoding jpeg"),
        ({"encoding": "jpeg", "jpeg_quality": 0}, "--jpeg_quality=0; expected 1 to 100"),
        ({"image_side": 1025}, "--image_side=1025; expected 8 to 1024"),
        ({"image_side": 7}, "--image_side=7; expected 8 to 1024"),
    ],
)
def test_settings_that_make_no_picture_are_refused(drawn, tmp_path, capsys, changes, expected):
    assert expected in error_of(capsys, drawn.arguments(tmp_path / "out", **changes), 2)


def test_another_encoding_into_the_same_folder_is_refused(drawn, converted, capsys):
    line = error_of(capsys, drawn.arguments(converted, encoding="png"), 1)
    assert "holds another data set (encoding is raw, asked for is png)" in line


def test_images_smaller_than_the_asked_side_are_quarantined(drawn, tmp_path, capsys):
    line = error_of(capsys, drawn.arguments(tmp_path / "out", image_side=512), 1)
    assert "60 of 60 images failed the checks" in line
    assert "400 x 400 pixels; expected at least 512 on a side" in line
