from __future__ import annotations

import gzip
import hashlib
import math
from pathlib import Path

import numpy as np
import pytest

from records import labels, table
from records.errors import StorageError, TableError

HEADER_V2020 = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
HEADER_2017 = HEADER_V2020 + ","

# Counts per finding of the first release and of the corrected one.
PUBLISHED_COUNTS = {
    "Infiltration": (19870, 19894),
    "Effusion": (13307, 13317),
    "Atelectasis": (11535, 11559),
    "Nodule": (6323, 6331),
    "Mass": (5746, 5782),
    "Pneumothorax": (5298, 5302),
    "Consolidation": (4667, 4667),
    "Pleural_Thickening": (3385, 3385),
    "Cardiomegaly": (2772, 2776),
    "Emphysema": (2516, 2516),
    "Edema": (2303, 2303),
    "Fibrosis": (1686, 1686),
    "Pneumonia": (1353, 1431),
    "Hernia": (227, 227),
    "No Finding": (60412, 60361),
}
REAL_FILES = ("Data_Entry_2017.csv.gz", "Data_Entry_2017_v2020.csv.gz")


def row(
    patient: object = 1,
    *,
    image: str = "",
    findings: str = "Mass",
    follow_up: str = "0",
    age: str = "58",
    sex: str = "M",
    view: str = "PA",
) -> str:
    image = image or f"{int(str(patient)):08d}_000.png"
    return f"{image},{findings},{follow_up},{patient},{age},{sex},{view},2682,2749,0.143,0.143"


def write(folder: Path, *rows: str, header: str = HEADER_2017, end: str = "\n") -> str:
    path = folder / "table.csv"
    path.write_bytes((end.join([header, *rows]) + end).encode())
    return str(path)


def refusal(location: str) -> str:
    with pytest.raises(TableError) as caught:
        table.read_table(location)
    line = str(caught.value)
    assert line.startswith(location)
    assert "\n" not in line
    return line


def test_every_column_is_read_with_its_type_in_the_order_of_the_file(tmp_path: Path) -> None:
    rows = [row(7, findings="Mass|Edema", follow_up="3", age="21"), row(2, findings="No Finding", sex="F")]
    read = table.read_table(write(tmp_path, *rows, row(5, view="AP")))
    assert len(read) == 3
    assert read.name == "table.csv"
    assert read.image_ids.tolist() == ["00000007_000.png", "00000002_000.png", "00000005_000.png"]
    assert read.patient_ids.tolist() == [7, 2, 5]
    assert [labels.decode(vector) for vector in read.labels] == ["Mass|Edema", "No Finding", "Mass"]
    assert read.follow_up.tolist() == [3, 0, 0]
    assert read.age_years.tolist() == [21, 58, 58]
    assert read.sex.tolist() == ["M", "F", "M"]
    assert read.view.tolist() == ["PA", "PA", "AP"]
    assert read.labels.dtype == np.uint8
    assert read.age_years.dtype == np.float32
    assert read.patient_ids.dtype == read.follow_up.dtype == np.int64


@pytest.mark.parametrize(
    ("cell", "age_years"),
    [("058Y", 58), ("006M", 0.5), ("004D", 4 / 365.25), ("000Y", 0), ("122Y", 122), ("58", 58), ("8", 8)],
)
def test_an_age_is_read_in_its_unit(tmp_path: Path, cell: str, age_years: float) -> None:
    read = table.read_table(write(tmp_path, row(age=cell)))
    assert read.age_years[0] == pytest.approx(age_years, rel=1e-6)


@pytest.mark.parametrize("cell", ["123Y", "148Y", "414Y", "123", "999999999D"])
def test_an_impossible_age_is_not_a_number(tmp_path: Path, cell: str) -> None:
    assert math.isnan(table.read_table(write(tmp_path, row(age=cell))).age_years[0])


def test_the_release_is_told_by_the_ages_and_not_by_the_name(tmp_path: Path) -> None:
    assert table.read_table(write(tmp_path, row(age="058Y"))).release == "2017"
    assert table.read_table(write(tmp_path, row(age="58"))).release == "v2020"


