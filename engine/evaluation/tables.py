"""The files of an evaluation: `predictions.csv`, the numbers of `metrics.json`, their table on the screen.

The metrics are `engine.metrics`', and which model is judged on what is `evaluate`'s. N = images, F = 14
findings in `labels.FINDINGS` order.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from engine.metrics import counts, ranking
from records import storage
from records.errors import RunError
from records.labels import FINDINGS

COLUMNS = (
    "image_id",
    "patient_id",
    *(f"probability_{finding}" for finding in FINDINGS),
    *(f"label_{finding}" for finding in FINDINGS),
)
UNDEFINED = "not defined"
_MADE_BY = "expected the predictions.csv of `engine evaluate`; evaluate again"


@dataclass(frozen=True)
class Predictions:
    """What a model says of each image of a split, and what the table says.

    Attributes:
        image_ids: (N,) str, unique.
        patient_ids: (N,) int64.
        probabilities: (N, F) float64 from 0 to 1, with the nine digits of the file.
        labels: (N, F) uint8, 1 where the finding is reported.
    """

    image_ids: np.ndarray
    patient_ids: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)


def write_predictions(
    path: str | Path,
    image_ids: Sequence[str] | np.ndarray,
    patient_ids: Sequence[int] | np.ndarray,
    probabilities: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Write one row an image; the file appears whole or not at all.

    Args:
        path: of the file.
        image_ids: (N,) str.
        patient_ids: (N,) integers.
        probabilities: (N, F) floats; nine digits are kept, so float32 comes back exactly.
        labels: (N, F) of 0 or 1.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for image_id, patient_id, row, marks in zip(image_ids, patient_ids, probabilities, labels, strict=True):
        values = [f"{value:.9g}" for value in row.tolist()]
        writer.writerow([image_id, int(patient_id), *values, *(int(mark) for mark in marks.tolist())])
    storage.write_bytes(str(path), text.getvalue().encode())


def read_predictions(path: str | Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        RunError: missing or empty, other columns, a cell that is no number, a probability outside 0 to 1, a
            label other than 0 and 1, or an image named twice; the line names the file's line.
    """
    if not Path(path).is_file():
        raise RunError(f"{path}: no predictions; make them with `engine evaluate`")
    try:
        rows = list(csv.reader(io.StringIO(storage.read_bytes(str(path)).decode(), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path}: not a CSV file: {error}; {_MADE_BY}") from error
    _check_header(path, rows)
    parsed = [_parse(row, f"{path}: row {number}") for number, row in enumerate(rows[1:], start=1)]
    image_ids, patient_ids, numbers = zip(*parsed, strict=True)
    _check_unique(path, image_ids)
    values = np.array(numbers, np.float64)
    return Predictions(
        image_ids=np.array(image_ids, str),
        patient_ids=np.array(patient_ids, np.int64),
        probabilities=values[:, : len(FINDINGS)],
        labels=values[:, len(FINDINGS) :].astype(np.uint8),
    )


def summarise(predictions: Predictions, *, threshold: float = 0.5) -> dict[str, Any]:
    """Compute the numbers of `metrics.json`; what isn't defined is None.

    Args:
        predictions: of one split.
        threshold: a probability of at least this counts as positive.

    Returns:
        `images`, `patients`, `macro_auroc`, `macro_auprc`, `defined_findings`, `micro_auroc`, `threshold`,
        `findings` by name, `counts_at_threshold` (all cells in one confusion matrix) and
        `all_negative_baseline` (the same for a model that never finds anything).
    """
    labels, scores = predictions.labels, predictions.probabilities
    auroc, auprc = ranking.auroc(labels, scores), ranking.average_precision(labels, scores)
    micro = ranking.auroc(labels.reshape(-1, 1), scores.reshape(-1, 1))[0]
    return {
        "images": len(predictions),
        "patients": len(np.unique(predictions.patient_ids)),
        "macro_auroc": _defined(ranking.macro(auroc)),
        "macro_auprc": _defined(ranking.macro(auprc)),
        "defined_findings": int(np.isfinite(auroc).sum()),
        "micro_auroc": _defined(micro),
        "findings": {
            finding: _finding(predictions, column, auroc[column], auprc[column])
            for column, finding in enumerate(FINDINGS)
        },
        "threshold": threshold,
        "counts_at_threshold": _micro(counts.confusion(labels, scores, threshold)),
        "all_negative_baseline": _micro(counts.all_negative_baseline(labels)),
    }


def print_table(metrics: dict[str, Any], console: Console | None = None) -> None:
    """Show what `summarise` returned: a row a finding, the macro average last."""
    console = console or Console(markup=False, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("finding")
    for heading in ("images / patients", "prevalence", "AUROC", "AUPRC"):
        table.add_column(heading, justify="right")
    for finding, values in metrics["findings"].items():
        table.add_row(
            finding,
            f"{values['positives']:,} / {values['positive_patients']:,}",
            f"{values['prevalence']:.2%}",
            number(values["auroc"]),
            number(values["auprc"]),
        )
    table.add_section()
    defined = f"macro, {metrics['defined_findings']} of {len(metrics['findings'])}"
    sizes = f"{metrics['images']:,} / {metrics['patients']:,}"
    table.add_row(
        defined, sizes, "", number(metrics["macro_auroc"]), number(metrics["macro_auprc"]), style="bold"
    )
    console.print(table)
    _print_counts(metrics, console)


def number(value: float | None) -> str:
    """Show a metric with three digits, or say that it isn't defined."""
    return UNDEFINED if value is None else f"{value:.3f}"


def _print_counts(metrics: dict[str, Any], console: Console) -> None:
    baseline = metrics["all_negative_baseline"]
    console.print(f"micro AUROC {number(metrics['micro_auroc'])}")
    console.print(
        f"at {metrics['threshold']:g}, over all findings (in brackets: a model that finds nothing):"
    )
    for name, value in metrics["counts_at_threshold"].items():
        console.print(f"  {name:<13} {number(value)}  ({number(baseline.get(name))})")


def _finding(predictions: Predictions, column: int, auroc: float, auprc: float) -> dict[str, Any]:
    positive = predictions.labels[:, column] == 1
    return {
        "auroc": _defined(auroc),
        "auprc": _defined(auprc),
        "prevalence": float(positive.mean()),
        "positives": int(positive.sum()),
        "positive_patients": len(np.unique(predictions.patient_ids[positive])),
    }


def _defined(value: float) -> float | None:
    # JSON has no NaN.
    return float(value) if math.isfinite(value) else None


def _micro(matrix: counts.Confusion) -> dict[str, float | None]:
    # The name that the run's log uses.
    names = {"hamming": "hamming_loss"}
    return {names.get(name, name): _defined(metric.micro) for name, metric in matrix.metrics().items()}


def _check_header(path: str | Path, rows: list[list[str]]) -> None:
    found = rows[0] if rows else []
    if tuple(found) != COLUMNS:
        strange = next((name for name in found if name not in COLUMNS), None)
        lacking = next((name for name in COLUMNS if name not in found), None)
        what = f"no column `{lacking}`" if lacking else f"a strange column `{strange}`"
        what = what if lacking or strange else "columns in another order"
        raise RunError(f"{path}: {what}; {_MADE_BY}")
    if len(rows) == 1:
        raise RunError(f"{path}: no row below the header; {_MADE_BY}")


def _parse(row: list[str], where: str) -> tuple[str, int, list[float]]:
    if len(row) != len(COLUMNS):
        raise RunError(f"{where}: {len(row)} cells; expected {len(COLUMNS)}; evaluate again")
    try:
        patient_id, numbers = int(row[1]), [float(cell) for cell in row[2:]]
    except ValueError as error:
        raise RunError(f"{where}: {error}; {_MADE_BY}") from error
    for name, value in zip(COLUMNS[2:], numbers, strict=True):
        # A comparison that NaN fails as well.
        if not 0 <= value <= 1:
            raise RunError(f"{where}: {name} is {value:g}; expected 0 to 1; evaluate again")
        if name.startswith("label_") and value not in (0, 1):
            raise RunError(f"{where}: {name} is {value:g}; expected 0 or 1; evaluate again")
    return row[0], patient_id, numbers


def _check_unique(path: str | Path, image_ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for image_id in image_ids:
        if image_id in seen:
            raise RunError(f"{path}: {image_id} stands twice; expected each image once; evaluate again")
        seen.add(image_id)
