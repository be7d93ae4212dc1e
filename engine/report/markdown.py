"""A report as Markdown: the words and tables; of plots the captions, since Markdown draws none."""

from __future__ import annotations

import re

from engine.report.document import (
    Block,
    Bullets,
    Cell,
    Code,
    Column,
    Document,
    Facts,
    Figures,
    Gallery,
    Paragraph,
    Table,
)


def write(report: Document) -> str:
    """Return the report."""
    lines = [f"# {_escaped(report.title)}", "", _escaped(report.lead), ""]
    lines += [line for warning in report.warnings for line in (f"> {_escaped(warning)}", "")]
    if report.headline:
        meaning = ", ".join(report.headline.meaning)
        lines += [f"**{report.headline.text}** {report.headline.beside} {meaning}".replace("  ", " "), ""]
    lines += [f"- {_escaped(name)}: {value}" for value, name in report.facts]
    for section in report.sections:
        lines += ["", f"## {_escaped(section.title)}", ""]
        for block in section.blocks:
            lines += [*_block(block), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _block(block: Block) -> list[str]:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Paragraph):
        return [("> " if block.look == "warning" else "") + _escaped(block.text)]
    if isinstance(block, Bullets):
        return [f"- {_escaped(item)}" for item in block.items]
    if isinstance(block, Code):
        # Four spaces: no line of code can end such a block early.
        return [f"    {line}" for line in block.lines]
    if isinstance(block, Facts):
        return [
            *_heading(block.heading),
            *(f"- {_escaped(name)}: {_escaped(value)}" for name, value in block.rows),
        ]
    return _pictures(block)


def _pictures(block: Figures | Gallery) -> list[str]:
    lines = _heading(block.heading) if isinstance(block, Figures) else []
    if isinstance(block, Gallery):
        lines += [f"- {_escaped(p.title)}: {_escaped(', '.join(p.lines))}" for p in block.pictures] + [""]
    return [*lines, f"*Drawn in the HTML page: {_escaped(block.caption)}*"]


def _table(table: Table) -> list[str]:
    columns = [column for column in table.columns if column.scale is None]
    heads = [
        _cell_text(f"{column.group}: {column.heading}" if column.group else column.heading)
        for column in columns
    ]
    rules = ["---" if "text" in column.look else "---:" for column in columns]
    rows = [[_cell(row, column) for column in columns] for row in (*table.rows, *table.foot)]
    return [*_heading(table.heading), *(f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows))]


def _cell(row: dict[str, Cell], column: Column) -> str:
    cell = row.get(column.key)
    if cell is None:
        return ""
    text = _cell_text(f"{cell.text} {cell.beside}".strip())
    if "struck" in cell.look:
        return f"~~{text}~~"
    return f"*{text}*" if text and "grey" in cell.look else text


def _heading(text: str) -> list[str]:
    return [f"### {_escaped(text)}", ""] if text else []


def _cell_text(text: str) -> str:
    return _escaped(text).replace("|", "\\|").replace("\n", " ")


def _escaped(text: str) -> str:
    # What comes from files must not become markup of the page that shows the Markdown.
    return text.replace("&", "&amp;").replace("<", "&lt;")
