"""How to come to the same numbers: commands, versions, hashes, and each reading of the test split."""

from __future__ import annotations

from engine.report import cells
from engine.report.document import Block, Code, Column, Facts, Paragraph, Section, Table
from engine.report.run_files import RunFiles


def section(run: RunFiles) -> Section:
    """Build the section."""
    blocks: list[Block] = [Code("commands", _commands(run)), Facts("origin", _origin(run))]
    if run.test_reads:
        blocks += [_reads(run), Paragraph(_said(run), look="note")]
    else:
        blocks.append(Paragraph("The test split has not been read by `engine evaluate`.", look="note"))
    return Section("reproduce", "How to reproduce", blocks)


def _commands(run: RunFiles) -> list[str]:
    commands = [str(training.known.get("command", "")) for training in run.trainings]
    if run.ensemble:
        commands.append(str(run.known.get("command", "")))
    commands = [command for command in dict.fromkeys(commands) if command] or ["not recorded"]
    commands.append(run.make("evaluate"))
    if run.heatmaps:
        commands.append(run.make("heatmaps", "--boxes BBox_List_2017.csv"))
    return [*commands, run.make("report")]


def _origin(run: RunFiles) -> list[tuple[str, str]]:
    """Return what names this run's inputs and code exactly."""
    known = run.known
    metrics = run.shown.metrics if run.shown else {}
    bootstrap = metrics.get("bootstrap", {})
    rows = [
        ("Manifest", _sha256(known["manifest"].get("sha256"))),
        ("Model", _sha256(metrics.get("model_sha256"))),
        ("Predictions", _sha256(metrics.get("predictions_sha256"))),
        ("Frozen thresholds", _sha256(run.frozen["sha256"] if run.frozen else None)),
        ("Frozen at", str((run.frozen or {}).get("frozen_at") or "not recorded")),
        ("Bootstrap", f"{bootstrap.get('draws', '?')} draws of patients, seed {bootstrap.get('seed', '?')}"),
        ("Commit", str(known.get("git_commit") or "not recorded")),
        ("Versions", _listed(known.get("versions"))),
        ("Device", str(known.get("device") or "not recorded")),
        ("Started", str(known.get("started") or "not recorded")),
    ]
    if run.data_set:
        rows.append(("Data made with", _listed(run.data_set.versions)))
    return rows


def _reads(run: RunFiles) -> Table:
    columns = [
        Column("at", "Test read at", "text"),
        Column("model_sha256", "Model", "text"),
        Column("manifest_sha256", "Manifest", "text"),
        Column("frozen_sha256", "Frozen thresholds", "text"),
        Column("command", "Command", "text wrap"),
    ]
    rows = []
    for read in run.test_reads:
        row = {key: _short(read.get(key)) for key in ("model_sha256", "manifest_sha256", "frozen_sha256")}
        row |= {"at": cells.words(read.get("at")), "command": cells.words(read.get("command"))}
        rows.append(row)
    return Table("test_reads", columns, rows, look="full")


def _said(run: RunFiles) -> str:
    if len(run.test_models) == 1:
        return (
            "Every reading of the test split, by evaluation and heat maps alike; all by one model, after "
            "all choices were frozen."
        )
    return "Every reading of the test split; only the first model is free of what the split may have taught."


def _short(sha256: str | None) -> cells.Cell:
    return cells.words(sha256[:12] if sha256 else None)._replace(value=sha256)


def _sha256(value: str | None) -> str:
    return f"sha256 {value}" if value else "not recorded"


def _listed(versions: dict[str, str] | None) -> str:
    return ", ".join(f"{name} {version}" for name, version in (versions or {}).items()) or "not recorded"
