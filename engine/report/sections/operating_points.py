"""What the model calls at fixed thresholds: the seven metrics, the shares of positives and negatives "
"found."""

from __future__ import annotations

from typing import Any

from engine.report import cells
from engine.report.document import Block, Column, Paragraph, Section, Table, missing
from engine.report.run_files import RunFiles

METRICS = (
    ("recall", "Recall", "share of the reported findings that are found"),
    ("specificity", "Specificity", "share of the absent findings that are left alone"),
    ("ppv", "PPV", "share of the alarms that are right"),
    ("npv", "NPV", "share of the all-clears that are right"),
    ("f1", "F1", "of recall and PPV"),
    ("hamming_loss", "Hamming loss", "share of all answers that are wrong"),
)
_NAMES = {"0.5": "At 0.5", "youden": "Youden", "sensitivity_0.90": "Sensitivity ≥ 0.90"}


def section(run: RunFiles) -> Section:
    """Build the section."""
    title = "Operating points"
    if not run.shown:
        return Section("operating", title, [missing("No evaluation yet", run.make("evaluate"))])
    metrics = run.shown.metrics
    blocks: list[Block] = [_totals(metrics), Paragraph(_said_totals(metrics), look="note")]
    return Section("operating", title, [*blocks, _by_finding(metrics), _note()])


def point_name(point: dict[str, Any]) -> str:
    """Say which thresholds a point has."""
    return _NAMES.get(point["name"], point["name"])


def _totals(metrics: dict[str, Any]) -> Table:
    points = metrics["operating_points"]
    columns = [Column("metric", "Over all findings", "text"), Column("meaning", "", "text wide")]
    columns += [Column(point["name"], point_name(point)) for point in points]
    columns.append(Column("all_negative", "Finds nothing"))
    rows = []
    for key, name, meaning in METRICS:
        row = {"metric": cells.words(name)._replace(value=key), "meaning": cells.words(meaning, "quiet")}
        row |= {point["name"]: cells.number(point["total"].get(key)) for point in points}
        rows.append(row | {"all_negative": cells.number(metrics["all_negative_baseline"].get(key))})
    micro = metrics["micro_auroc"]
    area = {"metric": cells.words("AUC")._replace(value="micro_auroc")}
    area["meaning"] = cells.words("multi-label, all answers in one list; no threshold in it", "quiet")
    area |= {point["name"]: cells.interval(micro)._replace(beside="") for point in points}
    return Table("totals", columns, [*rows, area | {"all_negative": cells.number(0.5)}])


def _said_totals(metrics: dict[str, Any]) -> str:
    said = []
    for point in metrics["operating_points"]:
        total = point["total"]
        said.append(
            f"{point_name(point)}: {cells.percent(total['recall'], 2).text} % of the positives and "
            f"{cells.percent(total['specificity'], 2).text} % of the negatives found"
        )
    return (
        "; ".join(said)
        + ". “Finds nothing” calls every finding absent: what the rarity of the findings alone "
        "gives. All counts of a column come from one confusion matrix."
    )


def _by_finding(metrics: dict[str, Any]) -> Table:
    columns = [Column("finding", "Finding", "text")]
    for point in metrics["operating_points"]:
        name, group = point["name"], point_name(point)
        columns += [
            Column(f"{name}_threshold", "Threshold", group=group),
            Column(f"{name}_recall", "Pos. %", group=group),
            Column(f"{name}_specificity", "Neg. %", group=group),
        ]
    rows = [
        {
            "finding": cells.finding(finding, few=values["few"]),
            **_shares(finding, metrics["operating_points"]),
        }
        for finding, values in metrics["findings"].items()
    ]
    foot = {"finding": cells.words("Total")._replace(value="total")}
    for point in metrics["operating_points"]:
        foot[f"{point['name']}_recall"] = cells.percent(point["total"]["recall"], 2)
        foot[f"{point['name']}_specificity"] = cells.percent(point["total"]["specificity"], 2)
    return Table("by_finding", columns, rows, [foot], heading="Positives and negatives found")


def _shares(finding: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    row = {}
    for point in points:
        values = point["findings"][finding]
        row[f"{point['name']}_threshold"] = cells.number(values["threshold"])
        row[f"{point['name']}_recall"] = cells.percent(values["recall"])
        row[f"{point['name']}_specificity"] = cells.percent(values["specificity"])
    return row


def _note() -> Paragraph:
    return Paragraph(
        "Thresholds other than 0.5 were chosen on validation and frozen before test was read: Youden’s "
        "makes recall plus specificity largest; the other is the highest that finds at least 90 % of "
        "validation’s positives, and on other images it may find fewer.",
        look="note",
    )
