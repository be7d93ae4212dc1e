"""The NIH's label table, split lists and box list, read strictly into typed columns.

Both releases of the table are read, gzipped or plain, and told apart by content: a file called
`Data_Entry_2017.csv` in the wild can hold either. Nothing is joined by position: the key is `Image Index`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import warnings
import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from records import labels, storage
from records.errors import CxrError, TableError

COLUMNS = (
    "Image Index",
    "Finding Labels",
    "Follow-up #",
    "Patient ID",
    "Patient Age",
    "Patient Gender",
    "View Position",
)
RELEASES = ("2017", "v2020")
# The first release holds ages such as 148Y and 414Y; nobody has been that old.
MAX_AGE_YEARS = 122
MAX_DIGITS = 9
# Of a table, unpacked: ten times the NIH's. A small gzip may unfold to any size.
MAX_TABLE_BYTES = 100 << 20
_YEARS_PER_UNIT = {"Y": 1.0, "M": 1 / 12, "D": 1 / 365.25}
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class ImageTable:
    """The label table by columns; N rows in the file's order.

    Attributes:
        name: the file's name, for errors and the manifest.
        sha256: of the uncompressed file.
        release: one of `RELEASES`, told by the spelling of the ages.
        image_ids: (N,) str, unique, such as `00000001_000.png`.
        patient_ids: (N,) int64.
        labels: (N, 14) uint8 in `labels.FINDINGS` order.
        follow_up: (N,) int64, 0 for the first visit.
        age_years: (N,) float32, NaN where the table's age is impossible.
        sex: (N,) str, M or F.
        view: (N,) str, PA or AP.
    """

    name: str
    sha256: str
    release: str
    image_ids: np.ndarray
    patient_ids: np.ndarray
    labels: np.ndarray
    follow_up: np.ndarray
    age_years: np.ndarray
    sex: np.ndarray
    view: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)


@dataclass(frozen=True)
class Box:
    """One drawn box, in pixels of the 1024 x 1024 image; x and y are its upper left corner."""

    image_id: str
    finding: str
    x_px: float
    y_px: float
    width_px: float
    height_px: float


def read_table(location: str) -> ImageTable:
    """Read `Data_Entry_2017.csv` or `Data_Entry_2017_v2020.csv`, gzipped or plain.

    Raises:
        TableError: a needed column is missing, or a row's image, patient, finding, age, sex or view is wrong;
            the line names the file's line.
    """
    text = _read_text(location)
    frame = _parse_csv(text, location)
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise TableError(
            f"{location}: no column {_quoted(missing)}; found {_quoted(frame.columns[:12])}; "
            "expected the header of the NIH's Data_Entry_2017 table"
        )
    if frame.empty:
        raise TableError(f"{location}: no rows below the header; expected one for each image")
    image_ids = frame["Image Index"].to_numpy(str)
    _check_unique(image_ids, location)
    _check_names(image_ids, location)
    age_years = _by_unique_cell(frame, "Patient Age", _age_years, location).astype(np.float32)
    return ImageTable(
        name=storage.name(location),
        sha256=hashlib.sha256(text).hexdigest(),
        release=_release(frame, location),
        image_ids=image_ids,
        patient_ids=_patients(frame, image_ids, location),
        labels=_by_unique_cell(frame, "Finding Labels", labels.encode, location),
        follow_up=_by_unique_cell(frame, "Follow-up #", _whole_number, location).astype(np.int64),
        age_years=age_years,
        sex=_choice(frame, "Patient Gender", ("M", "F"), location),
        view=_choice(frame, "View Position", ("PA", "AP"), location),
    )


def read_list(location: str) -> list[str]:
    """Read a list of image names, one a line; blank lines are skipped.

    Raises:
        TableError: the list is empty or names an image twice.
    """
    lines = [line.strip() for line in _read_text(location).decode(errors="replace").splitlines()]
    image_ids = [line for line in lines if line]
    if not image_ids:
        raise TableError(f"{location}: the list is empty; expected one image name a line")
    _check_unique(np.array(image_ids), location)
    return image_ids


def read_boxes(location: str) -> list[Box]:
    """Read `BBox_List_2017.csv`, gzipped or plain; `Infiltrate` becomes `Infiltration`.

    Raises:
        TableError: fewer than six fields, an unknown finding, or four numbers that are no rectangle.
    """
    frame = _parse_csv(_read_text(location), location)
    if list(frame.columns[:2]) != ["Image Index", "Finding Label"] or len(frame.columns) < 6:
        raise TableError(
            f"{location}: found the columns {_quoted(frame.columns[:12])}; "
            "expected `Image Index`, `Finding Label` and four numbers x, y, w, h"
        )
    return [_box(row, f"{location}: line {line}") for line, row in enumerate(frame.to_numpy(str), start=2)]


def _box(row: np.ndarray, where: str) -> Box:
    finding = labels.BOX_ALIASES.get(row[1], row[1])
    if finding not in labels.FINDINGS:
        raise TableError(f"{where}: unknown finding `{row[1]}`; expected one of {', '.join(labels.FINDINGS)}")
    try:
        x, y, width, height = (float(value) for value in row[2:6])
    except ValueError as error:
        raise TableError(f"{where}: {error}; expected four numbers x, y, w, h in pixels") from error
    # Written so that NaN fails.
    if not (0 <= x < math.inf and 0 <= y < math.inf and 0 < width < math.inf and 0 < height < math.inf):
        raise TableError(
            f"{where}: the box is {', '.join(row[2:6])}; expected x and y of at least 0, w and h above 0"
        )
    return Box(row[0], finding, x, y, width, height)


def _read_text(location: str) -> bytes:
    data = storage.read_bytes(location)
    if not data.startswith(_GZIP_MAGIC):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            text = file.read(MAX_TABLE_BYTES + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise TableError(f"{location}: the gzip file is damaged ({error}); fetch it again") from error
    if len(text) > MAX_TABLE_BYTES:
        raise TableError(
            f"{location}: unpacks to more than {MAX_TABLE_BYTES:,} bytes; expected the NIH's file"
        )
    return text


def _parse_csv(text: bytes, location: str) -> pd.DataFrame:
    try:
        # index_col=False: the first release's header ends in a comma, one field more than its rows have.
        with warnings.catch_warnings():
            # Rows longer than the header would lose their last cells with no more than a warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                io.BytesIO(text.rstrip(b"\r\n")),
                dtype=str,
                keep_default_na=False,
                index_col=False,
                # Skipped, they would make the line numbers in errors too low.
                skip_blank_lines=False,
            )
    except (ValueError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        raise TableError(f"{location}: not a CSV table: {reason}") from error
    blank = np.flatnonzero((frame == "").all(axis=1))
    if len(blank):
        raise TableError(f"{location}: line {blank[0] + 2}: blank; expected a row: remove the line")
    return frame


def _check_unique(image_ids: np.ndarray, location: str) -> None:
    values, counts = np.unique(image_ids, return_counts=True)
    if len(values) == len(image_ids):
        return
    repeated = values[counts > 1]
    line = np.flatnonzero(image_ids == repeated[0])[1]
    raise TableError(
        f"{location}: {repeated[0]} stands twice, the second time as entry {line + 1} "
        f"({len(repeated)} repeated in all); expected each image once: remove the repeats"
    )


def _check_names(image_ids: np.ndarray, location: str) -> None:
    """Refuse names that could lead out of a folder; images are looked for by them."""
    for row, image_id in enumerate(image_ids.tolist()):
        if not image_id.isprintable() or "/" in image_id or "\\" in image_id:
            raise TableError(
                f"{location}: line {row + 2}: Image Index is `{image_id}`; expected a plain file name"
            )


def _patients(frame: pd.DataFrame, image_ids: np.ndarray, location: str) -> np.ndarray:
    patient_ids = _by_unique_cell(frame, "Patient ID", _whole_number, location).astype(np.int64)
    # The file name's first eight digits are the patient in every row of both releases.
    named = np.char.zfill(patient_ids.astype(str), 8)
    wrong = np.flatnonzero(np.char.partition(image_ids, "_")[:, 0] != named)
    if len(wrong):
        row = wrong[0]
        raise TableError(
            f"{location}: line {row + 2}: image {image_ids[row]} beside patient {patient_ids[row]}; "
            "expected the patient's number in the first eight digits of the name"
        )
    return patient_ids


def _by_unique_cell(frame: pd.DataFrame, column: str, parse, location: str) -> np.ndarray:
    """Parse each distinct cell of a column once; name the first line of a cell that can't be."""
    codes, cells = pd.factorize(frame[column])
    values = []
    for code, cell in enumerate(cells):
        try:
            values.append(parse(cell))
        except (CxrError, ValueError) as error:
            line = int(np.flatnonzero(codes == code)[0]) + 2
            reason = error if isinstance(error, CxrError) else f"`{cell}` is not a whole number"
            raise TableError(f"{location}: line {line}: {column}: {reason}") from error
    return np.array(values)[codes]


