"""`engine report`: what is known of a run, as one HTML page, as Markdown and as JSON.

The parts are read by `run_files`, put into words and tables by `sections`, and written here. The page asks
the network for nothing: style, plots and pictures stand in the file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.report import document, markdown, run_files, template
from engine.report.document import Document, Section
from engine.report.run_files import RunFiles
from engine.report.sections import (
    calibration,
    compared_losses,
    data_set,
    findings,
    heatmaps,
    images,
    limits,
    operating_points,
    published_studies,
    reproduction,
    speed,
    subgroups,
    summary,
    training,
)
from records import storage
from records.errors import UsageError

HTML_NAME, MARKDOWN_NAME, JSON_NAME = "report.html", "report.md", "report.json"


def run(
    run_dir: str, *, data: str | None = None, compare: str | Path | Sequence[str | Path] | None = None
) -> int:
    """Write the report into the run directory and print where it stands.

    Args:
        run_dir: of a training or of an ensemble.
        data: location of the manifest, where it isn't where the run found it.
        compare: folders of two runs with other losses, evaluated on the same data set, to be set side by
            side; one alone is compared with this run.

    Returns:
        0.

    Raises:
        CxrError: there is no run, or a part is damaged, of an earlier version, of another data
            set or of another model.
    """
    for path in write(run_dir, data=data, compare=compare):
        print(path)
    return 0


def write(
    run_dir: str | Path,
    output: str | Path | None = None,
    *,
    data: str | None = None,
    compare: str | Path | Sequence[str | Path] | None = None,
) -> list[Path]:
    """Write the report's three files; each appears whole or not at all.

    Args:
        run_dir: of a training or of an ensemble.
        output: folder of the files; None is the run directory.
        data: location of the manifest, where it isn't where the run found it.
        compare: folders of two runs, or of one.

    Returns:
        The paths of the page, the Markdown and the JSON.

    Raises:
        CxrError: as for `run`.
    """
    compared = [compare] if isinstance(compare, (str, Path)) else list(compare or ())
    if len(compared) > 2:
        raise UsageError(f"--compare: {len(compared)} runs; expected two, or one to compare with {run_dir}")
    found = run_files.read(run_dir, data)
    report = build(found, [run_files.read(other, data) for other in compared])
    if found.shown is None:
        print(f"{run_dir}: nothing was judged yet: `{found.make('evaluate')}`", file=sys.stderr)
    folder = Path(output) if output else Path(run_dir)
    written = {
        HTML_NAME: as_html(report),
        MARKDOWN_NAME: markdown.write(report),
        JSON_NAME: as_json(report),
    }
    for name, text in written.items():
        storage.write_bytes(str(folder / name), text.encode())
    return [folder / name for name in written]


def build(found: RunFiles, compared: Sequence[RunFiles] = ()) -> Document:
    """Put a report together from what was found of a run, and of those that are compared."""
    sections = (
        summary.section(found),
        data_set.section(found),
        training.section(found),
        findings.section(found),
        operating_points.section(found),
        calibration.section(found),
        published_studies.section(found),
        compared_losses.section(found, compared),
        subgroups.section(found),
        images.section(found),
        heatmaps.section(found),
        speed.section(found),
        limits.section(found),
        reproduction.section(found, compared),
    )
    return Document(
        title=found.path.resolve().name,
        lead=summary.lead(found),
        headline=summary.headline(found),
        facts=summary.facts(found),
        warnings=summary.warnings(found),
        sections=[section for section in sections if isinstance(section, Section)],
        about=_about(found),
    )


def as_html(report: Document) -> str:
    """Return the page."""
    return template.render("report.html.j2", report=report)


def as_json(report: Document) -> str:
    """Return the numbers."""
    return json.dumps(document.as_json(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _about(found: RunFiles) -> dict[str, Any]:
    shown = found.shown
    return {
        "run_dir": str(found.path),
        "kind": "ensemble" if found.ensemble else "run",
        "split": shown.split if shown else None,
        "split_strategy": found.kind_of_split,
        "phantom": found.phantom,
        "manifest_sha256": found.known["manifest"].get("sha256"),
        "model_sha256": shown.metrics.get("model_sha256") if shown else None,
        "test_reads": len(found.test_reads),
    }
