"""Whether the model works alike for all: macro AUROC by sex, age, view and visit, drawn with intervals."""

from __future__ import annotations

from typing import Any

from engine.report import cells
from engine.report.document import Column, Paragraph, Section, Table, missing
from engine.report.run_files import RunFiles

_NAMES = {"F": "women", "M": "men", "first": "first visit", "follow-up": "follow-up visit"}
_BY = {"sex": "Sex", "age": "Age", "view": "View", "visit": "Visit"}


def section(run: RunFiles) -> Section:
    """Build the section."""
    if not run.shown:
        return Section("subgroups", "Subgroups", [missing("No evaluation yet", run.make("evaluate"))])
    groups = run.shown.metrics.get("subgroups") or []
    if not groups:
        return Section("subgroups", "Subgroups", [missing("No subgroups", run.make("evaluate"))])
    note = (
        "Each line is a group’s macro AUROC with its 95 % interval; the last row is everyone. Groups "
        "differ in age, view and how sick they are, so a difference is no proof of unfairness, and its "
        "absence none of fairness. AP films are mostly taken of patients who can’t stand. The mean is over "
        "the findings that a group has, which may be fewer: then it is of another set of findings."
    )
    return Section(
        "subgroups", "Subgroups", [_table(run.shown.metrics, groups), Paragraph(note, look="note")]
    )


def _table(metrics: dict[str, Any], groups: list[dict[str, Any]]) -> Table:
    columns = [
        Column("by", "By", "text"),
        Column("group", "Group", "text"),
        Column("macro_auroc", "Macro AUROC"),
        Column("drawn", "", "drawn", scale=_scale([group["macro_auroc"] for group in groups])),
        Column("images", "Images"),
        Column("patients", "Patients"),
        Column("defined_findings", "Findings"),
    ]
    rows, last = [], ""
    for group in groups:
        name = _BY.get(group["by"], group["by"])
        rows.append(
            {
                "by": cells.words("" if name == last else name, "strong")._replace(value=group["by"]),
                "group": cells.words(_said(group))._replace(value=group["group"]),
                **_numbers(group),
            }
        )
        last = name
    everyone = {"by": cells.words("All")._replace(value="all"), "group": cells.words("")}
    return Table("groups", columns, rows, [everyone | _numbers(metrics)], look="forest")


def _said(group: dict[str, Any]) -> str:
    name = str(group["group"])
    if group["by"] == "age" and name != "unknown":
        return f"{name.replace('-', ' to ')} years"
    return _NAMES.get(name, name)


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    return {
        "images": cells.count(values["images"]),
        "patients": cells.count(values["patients"]),
        "defined_findings": cells.count(values["defined_findings"]),
        "macro_auroc": cells.interval(values["macro_auroc"]),
        "drawn": cells.track(values["macro_auroc"]),
    }


def _scale(intervals: list[dict[str, float | None]]) -> tuple[float, float]:
    """Return a range to a tenth that holds all intervals."""
    known = [number for interval in intervals for number in interval.values() if number is not None]
    if not known:
        return 0.5, 1.0
    low = max(0.0, int(min(known) * 10) / 10)
    return low, max(low + 0.1, min(1.0, int(max(known) * 10 + 0.999) / 10))
