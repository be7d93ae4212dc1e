"""Lists of images to leave out, such as those that a public re-reading found rotated or inverted."""

from __future__ import annotations

import csv
import io

from records import storage
from records.errors import TableError
from records.table import ImageTable

_NAME_COLUMNS = ("Image Index", "Index", "image_id", "image", "filename")
_IN_WORDS = "reason"
_NOT_SET = {"", "0", "0.0", "false"}
_SET = {"1", "1.0", "true"}


def read_exclusions(location: str, table: ImageTable) -> dict[str, str]:
    """Read one list of images to leave out.

    Three forms are known: a CSV with a column of image names (`Image Index`, `Index`, ...), whose other
    columns of 0 and 1 are the reasons (a row without any is not left out); the same with a column `reason`
    of words, such as `quarantine.csv`; and plain text with one image name a line.

    Args:
        location: of the list.
        table: that must hold every image of the list.

    Returns:
        The reason by image name, such as `Inverted, Rotated (cxr14_bad_labels.csv)`.

    Raises:
        TableError: no names, a name that the table doesn't have, or a reason that is neither 0 nor 1.
    """
    try:
        text = storage.read_bytes(location).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"{location}: not a text in UTF-8; expected names of images") from error
    try:
        rows = [row for row in csv.reader(io.StringIO(text)) if any(row)]
    except csv.Error as error:
        raise TableError(f"{location}: not a CSV list: {error}") from error
    if not rows:
        raise TableError(f"{location}: empty; expected a column of image names or one name a line")
    known = set(table.image_ids.tolist())
    found: dict[str, set[str]] = {}
    for name, reasons in _entries(rows, location):
        if name not in known:
            raise TableError(f"{location}: `{name}` is not in {table.name}; remove the entry")
        # The public list names some images twice, for one reason or for two.
        found.setdefault(name, set()).update(reasons)
    return {
        name: f"{', '.join(sorted(reasons)) or 'listed'} ({storage.name(location)})"
        for name, reasons in found.items()
    }


def _entries(rows: list[list[str]], location: str) -> list[tuple[str, list[str]]]:
    header, *body = ([cell.strip() for cell in row] for row in rows)
    column = next((header.index(name) for name in _NAME_COLUMNS if name in header), None)
    if column is None:
        if any(len(row) > 1 for row in rows):
            raise TableError(
                f"{location}: no column of image names among {', '.join(f'`{cell}`' for cell in header)}; "
                f"expected one of {', '.join(_NAME_COLUMNS)}"
            )
        return [(row[0], []) for row in (header, *body)]
    for line, row in enumerate(body, start=2):
        if len(row) != len(header):
            raise TableError(f"{location}: line {line}: {len(row)} cells; expected {len(header)}")
    # A nameless column numbers the rows.
    reasons = [number for number, name in enumerate(header) if name and number != column]
    entries = [(row[column], _reasons(row, header, reasons, location)) for row in body]
    return [(name, found) for name, found in entries if found or not reasons]


def _reasons(row: list[str], header: list[str], columns: list[int], location: str) -> list[str]:
    in_words = [row[number] for number in columns if header[number] == _IN_WORDS and row[number]]
    marked = [number for number in columns if header[number] != _IN_WORDS]
    return in_words + [header[number] for number in marked if _is_set(row[number], location, row[0])]


def _is_set(cell: str, location: str, name: str) -> bool:
    if cell.lower() not in _SET | _NOT_SET:
        raise TableError(f"{location}: {name}: `{cell}` as a reason; expected 0 or 1")
    return cell.lower() in _SET
