"""`engine report`: one self-contained HTML page on a run and its evaluation on one split.

It reads what training and evaluation left in the run directory, computes nothing of its own but the curves,
and asks the network for nothing: style, plots and pictures stand in the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from markupsafe import Markup

from engine.evaluation import tables
from engine.evaluation.tables import Predictions
from engine.report import contact_sheet, inspect_data, plots, template
from engine.report.data_counts import FEW_PATIENTS
from engine.training.run_directory import FINISHED, RunDirectory
from records import example, manifest, picture, storage
from records.errors import RunError
from records.labels import FINDINGS
from records.manifest import Manifest

PICTURES = 8
PICTURE_CALLS = 3
_COUNT_NAMES = {
    "recall": ("Recall", "share of the reported findings that are found"),
    "specificity": ("Specificity", "share of the absent findings that are left alone"),
    "ppv": ("PPV", "share of the alarms that are right"),
    "npv": ("NPV", "share of the all-clears that are right"),
    "f1": ("F1", "of recall and PPV, over all findings"),
    "hamming_loss": ("Hamming loss", "share of all answers that are wrong"),
}


class _Run(NamedTuple):
    """What a run directory holds of one split."""

    path: Path
    split: str
    known: dict[str, Any]
    config: dict[str, Any]
    metrics: dict[str, Any]
    predictions: Predictions
    benchmark: list[dict[str, Any]]


def run(run_dir: str, split: str, data: str | None = None) -> int:
    """Write the page and print its path.

    Args:
        run_dir: folder of the run.
        split: that was evaluated.
        data: location of the manifest, where it isn't where the run found it.

    Returns:
        0.

    Raises:
        CxrError: run, evaluation or data set are missing or at fault.
    """
    known = RunDirectory(run_dir).read()
    print(write(run_dir, manifest.load(data or known["manifest"]["location"]), split=split))
    return 0


def write(
    run_dir: str | Path, data_set: Manifest, output: str | Path | None = None, *, split: str = "test"
) -> Path:
    """Write the page.

    Args:
        run_dir: folder of the run.
        data_set: that the run was trained on.
        output: of the page; None is `report.html` in the run directory, `report_<split>.html` for another
            split than test.
        split: that was evaluated.

    Returns:
        The page's path.

    Raises:
        CxrError: a part is missing, or belongs to another data set; the line says which command makes it.
    """
    found = _gather(Path(run_dir), data_set, split)
    name = "report.html" if split == "test" else f"report_{split}.html"
    path = Path(output) if output else Path(run_dir) / name
    storage.write_bytes(str(path), _render(found, data_set).encode())
    return path


def _gather(run_dir: Path, data_set: Manifest, split: str) -> _Run:
    directory = RunDirectory(str(run_dir))
    known = directory.read()
    evaluate = f"evaluate with `engine evaluate --run-dir {run_dir} --split {split}`"
    folder = directory.evaluation_path(split)
    metrics = _read_json(folder / "metrics.json", f"no evaluation of the {split} split; {evaluate}")
    for what, sha256 in (
        ("run", known["manifest"]["sha256"]),
        ("evaluation", metrics.get("manifest_sha256")),
    ):
        if sha256 not in (None, data_set.sha256):
            raise RunError(
                f"{data_set.location}: not the data set of this {what} (manifest {data_set.sha256[:12]}, "
                f"the {what}'s is {sha256[:12]}); name the right one, or {evaluate}"
            )
    predictions = tables.read_predictions(folder / "predictions.csv")
    if len(predictions) != metrics["images"]:
        raise RunError(
            f"{folder}: {len(predictions)} predictions beside metrics of {metrics['images']} images; "
            f"{evaluate}"
        )
    benchmark_path = run_dir / "benchmark.json"
    return _Run(
        path=run_dir,
        split=split,
        known=known,
        config=_read_config(directory.config_path),
        metrics=metrics,
        predictions=predictions,
        benchmark=_benchmark_rows(_read_json(benchmark_path, "")) if benchmark_path.is_file() else [],
    )


def _benchmark_rows(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what `engine benchmark input --json` printed as rows of a table; the PNG loop comes last."""
    rates = [rate for rate in measured.get("rates", []) if not rate["not_measured"]]
    slowest = min((rate["images_per_s"] for rate in rates), default=1.0)
    return [
        {
            "input": rate["name"],
            "images_per_s": rate["images_per_s"],
            "cpu_s_per_1000": rate["cpu_s_per_1000"],
            "times_the_slowest": rate["images_per_s"] / slowest,
        }
        for rate in rates
    ]


def _read_json(path: Path, missing: str) -> Any:
    if not path.is_file():
        raise RunError(f"{path}: {missing}")
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise RunError(f"{path}: not JSON: {error}; remove it and make it again") from error


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise RunError(f"{path}: no config; expected the run directory of `engine train`")
    try:
        sections = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RunError(f"{path}: not YAML: {' '.join(str(error).split())}; train again") from error
    if not isinstance(sections, dict) or not all(isinstance(keys, dict) for keys in sections.values()):
        raise RunError(f"{path}: no sections of keys; train again")
    return sections


