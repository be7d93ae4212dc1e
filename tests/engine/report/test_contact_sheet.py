from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from fabricated import HOSTILE_ID, SIDE_PX, make_record

from engine.report import contact_sheet
from records.labels import FINDINGS

TILE = 96


def test_each_tile_shows_its_record_unchanged_at_its_own_size() -> None:
    records = [make_record(number) for number in range(3)]
    sheet = contact_sheet.draw(records, columns=2, tile_px=SIDE_PX)
    assert sheet.dtype == np.uint8
    assert sheet.shape[2] == 3
    for number, record in enumerate(records):
        assert _contains(sheet, record.pixels()[..., 0]), f"tile {number}"


def test_a_sheet_is_no_wider_than_its_records_need() -> None:
    one, two, nine = (contact_sheet.draw([make_record(n) for n in range(count)]) for count in (1, 2, 9))
    assert one.shape[1] < two.shape[1] < nine.shape[1]
    assert one.shape[0] == two.shape[0]
    assert nine.shape[0] > 2 * one.shape[0]


def test_captions_stay_inside_their_column_whatever_the_text() -> None:
    plain = [make_record(0), make_record(1)]
    wordy = [make_record(0, image_id="W" * 300, findings=FINDINGS), make_record(1)]
    before, after = (contact_sheet.draw(records, columns=2, tile_px=TILE) for records in (plain, wordy))
    # The second column, half of the gap before it included.
    middle = before.shape[1] // 2
    assert (before[:, middle:] == after[:, middle:]).all()
    assert (before[TILE + 10 :, :middle] != after[TILE + 10 :, :middle]).any()


def test_hostile_names_are_drawn_as_text() -> None:
    records = [make_record(0, image_id=name) for name in (HOSTILE_ID, "$x^2$ \n\0", "肺.png")]
    assert contact_sheet.draw(records, tile_px=TILE).any()


def test_the_png_file_holds_the_sheet(tmp_path: Path) -> None:
    sheet = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    contact_sheet.write_png(tmp_path / "sheet.png", sheet)
    assert (cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1] == sheet).all()


@pytest.mark.parametrize(
    ("age_years", "said"), [(58.0, "58 y"), (0.5, "6 months"), (float("nan"), "age unknown")]
)
def test_ages_are_said_in_words(age_years: float, said: str) -> None:
    record = dataclasses.replace(make_record(0), age_years=age_years)
    assert contact_sheet.circumstances(record) == f"{said} · M · PA"


def _contains(sheet: np.ndarray, picture: np.ndarray) -> bool:
    """Tell whether the picture stands somewhere in the sheet, pixel by pixel, in grey."""
    windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], picture.shape)
    firsts = np.argwhere((windows[..., 0, :] == picture[0]).all(axis=-1))
    return any((sheet[y : y + SIDE_PX, x : x + SIDE_PX] == picture[..., None]).all() for y, x in firsts)
