"""What a report is made of: sections of tables, figures and words, to be written as HTML, Markdown or JSON.

A section builds blocks from numbers; it doesn't know how they are written. A cell carries the number itself
beside its text, so that the three files of a report can't differ. Text may hold `code` and **strong** words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from markupsafe import Markup

SCHEMA = 1


class Cell(NamedTuple):
    """One cell of a table.

    Attributes:
        text: as it is read.
        value: as it stands in the JSON: a number, an interval's dictionary or words; None is undefined.
        beside: in smaller type, such as an interval.
        look: CSS classes: `undefined`, `grey`, `strong`, `warned`.
        track: low, value and high to be drawn on the column's scale.
    """

    text: str
    value: Any = None
    beside: str = ""
    look: str = ""
    track: tuple[float | None, float | None, float | None] | None = None


class Column(NamedTuple):
    """One column of a table.

    Attributes:
        key: of its cells.
        heading: as it is read.
        look: CSS classes: `text` for words, `drawn` for intervals that are drawn, `wide` where a phone
            leaves it out.
        group: heading over several neighbours.
        scale: of a track, from its left to its right end.
    """

    key: str
    heading: str
    look: str = ""
    group: str = ""
    scale: tuple[float, float] | None = None


@dataclass(frozen=True)
class Table:
    """Rows of cells by column; `foot` rows stand below a line. Tracks are drawn in HTML alone."""

    kind: ClassVar[str] = "table"
    key: str
    columns: Sequence[Column]
    rows: Sequence[dict[str, Cell]]
    foot: Sequence[dict[str, Cell]] = ()
    heading: str = ""
    look: str = ""


class Panel(NamedTuple):
    """A small plot with its title above and a line of text below."""

    title: str
    svg: Markup
    text: str = ""


@dataclass(frozen=True)
class Figures:
    """Small plots side by side under one caption; `data` is what was drawn."""

    kind: ClassVar[str] = "figures"
    key: str
    panels: Sequence[Panel]
    caption: str
    heading: str = ""
    # (CSS class of the ink, what it draws)
    legend: Sequence[tuple[str, str]] = ()
    look: str = "small"
    data: Any = None


class Picture(NamedTuple):
    """A picture that stands in the page itself, with lines of text below."""

    source: str
    title: str
    lines: Sequence[str]
    # (name, probability, whether the table agrees)
    calls: Sequence[tuple[str, float, bool]] = ()


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side under one caption."""

    kind: ClassVar[str] = "gallery"
    key: str
    pictures: Sequence[Picture]
    caption: str
    look: str = ""


@dataclass(frozen=True)
class Facts:
    """Names with what they are.

    Attributes:
        key: in the JSON.
        rows: (name, what it is).
        heading: above them.
        values: of the JSON, where they are other than the rows.
        folded: whether a reader has to open them.
    """

    kind: ClassVar[str] = "facts"
    key: str
    rows: Sequence[tuple[str, str]]
    heading: str = ""
    values: dict[str, Any] | None = None
    folded: bool = False


@dataclass(frozen=True)
class Paragraph:
    """Words; `look` is `note`, `warning` or `missing`."""

    kind: ClassVar[str] = "paragraph"
    text: str
    look: str = ""


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    kind: ClassVar[str] = "bullets"
    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Lines to be typed."""

    kind: ClassVar[str] = "code"
    key: str
    lines: Sequence[str]


Block = Table | Figures | Gallery | Facts | Paragraph | Bullets | Code


@dataclass(frozen=True)
class Section:
    """One part of the report."""

    anchor: str
    title: str
    blocks: Sequence[Block]


class Headline(NamedTuple):
    """The number at the head of the page."""

    text: str
    beside: str
    meaning: Sequence[str]
    value: Any


@dataclass(frozen=True)
class Document:
    """A whole report, or what there is of it."""

    title: str
    lead: str
    headline: Headline | None
    facts: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    sections: Sequence[Section]
    about: dict[str, Any] = field(default_factory=dict)


def missing(what: str, command: str) -> Paragraph:
    """Say that a part isn't there yet, and which command makes it."""
    return Paragraph(f"{what}: `{command}` makes it.", look="missing")


def as_json(document: Document) -> dict[str, Any]:
    """Return the numbers of a report: what each table, figure and list of facts holds, by section and key."""
    return {
        "schema": SCHEMA,
        "title": document.title,
        **document.about,
        "macro_auroc": document.headline.value if document.headline else None,
        "warnings": list(document.warnings),
        "sections": {section.anchor: _section(section) for section in document.sections},
    }


def _section(section: Section) -> dict[str, Any]:
    values: dict[str, Any] = {"title": section.title}
    missing_parts = [
        block.text for block in section.blocks if isinstance(block, Paragraph) and block.look == "missing"
    ]
    if missing_parts:
        values["missing"] = missing_parts
    for block in section.blocks:
        if isinstance(block, Table):
            values[block.key] = [_row(block, row) for row in (*block.rows, *block.foot)]
        elif isinstance(block, Facts):
            values[block.key] = block.values if block.values is not None else dict(block.rows)
        elif isinstance(block, Code):
            values[block.key] = list(block.lines)
        elif isinstance(block, Figures) and block.data is not None:
            values[block.key] = block.data
        elif isinstance(block, Gallery):
            values[block.key] = [
                {"title": picture.title, "lines": list(picture.lines)} for picture in block.pictures
            ]
    return values


def _row(table: Table, row: dict[str, Cell]) -> dict[str, Any]:
    return {
        column.key: row[column.key].value
        for column in table.columns
        if column.key in row and column.scale is None
    }
