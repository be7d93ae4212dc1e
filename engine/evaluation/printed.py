"""What an evaluation looks like on the screen; all of it stands in `metrics.json`.

Made for 100 columns; on a narrower screen a table's columns are shown in turn, none of them cut.
"""

from __future__ import annotations

import math
from typing import Any

from rich import box
from rich.cells import cell_len
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
_METRIC_NAMES = {
    operating_points.AUC: "multi-label AUC",
    "ppv": "PPV",
    "npv": "NPV",
    "f1": "F1",
    "hamming_loss": "Hamming loss",
}


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


def threshold(value: float) -> str:
    """Show a threshold with two digits of its distance from 0 or 1, whichever is the nearer."""
    if value < 1e-4:
        return f"{value:.1e}"
    distance = min(value, 1 - value) or 1.0
    decimals = max(2, 1 - math.floor(math.log10(distance)))
    return f"{value:.{decimals}f}"


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
    _show(table, screen)
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
    _show(table, screen)
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
    return "–" if values["threshold"] is None else f"{shares} [{threshold(values['threshold'])}]"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}"


def _print_totals(metrics: dict[str, Any], screen: Console) -> None:
    points = metrics["operating_points"]
    names = [_POINT_NAMES.get(point["name"], point["name"]) for point in points]
    table = _table("all findings together", *names, "calling nothing present")
    counted = [_counted(point) for point in points]
    if len({*counted, len(metrics["findings"])}) > 1:
        row = [f"of {count}" for count in (*counted, len(metrics["findings"]))]
        table.add_row("findings in the counts", *row)
    for metric in operating_points.SEVEN:
        values = [*(point["total"][metric] for point in points), metrics["all_negative_baseline"][metric]]
        table.add_row(_METRIC_NAMES.get(metric, metric), *map(number, values))
    _show(table, screen)


def _counted(point: dict[str, Any]) -> int:
    """How many findings have a threshold at a point."""
    return sum(values["threshold"] is not None for values in point["findings"].values())


def _print_subgroups(metrics: dict[str, Any], screen: Console) -> None:
    table = _table("subgroup", "images / patients", "macro AUROC", "findings defined")
    before = None
    for group in metrics["subgroups"]:
        by = "" if group["by"] == before else group["by"]
        table.add_row(
            f"{by:<8}{group['group']}",
            f"{group['images']:,} / {group['patients']:,}",
            interval(group["macro_auroc"]),
            str(group["defined_findings"]),
        )
        before = group["by"]
    _show(table, screen)


def _calibration(metrics: dict[str, Any]) -> list[str]:
    found = metrics["calibration"]
    before, after = found["before"]["mean"], found["after"]["mean"] if found["after"] else None
    lines = [f"calibration, mean of the findings: {_calibrated(before)}"]
    if after:
        # Where none could be fitted it is 1.
        fitted = sum(value != 1 for value in found["temperatures"].values())
        here = " (these images)" if metrics["split"] == "validation" else ""
        of = f"{fitted} of {len(found['temperatures'])} findings"
        lines += [f"  with temperatures fitted on validation{here} for {of}:", f"    {_calibrated(after)}"]
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
    here = " (these images)" if metrics["split"] == "validation" else ""
    return [
        f"the ensemble's gain in macro AUROC, its members chosen and weighed on validation{here}:",
        f"  {interval(best['macro_auroc'], '+')} over {best['member']}, its best member there",
        f"  {interval(gain['over_mean'], '+')} over the mean of its {len(gain['members'])} members",
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


def _show(table: Table, screen: Console) -> None:
    """Print a table; where it is too wide, in parts that each begin with the first column."""
    first, *others = (list(map(str, (column.header, *column.cells))) for column in table.columns)
    while others:
        shown = next(
            (count for count in range(len(others), 1, -1) if _fits(first, others[:count], screen)), 1
        )
        part = _table(first[0], *(column[0] for column in others[:shown]))
        for row, cells in zip(
            table.rows, zip(first[1:], *(c[1:] for c in others[:shown]), strict=True), strict=True
        ):
            part.add_row(*cells, style=row.style, end_section=row.end_section)
        screen.print(part)
        others = others[shown:]


def _fits(first: list[str], others: list[list[str]], screen: Console) -> bool:
    # An edge on either side, and between columns a space, the box's line and a space.
    return (
        2 + sum(max(map(cell_len, column)) for column in (first, *others)) + 3 * len(others) <= screen.width
    )