def _render(found: _Run, data_set: Manifest) -> str:
    return template.render(
        "report.html.j2",
        {"number": tables.number},
        found=found,
        known=found.known,
        metrics=found.metrics,
        data_set=data_set,
        kind=template.kind_of_split(data_set),
        phantom=bool(data_set.source.get("phantom")),
        unfinished=found.known.get("state") != FINISHED,
        headline=_headline(found),
        findings=_finding_rows(found.metrics),
        few_patients=FEW_PATIENTS,
        counts=_count_rows(found.metrics),
        data_rows=template.data_facts(data_set),
        plots=_plots(found, data_set),
        pictures=_pictures(found, data_set),
        benchmark_columns=list(dict.fromkeys(key for row in found.benchmark for key in row)),
        origin=_origin(found, data_set),
    )


def _headline(found: _Run) -> list[tuple[str, str]]:
    """Return (number, what it is) for the head of the page."""
    metrics, known = found.metrics, found.known
    return [
        (template.count(metrics["images"]), "images judged"),
        (template.count(metrics["patients"]), "patients"),
        (template.count(known.get("parameters")), "parameters"),
        (_duration(known.get("seconds")), f"training, {template.count(known.get('epochs_done'))} epochs"),
    ]


def _finding_rows(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each finding's numbers with its place on a scale from 0.5 to 1, in percent."""
    rows = []
    for finding, values in metrics["findings"].items():
        auroc = values["auroc"]
        place = None if auroc is None else round(100 * min(max((auroc - 0.5) / 0.5, 0.0), 1.0), 1)
        few = values["positive_patients"] < FEW_PATIENTS
        rows.append({"name": finding, "place": place, "few": few, **values})
    return rows


def _count_rows(metrics: dict[str, Any]) -> list[tuple[str, str, float | None, float | None]]:
    """Return (name, meaning, the model's value, that of a model that finds nothing)."""
    baseline = metrics["all_negative_baseline"]
    return [
        (*_COUNT_NAMES.get(name, (name, "")), value, baseline.get(name))
        for name, value in metrics["counts_at_threshold"].items()
    ]


def _plots(found: _Run, data_set: Manifest) -> dict[str, Markup]:
    """Draw each plot twice where a phone needs fewer columns; the page shows the one that fits."""
    history_csv = RunDirectory(str(found.path)).history_path
    best = found.known.get("best_epoch")
    figures = {
        "history_wide": plots.history(history_csv, best_epoch=best, columns=3),
        "history_narrow": plots.history(history_csv, best_epoch=best, columns=1),
        "roc_wide": plots.roc(found.predictions, columns=5),
        "roc_narrow": plots.roc(found.predictions, columns=2),
        "prevalence": plots.prevalence(data_set),
    }
    # Markup: matplotlib escapes what it writes into an SVG.
    return {name: Markup(plots.to_svg(figure, name)) for name, figure in figures.items()}


def _pictures(found: _Run, data_set: Manifest) -> list[dict[str, Any]]:
    rows = {image_id: row for row, image_id in enumerate(found.predictions.image_ids.tolist())}
    shown = inspect_data.pick(data_set, found.split, PICTURES)
    return [_picture(record, found.predictions, rows.get(record.image_id)) for record in shown]


def _picture(record: example.Record, predictions: Predictions, row: int | None) -> dict[str, Any]:
    """Return a record for the page, with the model's strongest calls if it was judged."""
    calls = []
    if row is not None:
        for column in np.argsort(-predictions.probabilities[row], kind="stable")[:PICTURE_CALLS]:
            probability = float(predictions.probabilities[row, column])
            calls.append((FINDINGS[column], probability, bool(record.labels[column])))
    return {
        "source": template.picture_source(picture.decode(record)[..., 0]),
        "image_id": record.image_id,
        "circumstances": contact_sheet.circumstances(record),
        "findings": contact_sheet.findings(record),
        "calls": calls,
    }


def _origin(found: _Run, data_set: Manifest) -> list[tuple[str, str]]:
    """Return what names this run's inputs and code exactly."""
    known, source = found.known, data_set.source
    versions = ", ".join(f"{name} {version}" for name, version in known.get("versions", {}).items())
    rows = [
        ("Manifest", f"sha256 {data_set.sha256}"),
        ("Label table", f"sha256 {source.get('table_sha256', 'not recorded')}"),
        ("Model file", f"sha256 {found.metrics.get('model_sha256', 'not recorded')}"),
        ("Commit", known.get("git_commit") or "not recorded"),
        ("Versions", versions or "not recorded"),
        ("Device", str(known.get("device") or "not recorded")),
        ("Started", str(known.get("started") or "not recorded")),
    ]
    return [*rows, ("Data made with", ", ".join(f"{k} {v}" for k, v in data_set.versions.items()))]


def _duration(seconds: float | None) -> str:
    """Say a time in its two largest units: `3 h 12 min`."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
