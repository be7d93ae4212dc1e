"""Whether probabilities mean what they say: reliability, Brier score, calibration error, prevalence shift."""

from __future__ import annotations

from typing import Any

from engine.metrics import prevalence_shift
from engine.report import cells, curve_plots
from engine.report.contact_sheet import in_words
from engine.report.document import Block, Cell, Column, Figures, Panel, Paragraph, Section, Table, missing
from engine.report.run_files import RunFiles


def section(run: RunFiles) -> Section:
    """Build the section."""
    if not run.shown:
        return Section("calibration", "Calibration", [missing("No evaluation yet", run.make("evaluate"))])
    calibration = run.shown.metrics["calibration"]
    # Why a finding has no temperature, by finding.
    reasons = (run.frozen or {}).get("temperature_reasons") or {}
    blocks: list[Block] = [
        _reliability(calibration),
        _table(calibration, reasons),
        _note(calibration, reasons),
    ]
    shifts = run.shown.metrics.get("prevalence_shift")
    if shifts:
        blocks += _shifts(shifts)
    return Section("calibration", "Calibration", blocks)


def _reliability(calibration: dict[str, Any]) -> Figures:
    before, after = calibration["before"], calibration["after"]
    panels = []
    for place, (name, values) in enumerate(before["findings"].items()):
        calibrated = after["findings"][name]["bins"] if after else []
        drawn = curve_plots.reliability(values["bins"], calibrated, f"reliability-{place}")
        errors = [cells.number(part["findings"][name]["ece"]).text for part in (before, after) if part]
        panels.append(Panel(in_words(name), drawn, "ECE " + " → ".join(errors)))
    return Figures(
        "reliability",
        panels,
        "Share of images that have the finding (upwards) over the mean probability that the model gave "
        f"(to the right), in up to {calibration['bins']} bins of about as many images each, equal "
        "probabilities in one; each panel has its own range. On the diagonal a probability means what it "
        "says; below it the model is too sure that the finding is there, above it that it isn’t. ECE, the "
        "calibration error: mean distance from the diagonal over all images.",
        legend=[("second", "as the model says it"), ("first", "after a temperature")]
        if after
        else [("second", "as the model says it")],
    )


def _table(calibration: dict[str, Any], reasons: dict[str, str]) -> Table:
    before, after = calibration["before"], calibration["after"]
    temperatures = calibration.get("temperatures") or {}
    columns = [
        Column("finding", "Finding", "text"),
        Column("temperature", "Temperature"),
        Column("brier_before", "before", group="Brier score"),
        Column("brier_after", "after", group="Brier score"),
        Column("ece_before", "before", group="Calibration error"),
        Column("ece_after", "after", group="Calibration error"),
    ]
    rows = []
    for name, values in before["findings"].items():
        calibrated = after["findings"][name] if after else {}
        rows.append(
            {
                "finding": cells.finding(name),
                "temperature": _temperature(temperatures.get(name), unfitted=name in reasons),
            }
            | _scores(values, calibrated)
        )
    mean = {"finding": cells.words("Mean")._replace(value="mean")}
    return Table("scores", columns, rows, [mean | _scores(before["mean"], after["mean"] if after else {})])


def _temperature(value: float | None, *, unfitted: bool) -> Cell:
    return Cell("not fitted", None, look="undefined") if unfitted else cells.number(value, 2)


def _scores(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{key}_{when}": cells.number(values.get(key), 4)
        for key in ("brier", "ece")
        for when, values in (("before", before), ("after", after))
    }


def _note(calibration: dict[str, Any], reasons: dict[str, str]) -> Paragraph:
    said = "Smaller is better for both; a Brier score near the prevalence is easily had by a rare finding. "
    if calibration["after"]:
        said += (
            "The temperature, one a finding, divides the logits; it was fitted on validation and frozen. "
            "It leaves the ranking alone, and can’t mend what a shift of prevalence does. "
            f"{_unfitted(reasons)} "
            "Both scores come without intervals: in few images chance alone gives a calibration error."
        )
    else:
        said += "No temperature was fitted: there is no validation split to fit it on."
    return Paragraph(said, look="note")


def _unfitted(reasons: dict[str, str]) -> str:
    """Say which findings have no temperature, and why."""
    if not reasons:
        return (
            "It is 1 also where none can be fitted: validation has no positives or no negatives, or ranks "
            "them without a fault."
        )
    named = "; ".join(f"{in_words(name)}: {reason}" for name, reason in reasons.items())
    return f"Where none could be fitted the logits stay as they are: {named}."


def _shifts(shifts: list[dict[str, Any]]) -> list[Block]:
    warned = [in_words(shift["finding"]) for shift in shifts if shift["warned"]]
    columns = [
        Column("finding", "Finding", "text"),
        Column("validation", "Validation, %"),
        Column("test", "Test, %"),
        Column("ratio", "Ratio"),
        Column("warned", "", "text"),
    ]
    rows = [
        {
            "finding": cells.finding(shift["finding"], look="strong" if shift["warned"] else ""),
            "validation": cells.percent(shift["validation"], 2),
            "test": cells.percent(shift["test"], 2),
            "ratio": cells.number(shift["ratio"], 2),
            "warned": cells.words("shifted" if shift["warned"] else "", "warned")._replace(
                value=shift["warned"]
            ),
        }
        for shift in shifts
    ]
    table = Table("prevalence_shift", columns, rows, heading="Prevalence, validation against test")
    if not warned:
        return [table, Paragraph(_SHIFTED, look="note")]
    sentence = (
        f"**Prevalence shifts between validation and test** for {', '.join(warned)}: temperatures and "
        "thresholds that were chosen on validation don’t hold there; PPV and NPV move with it."
    )
    return [Paragraph(sentence, look="warning"), table, Paragraph(_SHIFTED, look="note")]


_SHIFTED = (
    f"A finding is said to have shifted where one prevalence is over {prevalence_shift.RATIO:g} times the "
    "other and Fisher’s exact test tells them apart at 0.05 over the number of findings. In few images a "
    "large ratio may be chance, and no warning is no proof that there was no shift."
)