def test_plain_gzipped_and_crlf_tables_read_alike(tmp_path: Path) -> None:
    rows = [row(1, findings="Hernia"), row(2)]
    plain = table.read_table(write(tmp_path, *rows))
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress((tmp_path / "table.csv").read_bytes()))
    gzipped = table.read_table(str(packed))
    crlf = table.read_table(write(tmp_path, *rows, end="\r\n"))
    without_comma = table.read_table(write(tmp_path, *rows, header=HEADER_V2020))
    assert gzipped.sha256 == plain.sha256
    for other in (gzipped, crlf, without_comma):
        np.testing.assert_array_equal(other.image_ids, plain.image_ids)
        np.testing.assert_array_equal(other.labels, plain.labels)
        np.testing.assert_array_equal(other.view, plain.view)


def test_the_hash_is_that_of_the_uncompressed_file(tmp_path: Path) -> None:
    location = write(tmp_path, row())
    assert table.read_table(location).sha256 == hashlib.sha256(Path(location).read_bytes()).hexdigest()


@pytest.mark.parametrize("column", table.COLUMNS)
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    line = refusal(write(tmp_path, row(), header=HEADER_2017.replace(column, "Other")))
    assert f"no column `{column}`;" in line
    assert "`Other`" in line


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"findings": "Pneumonya"}, "Finding Labels: unknown finding `Pneumonya`"),
        ({"findings": ""}, "Finding Labels: unknown finding ``"),
        ({"findings": "Mass|Mass"}, "Finding Labels: the finding `Mass` stands twice"),
        ({"findings": "No Finding|Mass"}, "Finding Labels: `No Finding` stands beside"),
        ({"age": "old"}, "Patient Age: `old` is no age"),
        ({"age": ""}, "Patient Age: `` is no age"),
        ({"age": "Y"}, "Patient Age: `Y` is no age"),
        ({"age": "-5"}, "Patient Age: `-5` is no age"),
        ({"age": "58W"}, "Patient Age: `58W` is no age"),
        ({"age": "²"}, "Patient Age: `²` is no age"),
        ({"age": "9" * 400}, "is no age"),
        ({"follow_up": "x"}, "Follow-up #: `x` is not a whole number"),
        ({"follow_up": "-1"}, "Follow-up #: `-1` is not a whole number"),
        ({"follow_up": "1" * 30}, "is not a whole number"),
        ({"patient": "1" * 30, "image": "00000003_000.png"}, "Patient ID:"),
        ({"patient": "0_3", "image": "00000003_000.png"}, "Patient ID: `0_3` is not a whole number"),
        ({"patient": "", "image": "00000003_000.png"}, "Patient ID: `` is not a whole number"),
        ({"sex": "X"}, "Patient Gender is `X`; expected M or F"),
        ({"sex": ""}, "Patient Gender is ``; expected M or F"),
        ({"view": "LL"}, "View Position is `LL`; expected PA or AP"),
        ({"image": "00000004_000.png"}, "image 00000004_000.png beside patient 3"),
        ({"image": "3_000.png"}, "image 3_000.png beside patient 3"),
    ],
)
def test_a_wrong_cell_is_refused_with_its_line(tmp_path: Path, wrong: dict[str, str], reason: str) -> None:
    line = refusal(write(tmp_path, row(1), row(2), row(**{"patient": 3, **wrong}), row(9)))
    assert ": line 4: " in line
    assert reason in line


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_blank_line_between_rows_is_refused_with_its_line(tmp_path: Path, end: str) -> None:
    line = refusal(write(tmp_path, row(1), row(2), "", row(3), "", row(4, age="old"), end=end))
    assert ": line 4: blank; " in line


def test_blank_lines_at_the_end_are_no_rows(tmp_path: Path) -> None:
    assert len(table.read_table(write(tmp_path, row(1), row(2), "", "", end="\r\n"))) == 2


@pytest.mark.parametrize(("first", "other"), [("58", "058Y"), ("058Y", "58"), ("004D", "58")])
def test_ages_of_both_releases_are_refused_with_the_line(tmp_path: Path, first: str, other: str) -> None:
    line = refusal(write(tmp_path, row(1, age=first), row(2, age=first), row(3, age=other)))
    assert f": line 4: Patient Age `{other}` below `{first}`; expected one spelling" in line


