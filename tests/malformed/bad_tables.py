"""Label tables, lists of splits, exclusions and archives, and box lists that say something wrong."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from cases import Attempt, Case, Ground, converting, downloading, engine
from sound import HEADER, image_ids, table_rows

from records import table

CONVERT = "beam_pipelines.convert"


def _table(what: str, spoil: Callable[[list[str]], str | bytes], line: str) -> Case:
    def write(ground: Ground) -> Attempt:
        found = spoil([HEADER, *table_rows()])
        path = ground.source() / "table.csv"
        path.write_bytes(found.encode() if isinstance(found, str) else found)
        return converting(ground)

    return Case("label table", what, write, CONVERT, r"\S+table\.csv: " + line)


def _cell(column: int, value: str, row: int = 3) -> Callable[[list[str]], str]:
    """Return what puts a value into a cell of the table's fourth line."""

    def spoil(lines: list[str]) -> str:
        cells = lines[row].split(",")
        cells[column] = value
        return "\n".join([*lines[:row], ",".join(cells), *lines[row + 1 :]]) + "\n"

    return spoil


def _text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


TABLES = [
    _table("empty", lambda _: "", r"not a CSV table: No columns"),
    _table("header alone", lambda lines: lines[0], r"no rows below the header"),
    _table("a picture", lambda _: b"\x89PNG\r\n\x1a\n\xff\xfe", r"not a CSV table: .*codec"),
    _table(
        "no patients", lambda lines: _text(lines).replace("Patient ID", "Patient"), r"no column `Patient ID`"
    ),
    _table("unknown finding", _cell(1, "Flu"), r"line 4: Finding Labels: unknown finding `Flu`"),
    _table(
        "finding twice", _cell(1, "Mass|Mass"), r"line 4: Finding Labels: the finding `Mass` stands twice"
    ),
    _table("no finding and one", _cell(1, "Mass|No Finding"), r"line 4: .*must stand alone"),
    _table("age in words", _cell(4, "old"), r"line 4: Patient Age: `old` is no age"),
    _table("ages of both releases", _cell(4, "058Y"), r"line 4: Patient Age `058Y` below `40`"),
    _table("unknown sex", _cell(5, "X"), r"line 4: Patient Gender is `X`; expected M or F"),
    _table("unknown view", _cell(6, "LATERAL"), r"line 4: View Position is `LATERAL`"),
    _table("negative follow-up", _cell(2, "-1"), r"line 4: Follow-up #: `-1` is not a whole number"),
    _table("another patient's image", _cell(3, "77"), r"line 4: image 00000002_000\.png beside patient 77"),
    _table("image twice", lambda lines: _text([*lines, lines[1]]), r"00000001_000\.png stands twice"),
    _table(
        "a path for a name", _cell(0, "00000002_/../../x.png"), r"line 4: Image Index is `00000002_/\.\./"
    ),
    _table("blank line", lambda lines: _text([*lines[:3], "", *lines[3:]]), r"line 4: blank; expected a row"),
    _table("row cut off", lambda lines: _text([*lines[:-1], lines[-1][:20]]), r"line 13: "),
    _table("row too long", lambda lines: _text([*lines, lines[-1] + ",1,2,3"]), r"not a CSV table: "),
    _table(
        "gzip cut off", lambda lines: gzip.compress(_text(lines).encode())[:-9], r"the gzip file is damaged"
    ),
    _table(
        "gzip that unfolds without end",
        lambda _: gzip.compress(bytes(table.MAX_TABLE_BYTES + 1), compresslevel=1),
        r"unpacks to more than 104,857,600 bytes",
    ),
]


def _list(kind: str, flag: str, what: str, text: str | bytes, line: str, **flags: object) -> Case:
    def write(ground: Ground) -> Attempt:
        ground.source()
        path = ground.write("list.txt", text)
        return converting(ground, **{flag: path}, **flags)

    return Case(kind, what, write, CONVERT, line)


def _split_list(what: str, names: list[str], line: str) -> Case:
    return _list("split list", "test_list", what, "\n".join(names), line)


