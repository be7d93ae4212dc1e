"""How fast the input of a run's data set was, where it was measured."""

from __future__ import annotations

from engine.report import cells
from engine.report.document import Column, Paragraph, Section, Table
from engine.report.run_files import RunFiles


def section(run: RunFiles) -> Section | None:
    """Build the section; None where nothing was measured."""
    rates = [rate for rate in (run.benchmark or {}).get("rates", []) if not rate["not_measured"]]
    if not rates:
        return None
    slowest = min(rate["images_per_s"] for rate in rates)
    columns = [
        Column("input", "Input", "text"),
        Column("images_per_s", "Images/s"),
        Column("cpu_s_per_1000", "CPU-s per 1,000 images"),
        Column("times_the_slowest", "Times the slowest"),
    ]
    rows = [
        {
            "input": cells.words(rate["name"]),
            "images_per_s": cells.count(round(rate["images_per_s"])),
            "cpu_s_per_1000": cells.number(rate["cpu_s_per_1000"]),
            "times_the_slowest": cells.number(rate["images_per_s"] / slowest, 1),
        }
        for rate in rates
    ]
    note = (
        "Batches of the training split read from a warm page cache, no training beside it; a short "
        "measurement that varies from run to run. `engine benchmark input` repeats it with its spread."
    )
    return Section(
        "speed", "Speed of the input", [Table("rates", columns, rows), Paragraph(note, look="note")]
    )