def test_an_image_that_stands_twice_is_named(tmp_path: Path) -> None:
    line = refusal(write(tmp_path, row(1), row(2), row(1), row(2)))
    assert "00000001_000.png stands twice" in line
    assert "entry 3" in line
    assert "2 repeated in all" in line


@pytest.mark.parametrize("cells", [1, 2, 6])
def test_a_row_that_was_cut_off_is_refused_with_its_line(tmp_path: Path, cells: int) -> None:
    cut = ",".join(row(2).split(",")[:cells])
    assert ": line 3: " in refusal(write(tmp_path, row(1), cut))


@pytest.mark.parametrize("rows", [[row(1) + ",x,y"], [row(1) + ",x,y", row(2)], [row(1), row(2) + ",x,y,z"]])
def test_a_row_longer_than_the_header_is_refused(tmp_path: Path, rows: list[str]) -> None:
    assert "not a CSV table" in refusal(write(tmp_path, *rows))


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    assert "no rows below the header" in refusal(write(tmp_path))


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\x89PNG\r\n\x1a\n\x00\xff", b'a,"b\n1,2\n'])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    assert "not a CSV table" in refusal(str(path))


def test_text_that_is_another_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("hello world\n")
    assert "no column `Image Index`" in refusal(str(path))


def _damaged_gzips() -> dict[str, bytes]:
    whole = gzip.compress("\n".join([HEADER_2017, *(row(n) for n in range(1, 50))]).encode())
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    return {
        "cut in the middle": whole[: len(whole) // 2],
        "cut in the checksum": whole[:-5],
        "cut in the header": whole[:5],
        "flipped byte": bytes(flipped),
        "flipped checksum": whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:],
        "rubbish behind": whole + b"rubbish",
    }


@pytest.mark.parametrize("damage", _damaged_gzips())
def test_a_damaged_gzip_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(_damaged_gzips()[damage])
    assert "the gzip file is damaged" in refusal(str(path))


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"absent\.csv: can't be read: no such file"):
        table.read_table(str(tmp_path / "absent.csv"))


def test_a_list_is_read_without_its_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"00000001_000.png\r\n\r\n  00000002_000.png \n00000003_000.png")
    assert table.read_list(str(path)) == ["00000001_000.png", "00000002_000.png", "00000003_000.png"]


@pytest.mark.parametrize(
    ("text", "reason"), [("", "the list is empty"), ("\n \n", "the list is empty"), ("a\nb\na\n", "a stands")]
)
def test_a_wrong_list_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(TableError, match=reason):
        table.read_list(str(path))


BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


def _boxes(folder: Path, *rows: str, header: str = BOX_HEADER) -> str:
    path = folder / "boxes.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def test_a_box_is_read_and_infiltrate_becomes_infiltration(tmp_path: Path) -> None:
    location = _boxes(
        tmp_path, "00000001_000.png,Infiltrate,1.5,2,3,4,,,", "00000002_000.png,Mass,5,6,7,8,,,"
    )
    assert table.read_boxes(location) == [
        table.Box("00000001_000.png", "Infiltration", 1.5, 2.0, 3.0, 4.0),
        table.Box("00000002_000.png", "Mass", 5.0, 6.0, 7.0, 8.0),
    ]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [("Masses,1,2,3,4", "unknown finding `Masses`"), ("Mass,1,2,x,4", "four numbers"), ("Mass,1,2", "four")],
)
def test_a_wrong_box_is_refused_with_its_line(tmp_path: Path, wrong: str, reason: str) -> None:
    location = _boxes(tmp_path, "00000001_000.png,Mass,1,2,3,4,,,", f"00000002_000.png,{wrong},,,")
    with pytest.raises(TableError, match=f": line 3: .*{reason}"):
        table.read_boxes(location)