_names = image_ids()
LISTS = [
    _split_list("empty", [], r"\S+list\.txt: the list is empty"),
    _split_list("name twice", [*_names[8:], _names[8]], r"\S+list\.txt: 00000005_000\.png stands twice"),
    _split_list(
        "unknown image", [*_names[8:], "99999999_000.png"], r"list\.txt: names 99999999_000\.png, which"
    ),
    _split_list(
        "image of both lists", _names[7:], r"00000004_001\.png stands in train_val_list\.txt and in list"
    ),
    _split_list("image of neither", _names[9:], r"00000005_000\.png of table\.csv stands in neither"),
    _split_list("other bytes than text", ["\x00\x01", *_names[8:]], r"list\.txt: names \\x00\\x01, which"),
    _list("exclusions", "exclude_list", "not UTF-8", b"\xff\xfe\x00", r"\S+list\.txt: not a text in UTF-8"),
    _list("exclusions", "exclude_list", "empty", "\n\n", r"\S+list\.txt: empty; expected a column"),
    _list("exclusions", "exclude_list", "no names", "a,b\n1,2\n", r"\S+list\.txt: no column of image names"),
    _list(
        "exclusions",
        "exclude_list",
        "unknown image",
        "x.png\n",
        r"\S+list\.txt: `x\.png` is not in table\.csv",
    ),
    _list(
        "exclusions",
        "exclude_list",
        "reason that is no mark",
        f"Index,Rotated\n{_names[0]},maybe\n",
        r"\S+list\.txt: 00000001_000\.png: `maybe` as a reason; expected 0 or 1",
    ),
    _list(
        "exclusions",
        "exclude_list",
        "endless cell",
        "x" * 200_000,
        r"\S+list\.txt: not a CSV list: field larger",
    ),
]


def _boxes(what: str, text: str, line: str) -> Case:
    def write(ground: Ground) -> Attempt:
        path = ground.write("boxes.csv", text)
        return engine("heatmaps", "--run-dir", ground.run(), "--boxes", path)

    return Case("box list", what, write, "engine heatmaps", r"\S+boxes\.csv: " + line)


_BOXES = "Image Index,Finding Label,Bbox [x,y,w,h]\n"
BOXES = [
    _boxes("empty", "", r"not a CSV table"),
    _boxes("other columns", "a,b,c,d,e,f\n1,2,3,4,5,6\n", r"found the columns `a`"),
    _boxes("unknown finding", f"{_BOXES[:-1]},,,\nx.png,Flu,1,2,3,4\n", r"line 2: unknown finding `Flu`"),
    _boxes(
        "word for a number", f"{_BOXES[:-1]},,,\nx.png,Mass,1,2,3,wide\n", r"line 2: .*expected four numbers"
    ),
    _boxes("no width", f"{_BOXES[:-1]},,,\nx.png,Mass,1,2,0,4\n", r"line 2: the box is 1, 2, 0, 4"),
    _boxes("not finite", f"{_BOXES[:-1]},,,\nx.png,Mass,nan,2,3,4\n", r"line 2: the box is nan, 2, 3, 4"),
]

_ARCHIVES = "archive,name,url,size_bytes,md5\n"


def _archives(what: str, text: str, line: str) -> Case:
    def write(ground: Ground) -> Attempt:
        return downloading(ground, ground.write("urls.csv", text))

    return Case("list of archives", what, write, "beam_pipelines.download", r"\S+urls\.csv" + line, 2)


ARCHIVES = [
    _archives("other columns", "a,b\n", r": its first line is `a,b`"),
    _archives("path for a name", f"{_ARCHIVES}1,../x.tar.gz,http://h/x,,\n", r", line 2: name `\.\./x"),
    _archives("local address", f"{_ARCHIVES}1,x.tar.gz,file:///etc/passwd,,\n", r", line 2: url `file:///"),
    _archives("no MD5", f"{_ARCHIVES}1,x.tar.gz,http://h/x,,zz\n", r", line 2: md5 `zz`"),
    _archives("negative size", f"{_ARCHIVES}1,x.tar.gz,http://h/x,-1,\n", r", line 2: size_bytes `-1`"),
]

CASES = [*TABLES, *LISTS, *BOXES, *ARCHIVES]
