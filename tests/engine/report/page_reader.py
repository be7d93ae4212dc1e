"""Reads an HTML page as a browser's parser would: text, addresses, tables, tags that aren't closed."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "br", "link", "hr", "input"}
_CELLS = {"td", "th"}


class Reader(HTMLParser):
    """Collects what a page holds; notes every tag that isn't closed in its turn.

    Attributes:
        tables: rows of the cells' texts without the headings, by the id of the section around them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.addresses: list[tuple[str, str, str]] = []
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.text = ""
        self._section = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.add(tag)
        self.ids += [named["id"] or ""] if "id" in named else []
        self.addresses += [
            (tag, name, value or "") for name, value in attrs if name in ("src", "href", "xlink:href")
        ]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self._section = named.get("id") or ""
        elif tag == "table":
            self.tables.setdefault(self._section, []).append([])
        elif tag == "tr" and "thead" not in self.open:
            self.tables[self._section][-1].append([])
        elif tag in _CELLS and "thead" not in self.open:
            self.tables[self._section][-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            return
        self.text += data
        if "tbody" in self.open or "tfoot" in self.open:
            rows = self.tables[self._section][-1]
            if _CELLS & set(self.open):
                rows[-1][-1] += data


def read(path: Path) -> Reader:
    """Parse a page; runs of white space in its text and cells become one space."""
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    reader.text = " ".join(reader.text.split())
    for tables in reader.tables.values():
        for rows in tables:
            rows[:] = [[" ".join(cell.split()) for cell in row] for row in rows]
    return reader