@pytest.mark.parametrize(
    "numbers",
    ["nan,2,3,4", "1,nan,3,4", "1,2,nan,4", "1,2,3,inf", "inf,2,3,4", "1,-inf,3,4", "-1,2,3,4", "1,2,0,4"]
    + ["1,2,3,-4", "1,2,3,1e999"],
)
def test_a_box_that_is_no_rectangle_is_refused_with_its_line(tmp_path: Path, numbers: str) -> None:
    location = _boxes(tmp_path, "00000001_000.png,Mass,1,2,3,4,,,", f"00000002_000.png,Mass,{numbers},,,")
    with pytest.raises(TableError, match=r": line 3: the box is .*; expected x and y of at least 0"):
        table.read_boxes(location)


def test_a_wrong_box_below_a_blank_line_is_refused_with_the_blank_line(tmp_path: Path) -> None:
    location = _boxes(tmp_path, "", "00000002_000.png,Masses,1,2,3,4,,,")
    with pytest.raises(TableError, match=": line 2: blank"):
        table.read_boxes(location)


@pytest.mark.parametrize("header", ["Image Index,Finding Label,x", HEADER_V2020])
def test_a_box_list_with_other_columns_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(TableError, match="expected `Image Index`, `Finding Label` and four numbers"):
        table.read_boxes(_boxes(tmp_path, header=header))


@pytest.fixture(scope="module", params=[0, 1], ids=["2017", "v2020"])
def real(request: pytest.FixtureRequest, nih: Path) -> tuple[int, table.ImageTable]:
    return request.param, table.read_table(str(nih / "labels" / REAL_FILES[request.param]))


@pytest.mark.real_data
def test_the_published_table_has_the_published_counts(real: tuple[int, table.ImageTable]) -> None:
    release, read = real
    counts = dict(zip(labels.FINDINGS, read.labels.sum(axis=0, dtype=int).tolist(), strict=True))
    counts["No Finding"] = int((read.labels.sum(axis=1) == 0).sum())
    assert counts == {finding: both[release] for finding, both in PUBLISHED_COUNTS.items()}
    assert read.release == table.RELEASES[release]
    assert len(read) == 112_120
    assert len(np.unique(read.patient_ids)) == 30_805
    assert [int((read.sex == sex).sum()) for sex in "MF"] == [63_340, 48_780]
    assert [int((read.view == view).sum()) for view in ("PA", "AP")] == [67_310, 44_810]


@pytest.mark.real_data
def test_sixteen_ages_of_the_first_release_and_none_of_the_second_are_impossible(
    real: tuple[int, table.ImageTable],
) -> None:
    release, read = real
    ages = read.age_years[~np.isnan(read.age_years)]
    assert len(read) - len(ages) == (16, 0)[release]
    assert 0 <= ages.min() <= ages.max() <= 100
    # 26 ages in months and one in days: whatever isn't a whole number of years is among these.
    in_parts = int((ages != np.round(ages)).sum())
    assert 0 < in_parts <= 27 if release == 0 else in_parts == 0


@pytest.mark.real_data
def test_the_published_table_reads_alike_unpacked(nih: Path, tmp_path: Path) -> None:
    packed = nih / "labels" / REAL_FILES[0]
    plain = tmp_path / "Data_Entry_2017.csv"
    plain.write_bytes(gzip.decompress(packed.read_bytes()))
    first, second = table.read_table(str(packed)), table.read_table(str(plain))
    assert first.sha256 == second.sha256
    assert first.name != second.name
    for column in ("image_ids", "patient_ids", "labels", "follow_up", "age_years", "sex", "view"):
        np.testing.assert_array_equal(getattr(first, column), getattr(second, column))


@pytest.mark.real_data
def test_the_published_lists_and_boxes_are_read_whole(nih: Path) -> None:
    train_val = table.read_list(str(nih / "labels" / "train_val_list.txt"))
    test = table.read_list(str(nih / "labels" / "test_list.txt"))
    boxes = table.read_boxes(str(nih / "labels" / "BBox_List_2017.csv.gz"))
    assert (len(train_val), len(test)) == (86_524, 25_596)
    assert len(boxes) == 984
    assert len({box.image_id for box in boxes}) == 880
    assert len({box.finding for box in boxes}) == 8
    assert {box.image_id for box in boxes} <= set(test)
    assert all(0 < box.width_px <= 1024 and 0 <= box.x_px <= 1024 for box in boxes)
