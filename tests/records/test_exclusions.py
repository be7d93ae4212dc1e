"""Lists of images to leave out."""

from __future__ import annotations

from pathlib import Path

import pytest

from records.errors import TableError
from records.exclusions import read_exclusions
from records.table import ImageTable, read_table

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    rows = [f"{number:08d}_000.png,Mass,0,{number},50,M,PA,1,1,1,1" for number in range(1, 5)]
    (tmp_path / "table.csv").write_text("\n".join([HEADER, *rows]))
    return read_table(str(tmp_path / "table.csv"))


def read(tmp_path: Path, table: ImageTable, text: str) -> dict[str, str]:
    (tmp_path / "bad.csv").write_text(text)
    return read_exclusions(str(tmp_path / "bad.csv"), table)


def test_columns_of_a_list_are_its_reasons(tmp_path: Path, table: ImageTable) -> None:
    text = (
        ",Index,Inverted,Not frontal,Rotated\n"
        "0,00000001_000.png,1.0,0.0,0.0\n"
        "1,00000002_000.png,0,1,1\n"
        "2,00000003_000.png,,0,\n"
        "3,00000001_000.png,0,0,1\n"
    )
    assert read(tmp_path, table, text) == {
        "00000001_000.png": "Inverted, Rotated (bad.csv)",
        "00000002_000.png": "Not frontal, Rotated (bad.csv)",
    }


def test_a_list_of_what_was_quarantined_is_one(tmp_path: Path, table: ImageTable) -> None:
    text = "Image Index,reason\n00000001_000.png,\"not a PNG: it starts with b'x, y'\"\n"
    assert read(tmp_path, table, text) == {"00000001_000.png": "not a PNG: it starts with b'x, y' (bad.csv)"}


def test_a_table_of_names_alone_will_do(tmp_path: Path, table: ImageTable) -> None:
    assert read(tmp_path, table, ",Image Index\n0,00000003_000.png\n") == {
        "00000003_000.png": "listed (bad.csv)"
    }


def test_a_plain_list_of_names_will_do(tmp_path: Path, table: ImageTable) -> None:
    assert read(tmp_path, table, "00000001_000.png\r\n\r\n00000004_000.png") == {
        "00000001_000.png": "listed (bad.csv)",
        "00000004_000.png": "listed (bad.csv)",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        ("name,Rotated\n00000001_000.png,1\n", "no column of image names among `name`, `Rotated`"),
        ("Index,Rotated\n00000009_000.png,1\n", "`00000009_000.png` is not in table.csv"),
        ("Index,Rotated\n00000001_000.png,yes\n", "`yes` as a reason; expected 0 or 1"),
        ("Index,Rotated\n00000001_000.png\n", "line 2: 1 cells; expected 2"),
    ],
)
def test_a_list_that_is_no_such_list_is_refused(
    tmp_path: Path, table: ImageTable, text: str, expected: str
) -> None:
    with pytest.raises(TableError) as caught:
        read(tmp_path, table, text)
    assert expected in str(caught.value)


@pytest.mark.real_data
def test_the_public_list_of_bad_images_is_read_with_its_reasons(nih: Path) -> None:
    real = read_table(str(nih / "labels" / "Data_Entry_2017_v2020.csv.gz"))
    found = read_exclusions(str(nih / "labels" / "cxr14_bad_labels.csv"), real)
    assert len(found) == 257  # in 432 rows
    assert found["00000583_024.png"] == "Inverted (cxr14_bad_labels.csv)"
    assert {reason.split(" (")[0] for reason in found.values()} >= {"Inverted", "Not frontal", "Rotated"}