def _whole_number(cell: str) -> int:
    # int() also takes signs, spaces, underscores, other scripts' digits and numbers beyond 64 bits.
    if not (cell.isascii() and cell.isdigit() and len(cell) <= MAX_DIGITS):
        raise ValueError(cell)
    return int(cell)


def _release(frame: pd.DataFrame, location: str) -> str:
    """Tell the release by the spelling of the ages, all of which have been read."""
    in_units = frame["Patient Age"].str[-1:].isin(list(_YEARS_PER_UNIT)).to_numpy()
    others = np.flatnonzero(in_units != in_units[0])
    if len(others):
        first, other = frame["Patient Age"].iloc[[0, others[0]]]
        raise TableError(
            f"{location}: line {others[0] + 2}: Patient Age `{other}` below `{first}`; expected one "
            "spelling, `58` or `058Y`: the table mixes both releases; fetch one of them whole"
        )
    return "2017" if in_units[0] else "v2020"


def _age_years(cell: str) -> float:
    years_per_unit = _YEARS_PER_UNIT.get(cell[-1:])
    digits = cell if years_per_unit is None else cell[:-1]
    try:
        age = _whole_number(digits)
    except ValueError as error:
        raise TableError(f"`{cell}` is no age; expected `58` or `058Y`, `011M`, `004D`") from error
    age_years = age * (years_per_unit or 1.0)
    return age_years if age_years <= MAX_AGE_YEARS else float("nan")


def _choice(frame: pd.DataFrame, column: str, choices: tuple[str, ...], location: str) -> np.ndarray:
    values = frame[column].to_numpy(str)
    wrong = np.flatnonzero(~np.isin(values, choices))
    if len(wrong):
        raise TableError(
            f"{location}: line {wrong[0] + 2}: {column} is `{values[wrong[0]]}`; "
            f"expected {' or '.join(choices)}"
        )
    return values


def _quoted(names) -> str:
    return ", ".join(f"`{name}`" for name in names)
