"""How to come to the same numbers: commands, versions, hashes, and each reading of the test split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.metrics import bootstrap
from engine.report import cells
from engine.report.document import Block, Code, Column, Facts, Paragraph, Section, Table
from engine.report.run_files import RunFiles
from records.labels import FINDINGS


def section(run: RunFiles, compared: Sequence[RunFiles] = ()) -> Section:
    """Build the section; `compared` are the runs that were set side by side."""
    blocks: list[Block] = [Code("commands", _commands(run, compared)), Facts("origin", _origin(run))]
    if run.test_reads:
        blocks += [_reads(run), Paragraph(_said(run), look="note")]
    elif "test" in run.evaluations:
        blocks.append(Paragraph("How often the test split was read is not recorded.", look="note"))
    else:
        blocks.append(Paragraph("The test split has not been read by `engine evaluate`.", look="note"))
    return Section("reproduce", "How to reproduce", blocks)


def _commands(run: RunFiles, compared: Sequence[RunFiles]) -> list[str]:
    commands = [str(training.known.get("command", "")) for training in run.trainings]
    if run.ensemble:
        commands.append(str(run.known.get("command", "")))
    commands = [command for command in dict.fromkeys(map(_typed, commands)) if command] or ["not recorded"]
    judged = run.shown.metrics["bootstrap"]["draws"] if run.shown else bootstrap.DRAWS
    commands.append(run.make("evaluate", *_draws(judged)))
    if run.heatmaps:
        commands.append(run.make("heatmaps", "--boxes", _boxes(run), *_heatmap_flags(run.heatmaps)))
    pair = [run, *compared][-2:] if compared else []
    flags = ["--compare", *(str(files.path) for files in pair)] if pair else []
    return [*commands, run.make("report", *flags)]


def _heatmap_flags(found: dict[str, Any]) -> list[str]:
    asked = found["asked"]
    flags = [f"--{name}" for name in ("attention", "cbam") if asked[name]]
    if len(asked["findings"]) < len(FINDINGS):
        flags += ["--findings", *asked["findings"]]
    return [*flags, f"--images {asked['images']}", *_draws(asked["draws"])]


def _draws(number: int) -> list[str]:
    return [] if number == bootstrap.DRAWS else [f"--draws {number}"]


def _typed(command: str) -> str:
    """Write a recorded command as it is typed; the record begins with the program's path."""
    program, *rest = command.split(" ")
    known = program.endswith(("engine/cli.py", "bin/engine"))
    return " ".join(["engine", *rest]) if known else command


def _boxes(run: RunFiles) -> str:
    """Return the list of boxes that the heat maps were held against, as it was named."""
    if named := (run.heatmaps or {})["asked"].get("boxes"):
        return str(named)
    for read in reversed(run.test_reads):
        words = str(read["command"]).split()
        if "--boxes" in words[:-1]:
            return words[words.index("--boxes") + 1]
    return "BBox_List_2017.csv"


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
        row |= {"at": cells.words(read.get("at")), "command": cells.words(_typed(str(read["command"])))}
        rows.append(row)
    return Table("test_reads", columns, rows, look="full")


def _said(run: RunFiles) -> str:
    if len(run.test_models) == 1:
        frozen = all(read["frozen_sha256"] for read in run.test_reads)
        return "Every reading of the test split, by evaluation and heat maps alike; all by one model, " + (
            "after all choices were frozen." if frozen else "for which nothing was chosen on validation."
        )
    return "Every reading of the test split; only the first model is free of what the split may have taught."


def _short(sha256: str | None) -> cells.Cell:
    return cells.words(sha256[:12] if sha256 else None)._replace(value=sha256)


def _sha256(value: str | None) -> str:
    return f"sha256 {value}" if value else "not recorded"


def _listed(versions: dict[str, str] | None) -> str:
    return ", ".join(f"{name} {version}" for name, version in (versions or {}).items()) or "not recorded"
