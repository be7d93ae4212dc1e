"""What an evaluation looks like on the screen, in 100 columns; all of it stands in `metrics.json`."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from engine.evaluation import operating_points

UNDEFINED = "not defined"
WIDTH = 100
_POINT_NAMES = {
    operating_points.HALF: "at 0.5",
    operating_points.YOUDEN: "Youden",
    operating_points.SENSITIVITY: "sensitivity ≥ 0.90",
}
_METRIC_NAMES = {"ppv": "PPV", "npv": "NPV", "f1": "F1", "hamming_loss": "Hamming loss"}


def console() -> Console:
    """Return a console that wraps nothing that fits into 100 columns, also where output is no terminal."""
    made = Console(markup=False, highlight=False)
    return made if made.is_terminal else Console(markup=False, highlight=False, width=WIDTH)


def print_metrics(metrics: dict[str, Any], screen: Console | None = None, *, brief: bool = False) -> None:
    """Show a `metrics.json`; briefly: without operating points and subgroups."""
    screen = screen or console()
    _print_ranking(metrics, screen)
    if not brief:
        _print_points(metrics, screen)
        _print_totals(metrics, screen)
        _print_subgroups(metrics, screen)
    for line in [*_calibration(metrics), *_gain(metrics), *_warnings(metrics)]:
        screen.print(line)


def number(value: float | None) -> str:
    """Show a metric with three digits, or say that it isn't defined."""
    return UNDEFINED if value is None else f"{value:.3f}"


def interval(values: dict[str, float | None], sign: str = "") -> str:
    """Show a value with its 95 % interval, as far as they are defined."""
    value, low, high = values["value"], values["low"], values["high"]
    if value is None:
        return UNDEFINED
    if low is None or high is None:
        return f"{value:{sign}.3f} [{UNDEFINED}]"
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def _print_ranking(metrics: dict[str, Any], screen: Console) -> None:
    screen.print(
        f"{metrics['split']}: {metrics['images']:,} images of {metrics['patients']:,} patients, "
        f"{metrics['split_strategy']} split",
        style="bold",
    )
    screen.print(f"in brackets: 95 % intervals, from {metrics['bootstrap']['draws']:,} draws of patients")
    table = _table("finding", "AUROC", "AUPRC", "prevalence", "images / patients")
    for finding, values in metrics["findings"].items():
        table.add_row(
            finding,
            interval(values["auroc"]),
            interval(values["auprc"]),
            f"{values['prevalence']:.2%}",
            f"{values['positives']:,} / {values['positive_patients']:,}{'*' if values['few'] else ' '}",
        )
    table.add_section()
    macro = f"macro, {metrics['defined_findings']} of {len(metrics['findings'])}"
    for label, name in ((macro, "macro"), ("micro", "micro")):
        ranked = (interval(metrics[f"{name}_{metric}"]) for metric in ("auroc", "auprc"))
        table.add_row(label, *ranked, "", "", style="bold")
    screen.print(table)
    if any(values["few"] for values in metrics["findings"].values()):
        screen.print("* fewer than 30 patients with the finding: one more or less would change much")
    if metrics["patients"] == 1:
        screen.print("one patient only: intervals are not defined, for they are of draws of patients")


def _print_points(metrics: dict[str, Any], screen: Console) -> None:
    points = metrics["operating_points"]
    screen.print("\nshares of positives / negatives found", style="bold")
    if len(points) > 1:
        here = " (these images)" if metrics["split"] == "validation" else ""
        screen.print(f"in brackets: the threshold, chosen on validation{here}; –: not defined")
    table = _table("finding", *(_POINT_NAMES.get(point["name"], point["name"]) for point in points))
    for finding in metrics["findings"]:
        table.add_row(finding, *(_found(point["findings"][finding], point) for point in points))
    table.add_section()
    table.add_row("in total", *(_found(point["total"], None) for point in points), style="bold")
    table.add_row("macro", *(_found(point["macro"], None) for point in points), style="bold")
    screen.print(table)
    if len(points) == 1:
        screen.print("no validation split: no threshold or temperature could be chosen; at 0.5 only")
    left_out = [
        finding
        for finding in metrics["findings"]
        if any(point["findings"][finding]["threshold"] is None for point in points)
    ]
    if left_out:
        names = ", ".join(left_out)
        screen.print(f"no threshold for {names}: validation lacks positives or negatives; not in the totals")


def _found(values: dict[str, float | None], point: dict[str, Any] | None) -> str:
    shares = " / ".join(_percent(values[name]) for name in ("recall", "specificity"))
    if not point or not point["chosen_on"]:
        return shares
    return "–" if values["threshold"] is None else f"{shares} [{number(values['threshold'])}]"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}"


def _print_totals(metrics: dict[str, Any], screen: Console) -> None:
    points = metrics["operating_points"]
    names = [_POINT_NAMES.get(point["name"], point["name"]) for point in points]
    table = _table("all findings together", *names, "calling nothing present")
    for metric in operating_points.METRICS:
        values = [*(point["total"][metric] for point in points), metrics["all_negative_baseline"][metric]]
        table.add_row(_METRIC_NAMES.get(metric, metric), *map(number, values))
    screen.print(table)


def _print_subgroups(metrics: dict[str, Any], screen: Console) -> None:
    table = _table("subgroup", "", "images / patients", "macro AUROC", "findings defined")
    before = None
    for group in metrics["subgroups"]:
        table.add_row(
            "" if group["by"] == before else group["by"],
            group["group"],
            f"{group['images']:,} / {group['patients']:,}",
            interval(group["macro_auroc"]),
            str(group["defined_findings"]),
        )
        before = group["by"]
    table.columns[1].justify = "left"
    screen.print(table)


def _calibration(metrics: dict[str, Any]) -> list[str]:
    found = metrics["calibration"]
    before, after = found["before"]["mean"], found["after"]["mean"] if found["after"] else None
    lines = [f"calibration, mean of the findings: {_calibrated(before)}"]
    if after:
        fitted = "here" if metrics["split"] == "validation" else "on validation"
        lines.append(f"  with temperatures fitted {fitted}: {_calibrated(after)}")
    return lines


def _calibrated(mean: dict[str, float | None]) -> str:
    return f"Brier score {_four(mean['brier'])}, calibration error {_four(mean['ece'])}"


def _four(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.4f}"


def _gain(metrics: dict[str, Any]) -> list[str]:
    gain = metrics["gain"]
    if not gain:
        return []
    best = gain["over_best"]
    return [
        f"ensemble: gain in macro AUROC {interval(best['macro_auroc'], '+')} over {best['member']}, its best "
        f"member on validation,\n  and {interval(gain['over_mean'], '+')} over the mean of its "
        f"{len(gain['members'])} members"
    ]


def _warnings(metrics: dict[str, Any]) -> list[str]:
    shifted = [shift for shift in metrics["prevalence_shift"] if shift["warned"]]
    lines = [
        f"warning: {shift['finding']} is in {shift['test']:.2%} of the test images, but in "
        f"{shift['validation']:.2%} of validation's"
        for shift in shifted
    ]
    if shifted:
        lines.append("  so PPV, NPV and calibration don't carry over from validation to test")
    if metrics["split"] == "test" and metrics["test_reads"] > 1:
        lines.append(f"note: test was read {metrics['test_reads']} times in this run; see test_reads.json")
    return lines


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
