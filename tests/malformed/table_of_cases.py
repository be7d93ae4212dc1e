"""All malformed inputs, and the table of them that the docs show.

    python tests/malformed/table_of_cases.py

writes `TABLE.md`, which a test holds equal to the cases.
"""

from __future__ import annotations

from pathlib import Path

import bad_data_sets
import bad_pictures
import bad_runs
import bad_settings
import bad_tables

PATH = Path(__file__).with_name("TABLE.md")
CASES = [
    *bad_pictures.CASES,
    *bad_tables.CASES,
    *bad_data_sets.CASES,
    *bad_settings.CASES,
    *bad_runs.CASES,
]


def markdown() -> str:
    """Return the table."""
    head = [
        "# Malformed inputs",
        "",
        f"{len(CASES)} kinds of bad input. Each gives one line `error: ...`, which the expression describes,",
        "and its exit code; inputs stay as they are and nothing half-made is left. A bad PNG is set aside in",
        "`quarantine.csv` with that reason. Made by `python tests/malformed/table_of_cases.py`.",
        "",
        "| input | what is wrong | read by | the line matches | exit |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows = [
        f"| {case.kind} | {case.what} | `{case.reader}` | {_cell(case.line)} | {case.code} |"
        for case in CASES
    ]
    return "\n".join([*head, *rows]) + "\n"


def _cell(expression: str) -> str:
    """Return an expression as code in a cell, where a bar would end it and a backtick the code."""
    ticks = "``" if "`" in expression else "`"
    room = " " if "`" in expression else ""
    return ticks + room + expression.replace("|", r"\|") + room + ticks


if __name__ == "__main__":
    PATH.write_text(markdown(), encoding="utf-8")
    print(f"{PATH}: {len(CASES)} kinds")
