"""How well each finding is ranked: table, ROC and precision-recall curves, intervals everywhere."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from engine.report import cells, curve_plots, curves
from engine.report.contact_sheet import in_words
from engine.report.curves import Band
from engine.report.document import Block, Column, Figures, Panel, Paragraph, Section, Table, missing
from engine.report.run_files import Evaluation, RunFiles
from records.labels import FINDINGS

FEW = "†"
CHANCE = 0.5
_BAND = (
    f"Shaded: pointwise 95 % of {curves.DRAWS} draws of patients; it says where the curve is at a point, "
    "not where the whole of it lies."
)
_ROC_CAPTION = (
    "Recall (upwards) over 1 − specificity (to the right), both from 0 to 1; the diagonal is chance. Below "
    f"each the area with its interval. {_BAND}"
)
_PRECISION_RECALL_CAPTION = (
    "Precision (upwards) over recall (to the right), both from 0 to 1. Dashed: the prevalence, which is "
    f"the precision of chance. Below each the average precision with its interval. {_BAND}"
)


def section(run: RunFiles) -> Section:
    """Build the section."""
    if not run.shown:
        return Section("findings", "Findings", [missing("No evaluation yet", run.make("evaluate"))])
    metrics = run.shown.metrics
    return Section("findings", "Findings", [_table(metrics), _note(metrics), *_curves(run.shown)])


def _table(metrics: dict[str, Any]) -> Table:
    columns = [
        Column("finding", "Finding", "text"),
        Column("auroc", "AUROC"),
        Column("drawn", "", "drawn", scale=_scale(metrics)),
        Column("auprc", "AUPRC"),
        Column("prevalence", "Prevalence, %"),
        Column("positives", "Images"),
        Column("positive_patients", "Patients"),
    ]
    rows = [
        {
            "finding": cells.finding(name, few=values["few"]),
            "auroc": cells.interval(values["auroc"]),
            "drawn": cells.track(values["auroc"], "few" if values["few"] else ""),
            "auprc": cells.interval(values["auprc"]),
            "prevalence": cells.percent(values["prevalence"], 2),
            "positives": cells.count(values["positives"]),
            "positive_patients": cells.count(values["positive_patients"]),
        }
        for name, values in metrics["findings"].items()
    ]
    foot = [_average(metrics, kind) for kind in ("macro", "micro")]
    return Table("findings", columns, rows, foot)


def _scale(metrics: dict[str, Any]) -> tuple[float, float]:
    """Return the ends of the strip: from chance or below to 1, so that no interval is clipped."""
    drawn = [values["auroc"] for values in metrics["findings"].values()]
    drawn += [metrics["macro_auroc"], metrics["micro_auroc"]]
    ends = [end for value in drawn for end in (value["value"], value["low"]) if end is not None]
    lowest = math.floor(10 * min(ends, default=CHANCE)) / 10
    return min(lowest, CHANCE), 1.0


def _average(metrics: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "finding": cells.words(f"{kind.capitalize()} average")._replace(value=kind),
        "auprc": cells.interval(metrics[f"{kind}_auprc"]),
        "auroc": cells.interval(metrics[f"{kind}_auroc"]),
        "drawn": cells.track(metrics[f"{kind}_auroc"]),
    }


def _note(metrics: dict[str, Any]) -> Paragraph:
    said = ["AUROC of chance is 0.5, AUPRC of chance is the prevalence."]
    if any(values["few"] for values in metrics["findings"].values()):
        said.append(
            f"{FEW} fewer than 30 patients have the finding in this split: the number is uncertain, and no "
            "basis for comparing models."
        )
    if any(values["auroc"]["value"] is None for values in metrics["findings"].values()):
        said.append("“Not defined”: no image or every image has the finding; it counts in no average.")
    said.append("Macro: mean over the findings; micro: all answers in one list.")
    return Paragraph(" ".join(said), look="note")


class _Ranking(NamedTuple):
    """One finding, or all answers in one list."""

    name: str
    title: str
    labels: np.ndarray
    scores: np.ndarray
    patient_ids: np.ndarray
    numbers: dict[str, Any]


def _rankings(shown: Evaluation) -> list[_Ranking]:
    predictions, metrics = shown.predictions, shown.metrics
    of_findings = [
        _Ranking(
            name,
            in_words(name),
            predictions.labels[:, column],
            predictions.logits[:, column],
            predictions.patient_ids,
            metrics["findings"][name],
        )
        for column, name in enumerate(FINDINGS)
    ]
    micro = _Ranking(
        "micro",
        "Micro average",
        predictions.labels.reshape(-1),
        predictions.logits.reshape(-1),
        np.repeat(predictions.patient_ids, len(FINDINGS)),
        {"auroc": metrics["micro_auroc"], "auprc": metrics["micro_auprc"]},
    )
    return [*of_findings, micro]


def _curves(shown: Evaluation) -> list[Block]:
    roc, precision_recall = [], []
    roc_data: dict[str, Any] = {"grid": curves.GRID.tolist()}
    precision_recall_data: dict[str, Any] = {"grid": curves.GRID.tolist()}
    for ranking in _rankings(shown):
        found = curves.curves(ranking.labels, ranking.scores, ranking.patient_ids)
        corners = curves.roc_corners(ranking.labels, ranking.scores)
        drawn = curve_plots.roc([(corners, found.roc)], f"roc-{ranking.name}")
        roc.append(Panel(ranking.title, drawn, cells.in_line(ranking.numbers["auroc"])))
        prevalence = float(ranking.labels.mean())
        drawn = curve_plots.precision_recall(found.precision_recall, prevalence, f"pr-{ranking.name}")
        precision_recall.append(Panel(ranking.title, drawn, cells.in_line(ranking.numbers["auprc"])))
        roc_data[ranking.name] = _band(found.roc)
        precision_recall_data[ranking.name] = _band(found.precision_recall)
    return [
        Figures("roc", roc, _ROC_CAPTION, heading="ROC curves", data=roc_data),
        Figures(
            "precision_recall",
            precision_recall,
            _PRECISION_RECALL_CAPTION,
            heading="Precision-recall curves",
            data=precision_recall_data,
        ),
    ]


def _band(band: Band) -> dict[str, list[float | None]]:
    return {
        name: [round(float(value), 5) if np.isfinite(value) else None for value in values]
        for name, values in band._asdict().items()
    }
