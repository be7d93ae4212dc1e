"""Two runs with other losses, as the guide compares weighted with plain cross-entropy: curves, shares, "
"gain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.metrics import bootstrap
from engine.metrics.intervals import as_json
from engine.report import cells, curve_plots, curves, drawn_shares
from engine.report.contact_sheet import in_words
from engine.report.document import Block, Column, Figures, Panel, Paragraph, Section, Table
from engine.report.run_files import SHOWN_SPLITS, Evaluation, RunFiles
from engine.report.sections.operating_points import METRICS, thresholds
from records.errors import RunError, UsageError
from records.labels import FINDINGS


def section(run: RunFiles, others: Sequence[RunFiles]) -> Section:
    """Build the section.

    Args:
        run: that the report is on.
        others: two runs to compare, or one to be compared with `run`.

    Raises:
        RunError: the two were not evaluated on the same images.
        UsageError: the two are one run.
    """
    title = "Two losses compared"
    if not others:
        command = run.make("report", "--compare WEIGHTED PLAIN")
        said = f"No runs to compare were given: `{command}` sets two with other losses side by side."
        return Section("losses", title, [Paragraph(said, look="missing")])
    pair = (others[0], others[1]) if len(others) > 1 else (run, others[0])
    _check_two(*pair)
    ours, theirs = _same_images(*pair)
    names = _names(*pair)
    gain = as_json(
        bootstrap.paired_macro_gain(
            ours.predictions.labels,
            ours.predictions.logits,
            theirs.predictions.logits,
            ours.predictions.patient_ids,
        )
    )
    blocks: list[Block] = [
        Paragraph(_said(names, ours, theirs, gain)),
        Paragraph(_what_else_differs(*pair), look="note"),
        *_judged_on_validation(ours, *pair),
        _totals(names, ours, theirs, gain),
        _roc(names, ours, theirs),
        _by_finding(names, ours, theirs),
        Paragraph(_NOTE, look="note"),
    ]
    return Section("losses", title, blocks)


_NOTE = (
    "Shares are at a threshold of 0.5 for both, as the guide has them. A loss that weighs positives moves "
    "all probabilities up, so 0.5 is another operating point for it; the ranking (AUROC) and its paired "
    "difference are free of that. Differences in **bold** have an interval that leaves out 0; of fourteen "
    f"findings one may do so by chance. {cells.FEW_NOTE}"
)


def _check_two(run: RunFiles, other: RunFiles) -> None:
    same_model = run.model_sha256 is not None and run.model_sha256 == other.model_sha256
    if same_model or run.path.resolve() == other.path.resolve():
        raise UsageError(
            f"--compare: {run.path} and {other.path} are one and the same run; name two with other losses"
        )


def _judged_on_validation(shown: Evaluation, *pair: RunFiles) -> list[Block]:
    """Warn where the two are not compared on test, and say whose fault that is."""
    if shown.split == "test":
        return []
    unread = " and ".join(f"`{files.path.name}`" for files in pair if "test" not in files.evaluations)
    said = "on which epochs and thresholds were chosen: both are flattered, and not by the same amount."
    return [Paragraph(f"**{unread} was judged on validation only**, {said}", look="warning")]


def _same_images(run: RunFiles, other: RunFiles) -> tuple[Evaluation, Evaluation]:
    split = next((split for split in SHOWN_SPLITS if split in run.evaluations), None)
    if split is None:
        raise RunError(f"{run.path}: no evaluation to compare; make it with `{run.make('evaluate')}`")
    if split not in other.evaluations:
        raise RunError(
            f"{other.path}: not evaluated on the {split} split; make it with `{other.make('evaluate')}`"
        )
    ours, theirs = run.evaluations[split], other.evaluations[split]
    if not np.array_equal(ours.predictions.image_ids, theirs.predictions.image_ids) or not np.array_equal(
        ours.predictions.labels, theirs.predictions.labels
    ):
        raise RunError(
            f"{other.path}: judged on other images than {run.path}; compare two runs of one data set"
        )
    return ours, theirs


def _what_else_differs(run: RunFiles, other: RunFiles) -> str:
    """Say whether the loss alone tells the two runs apart, by their configs."""
    configs = [files.trainings[0].config for files in (run, other)]
    if any(len(files.trainings) > 1 or files.known.get("kind") == "soup" for files in (run, other)):
        return "Not both are of one training, so what tells them apart is more than a loss."
    if not all(configs):
        return "A config is missing, so whether the loss alone tells the two apart isn’t known."
    settings = [
        {f"{section}.{key}": value for section, keys in config.items() for key, value in keys.items()}
        for config in configs
    ]
    differing = sorted(
        key for key in settings[0].keys() | settings[1].keys() if settings[0].get(key) != settings[1].get(key)
    )
    if not differing:
        return "Their configs are the same, the loss as well: what tells the two apart is no loss."
    others = [key for key in differing if not key.startswith("loss.")]
    if not others:
        return "Their configs differ in the loss alone; both began with the same weights."
    return (
        f"Their configs also differ in {', '.join(f'`{key}`' for key in others)}: what follows is not the "
        "loss’s alone."
    )


def _names(run: RunFiles, other: RunFiles) -> tuple[str, str]:
    losses = [
        str(files.trainings[0].config.get("loss", {}).get("name", files.path.name))
        if len(files.trainings) == 1
        else f"{files.path.name}, {len(files.trainings)} models"
        for files in (run, other)
    ]
    if losses[0] == losses[1]:
        losses = [f"{loss} ({files.path.name})" for loss, files in zip(losses, (run, other), strict=True)]
    return losses[0], losses[1]


def _at_half(found: Evaluation) -> dict[str, Any]:
    return next(point for point in found.metrics["operating_points"] if point["name"] == "0.5")


def _said(names: tuple[str, str], ours: Evaluation, theirs: Evaluation, gain: dict[str, Any]) -> str:
    shares = []
    for name, found in zip(names, (ours, theirs), strict=True):
        total = _at_half(found)["total"]
        shares.append(
            f"`{name}` finds {cells.percent(total['recall'], 2).text} % of the positives and "
            f"{cells.percent(total['specificity'], 2).text} % of the negatives"
        )
    return (
        f"On {ours.split}, at 0.5, {', '.join(shares)}. Macro AUROC of `{names[0]}` minus that of "
        f"`{names[1]}`: {cells.difference_in_line(gain)}, paired on the same draws of patients."
    )


def _totals(names: tuple[str, str], ours: Evaluation, theirs: Evaluation, gain: dict[str, Any]) -> Table:
    columns = [
        Column("metric", "Over all findings", "text"),
        Column("first", names[0]),
        Column("second", names[1]),
        Column("difference", "Paired difference"),
    ]
    rows = [
        {
            "metric": cells.words("Macro AUROC")._replace(value="macro_auroc"),
            "first": cells.interval(ours.metrics["macro_auroc"]),
            "second": cells.interval(theirs.metrics["macro_auroc"]),
            "difference": cells.signed(gain),
        }
    ]
    points = [_at_half(found) for found in (ours, theirs)]
    drawn = [
        drawn_shares.on_draws(found.predictions, thresholds(point), draws=bootstrap.DRAWS)
        for found, point in zip((ours, theirs), points, strict=True)
    ]
    for key, name, _ in METRICS:
        first, second = (point["total"][key] for point in points)
        ours_drawn, theirs_drawn = (values[key][-1] for values in drawn)
        difference = None if first is None or second is None else first - second
        rows.append(
            {
                "metric": cells.words(f"{name} at 0.5")._replace(value=key),
                "first": cells.interval(drawn_shares.interval(first, ours_drawn)),
                "second": cells.interval(drawn_shares.interval(second, theirs_drawn)),
                "difference": cells.signed(drawn_shares.interval(difference, ours_drawn - theirs_drawn)),
            }
        )
    return Table("totals", columns, rows)


def _roc(names: tuple[str, str], ours: Evaluation, theirs: Evaluation) -> Figures:
    panels = []
    for column, finding in enumerate((*FINDINGS, "micro")):
        drawn, areas = [], []
        for found in (ours, theirs):
            micro = finding == "micro"
            labels, logits = found.predictions.labels, found.predictions.logits
            pair = (
                (labels.reshape(-1), logits.reshape(-1)) if micro else (labels[:, column], logits[:, column])
            )
            drawn.append((curves.roc_corners(*pair), None))
            values = found.metrics["micro_auroc"] if micro else found.metrics["findings"][finding]["auroc"]
            areas.append(cells.number(values["value"]).text)
        title = "Micro average" if finding == "micro" else in_words(finding)
        panels.append(Panel(title, curve_plots.roc(drawn, f"losses-{column}"), " · ".join(areas)))
    return Figures(
        "roc",
        panels,
        "Recall (upwards) over 1 − specificity (to the right) for both losses; below each panel the two "
        "areas.",
        legend=[("first", names[0]), ("second", names[1])],
    )


def _by_finding(names: tuple[str, str], ours: Evaluation, theirs: Evaluation) -> Table:
    predictions = ours.predictions
    gains = bootstrap.paired_gains(
        predictions.labels, predictions.logits, theirs.predictions.logits, predictions.patient_ids
    )
    columns = [Column("finding", "Finding", "text")]
    for key, name in zip(("first", "second"), names, strict=True):
        columns += [
            Column(f"{key}_recall", "Pos. %", group=name),
            Column(f"{key}_specificity", "Neg. %", group=name),
        ]
    columns.append(Column("difference", "AUROC, paired difference"))
    rows = []
    for finding, gain in zip(FINDINGS, gains, strict=True):
        row = {"finding": cells.finding(finding, few=ours.metrics["findings"][finding]["few"])}
        for key, found in zip(("first", "second"), (ours, theirs), strict=True):
            values = _at_half(found)["findings"][finding]
            row[f"{key}_recall"] = cells.percent(values["recall"])
            row[f"{key}_specificity"] = cells.percent(values["specificity"])
        rows.append(row | {"difference": cells.signed(as_json(gain))})
    return Table("by_finding", columns, rows, heading="Positives and negatives found")
