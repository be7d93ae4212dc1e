"""What the model calls at fixed thresholds: the seven metrics, the shares of positives and negatives "
"found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.evaluation.operating_points import AUC
from engine.report import cells, drawn_shares
from engine.report.contact_sheet import in_words
from engine.report.document import Block, Column, Paragraph, Section, Table, missing
from engine.report.run_files import Evaluation, RunFiles
from records.labels import FINDINGS

METRICS = (
    ("recall", "Recall", "share of the reported findings that are found"),
    ("specificity", "Specificity", "share of the absent findings that are left alone"),
    ("ppv", "PPV", "share of the alarms that are right"),
    ("npv", "NPV", "share of the all-clears that are right"),
    ("f1", "F1", "of recall and PPV"),
    ("hamming_loss", "Hamming loss", "share of all answers that are wrong"),
)
# By the point's name and the metric's: (F + 1, D).
Drawn = Mapping[str, Mapping[str, np.ndarray]]

_NAMES = {"0.5": "At 0.5", "youden": "Youden", "sensitivity_0.90": "Sensitivity ≥ 0.90"}


def section(run: RunFiles) -> Section:
    """Build the section."""
    title = "Operating points"
    if not run.shown:
        return Section("operating", title, [missing("No evaluation yet", run.make("evaluate"))])
    metrics = run.shown.metrics
    drawn = _drawn(run.shown)
    blocks: list[Block] = [_totals(metrics, drawn), Paragraph(_said_totals(metrics), look="note")]
    return Section("operating", title, [*blocks, _by_finding(metrics, drawn), _note(metrics)])


def point_name(point: dict[str, Any]) -> str:
    """Say which thresholds a point has."""
    return _NAMES.get(point["name"], point["name"])


def _heading(point: dict[str, Any]) -> str:
    """Say which thresholds a point has, and of how many findings where not of all."""
    known = int(np.isfinite(thresholds(point)).sum())
    few = "" if known == len(FINDINGS) else f", {known} of {len(FINDINGS)} findings"
    return point_name(point) + few


def thresholds(point: dict[str, Any]) -> np.ndarray:
    """Return (F,) a point's thresholds; NaN where none could be chosen."""
    return np.array([point["findings"][finding]["threshold"] for finding in FINDINGS], np.float64)


def _drawn(shown: Evaluation) -> Drawn:
    draws = shown.metrics["bootstrap"]["draws"]
    return {
        point["name"]: drawn_shares.on_draws(shown.predictions, thresholds(point), draws=draws)
        for point in shown.metrics["operating_points"]
    }


def _totals(metrics: dict[str, Any], drawn: Drawn) -> Table:
    points = metrics["operating_points"]
    columns = [Column("metric", "Over all findings", "text"), Column("meaning", "", "text wide")]
    columns += [Column(point["name"], _heading(point)) for point in points]
    columns.append(Column("all_negative", "Finds nothing"))
    rows = []
    for key, name, meaning in METRICS:
        row = {"metric": cells.words(name)._replace(value=key), "meaning": cells.words(meaning, "quiet")}
        for point in points:
            of_point = drawn[point["name"]][key][-1]
            row[point["name"]] = cells.interval(drawn_shares.interval(point["total"][key], of_point))
        rows.append(row | {"all_negative": cells.number(metrics["all_negative_baseline"].get(key))})
    mean = metrics["macro_auroc"]
    area = {"metric": cells.words("AUC")._replace(value=AUC)}
    area["meaning"] = cells.words("multi-label: the mean of the findings’; no threshold in it", "quiet")
    area |= {point["name"]: cells.interval(mean) for point in points}
    return Table("totals", columns, [*rows, area | {"all_negative": cells.number(0.5)}], look="stacked")


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
        "gives. All counts of a column come from one confusion matrix. Intervals are 95 % over patients, at "
        f"thresholds that stay as they are.{_without_threshold(metrics)}"
    )


def _without_threshold(metrics: dict[str, Any]) -> str:
    """Say which findings the totals of chosen thresholds leave out."""
    left_out = {
        in_words(finding)
        for point in metrics["operating_points"]
        for finding in FINDINGS
        if point["findings"][finding]["threshold"] is None
    }
    if not left_out:
        return ""
    return (
        f" {', '.join(sorted(left_out))}: no threshold could be chosen, since validation lacks positives or "
        "negatives; a total whose head names fewer than 14 findings is of those that have one alone. AUC, "
        "which needs no threshold, is of all."
    )


def _by_finding(metrics: dict[str, Any], drawn: Drawn) -> Table:
    columns = [Column("finding", "Finding", "text")]
    for point in metrics["operating_points"]:
        name, group = point["name"], _heading(point)
        # What the heading says needs no column.
        if point["chosen_on"]:
            columns.append(Column(f"{name}_threshold", "Threshold", group=group))
        columns += [
            Column(f"{name}_recall", "Pos. %", group=group),
            Column(f"{name}_specificity", "Neg. %", group=group),
        ]
    rows = [
        {
            "finding": cells.finding(finding, few=values["few"]),
            **_shares(finding, metrics["operating_points"], drawn),
        }
        for finding, values in metrics["findings"].items()
    ]
    foot = {"finding": cells.words("Total")._replace(value="total")}
    for point in metrics["operating_points"]:
        foot |= _found(point["name"], point["total"], drawn, -1)
    return Table("by_finding", columns, rows, [foot], heading="Positives and negatives found", look="stacked")


def _shares(finding: str, points: list[dict[str, Any]], drawn: Drawn) -> dict[str, Any]:
    row = {}
    for point in points:
        values = point["findings"][finding]
        row[f"{point['name']}_threshold"] = cells.threshold(values["threshold"])
        row |= _found(point["name"], values, drawn, FINDINGS.index(finding))
    return row


def _found(name: str, values: dict[str, Any], drawn: Drawn, place: int) -> dict[str, Any]:
    return {
        f"{name}_{key}": cells.percent_interval(drawn_shares.interval(values[key], drawn[name][key][place]))
        for key in ("recall", "specificity")
    }


def _note(metrics: dict[str, Any]) -> Paragraph:
    if len(metrics["operating_points"]) == 1:
        said = "Other thresholds than 0.5 were not chosen: there is no validation split to choose them on."
    elif metrics["split"] == "test":
        said = (
            f"Thresholds other than 0.5 were chosen on validation and frozen before test was read: {_CHOSEN}"
        )
    else:
        said = (
            "Thresholds other than 0.5 were chosen on these very images, which flatters what they find: "
            f"{_CHOSEN}"
        )
    return Paragraph(f"{said} {cells.FEW_NOTE}", look="note")


_CHOSEN = (
    "Youden’s makes recall plus specificity largest; the other is the highest that finds at least 90 % of "
    "validation’s positives, and on other images it may find fewer. They are of probabilities before any "
    "temperature."
)
