"""The contact sheet of augmentation: which records it shows, and that it shows what training sees."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine import config as configs
from engine.config import AugmentConfig
from engine.input import transforms
from engine.input.reader import ShardReader
from engine.model.augment import Augment
from engine.report import augmented_sheet
from records.errors import UsageError
from records.example import Record
from records.labels import FINDINGS
from records.manifest import Manifest

CONFIG = AugmentConfig(
    rotation_degrees=10, zoom=0.1, shift=0.05, brightness=0.1, contrast=0.1, flip=False, originals=True
)
SEED = 17


def _pictures(tiles: list[list[Record]]) -> np.ndarray:
    """(records, 1 + views, S, S, C) uint8."""
    return np.array([[record.pixels() for record in row] for row in tiles])


@pytest.mark.parametrize("originals", [True, False])
def test_a_row_is_the_stored_picture_and_what_a_run_sees_of_it_in_each_epoch(
    data_set: Manifest, originals: bool
) -> None:
    config = dataclasses.replace(CONFIG, originals=originals)
    tiles = augmented_sheet.tiles(data_set, config, SEED, 3, 2)
    with ShardReader(data_set, "train") as reader:
        ids = reader.identities()[0].tolist()
        rows = np.array([ids.index(row[0].image_id) for row in tiles])
        stored, _ = reader.gather(rows)
    pictures = _pictures(tiles)
    np.testing.assert_array_equal(pictures[:, 0], stored)
    for epoch in range(2):
        repeats = np.full(3, 0 if originals else 1)
        drawn = transforms.draw(config, SEED, epoch, rows, repeats)
        np.testing.assert_array_equal(pictures[:, 1 + epoch], Augment()(stored, drawn))
        assert (pictures[:, 1 + epoch] != stored).any()


def test_a_tile_is_named_by_image_epoch_and_findings(data_set: Manifest) -> None:
    ((first, *views), *_) = augmented_sheet.tiles(data_set, CONFIG, SEED, 2, 3)
    assert [view.image_id for view in views] == [f"{first.image_id}, epoch {epoch}" for epoch in range(3)]
    assert all((view.labels == first.labels).all() for view in views)


def test_the_sheet_is_written_with_a_row_a_record(data_set: Manifest, tmp_path: Path) -> None:
    shown = augmented_sheet.write(data_set, CONFIG, SEED, tmp_path / "small.png", records=2, views=3)
    augmented_sheet.write(data_set, CONFIG, SEED, tmp_path / "large.png", records=4, views=3)
    assert len(shown) == len(set(shown)) == 2
    small, large = (cv2.imread(str(tmp_path / name)) for name in ("small.png", "large.png"))
    assert small.shape[1] == large.shape[1]
    assert large.shape[0] == pytest.approx(2 * small.shape[0], rel=0.02)
    # Four tiles of 320 px and their gaps.
    assert 4 * 320 < small.shape[1] < 4.3 * 320


def test_the_command_draws_the_augmentation_and_the_seed_of_a_config(
    data_set: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    settings = configs.load("configs/baseline.yaml")
    assert augmented_sheet.run(data_set.location, "configs/baseline.yaml", str(tmp_path / "run.png")) == 0
    assert capsys.readouterr().err == f"{tmp_path / 'run.png'}: 6 images\n"
    augmented_sheet.write(data_set, settings.augment, settings.train.seed, tmp_path / "written.png")
    assert (tmp_path / "run.png").read_bytes() == (tmp_path / "written.png").read_bytes()


def test_a_command_without_config_file_or_augmentation_is_wrong_usage(
    data_set: Manifest, tmp_path: Path
) -> None:
    png = str(tmp_path / "sheet.png")
    with pytest.raises(UsageError, match="--augmented without --config"):
        augmented_sheet.run(data_set.location, None, png)
    with pytest.raises(UsageError, match="--config without --augmented"):
        augmented_sheet.run(data_set.location, "configs/baseline.yaml", None)
    settings = configs.load("configs/baseline.yaml")
    off = AugmentConfig(0, 0, 0, 0, 0, flip=False, originals=True)
    path = tmp_path / "off.yaml"
    path.write_text(dataclasses.replace(settings, augment=off).to_yaml(), encoding="utf-8")
    with pytest.raises(UsageError, match=r"off\.yaml: every range of `augment` is 0"):
        augmented_sheet.run(data_set.location, str(path), png)
    assert not (tmp_path / "sheet.png").exists()


def test_a_sheet_begins_with_the_rarest_findings_and_shows_none_twice_before_all_are_shown() -> None:
    labels = np.zeros((40, 14), np.uint8)
    labels[:20, 0] = 1
    labels[[7, 30], 13] = 1
    labels[31:34, 4] = 1
    positives = np.arange(14, 0, -1) * 100
    assert augmented_sheet.choose(labels, positives, 5).tolist() == [7, 31, 0, 30, 32]


def test_records_without_findings_come_last_and_no_record_twice() -> None:
    labels = np.zeros((4, 14), np.uint8)
    labels[2, 3] = 1
    assert augmented_sheet.choose(labels, np.ones(14), 9).tolist() == [2, 0, 1, 3]
    assert augmented_sheet.choose(labels[:0], np.ones(14), 9).tolist() == []


def test_the_first_row_has_the_rarest_finding_of_the_split(data_set: Manifest) -> None:
    positives = data_set.splits["train"].positives
    fewest = min(count for count in positives.values() if count)
    ((first, _), *_) = augmented_sheet.tiles(data_set, CONFIG, SEED, 3, 1)
    shown = [name for name, value in zip(FINDINGS, first.labels, strict=True) if value]
    assert fewest in [positives[name] for name in shown]


def test_an_empty_sheet_or_split_is_refused(data_set: Manifest) -> None:
    for records, views in ((0, 1), (1, 0)):
        with pytest.raises(UsageError, match=f"{records} records in {views} views; expected at least 1"):
            augmented_sheet.tiles(data_set, CONFIG, SEED, records, views)
    empty = dataclasses.replace(data_set.splits["train"], images=0)
    without = dataclasses.replace(data_set, splits={**data_set.splits, "train": empty})
    with pytest.raises(UsageError, match="the train split is empty"):
        augmented_sheet.tiles(without, CONFIG, SEED, 1, 1)
