"""The table of `engine heatmaps` on the screen."""

from __future__ import annotations

import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_SHOWN = ("0.1", "0.3", "0.5")
# Where no terminal says how wide it is.
_PIPE_WIDTH = 112


def show(numbers: dict[str, Any], console: Console | None = None) -> None:
    """Print what `heatmaps.json` holds: a row a finding, all together last, and what it can't say."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    console = console or Console(markup=False, highlight=False, width=width)
    rows = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    rows.add_column("finding")
    for heading in ("boxes", "patients", "pointing, 95 % (chance)", *(f"IoU ≥ {at}" for at in _SHOWN)):
        rows.add_column(heading, justify="right")
    for finding, group in numbers["findings"].items():
        rows.add_row(finding, *_cells(group))
    rows.add_section()
    rows.add_row("total", *_cells(numbers["total"]), style="bold")
    console.print(rows)
    _show_notes(numbers, console)


def _show_notes(numbers: dict[str, Any], console: Console) -> None:
    total = numbers["total"]
    console.print(
        f"{numbers['boxes_used']:,} of {numbers['boxes_in_list']:,} boxes; mean IoU "
        f"{_interval(total['iou'])} of the region above {100 * numbers['level']:.0f} % of each maximum"
    )
    if any(group["few"] for group in [*numbers["findings"].values(), total]):
        console.print(
            "* fewer than 30 patients: one more or less would change much, also an interval from 0 to 0"
        )
    for reason, count in numbers["left_out"].items():
        console.print(f"  {count:,} left out: {reason}")
    if total["no_map"]:
        console.print(f"  {total['no_map']:,} without a map (no place raises the finding): counted as misses")
    splits = numbers["splits"]
    if "train" in splits:
        console.print(
            f"  {splits['train']['boxes']:,} boxes are of training pictures, which the model has learnt from"
        )
    if len(splits) > 1:
        for split, group in splits.items():
            console.print(
                f"  {split}: pointing {_interval(group['pointing'])}, IoU {_interval(group['iou'])}"
            )


def _cells(group: dict[str, Any]) -> list[str]:
    pointing = f"{_interval(group['pointing'])} ({group['by_chance']:.2f})"
    shares = (f"{group['iou_at'][at]['value']:.2f}" for at in _SHOWN)
    few = "*" if group["few"] else " "
    return [f"{group['boxes']:,}", f"{group['patients']:,}{few}", pointing, *shares]


def _interval(told: dict[str, float | None]) -> str:
    value, low, high = told["value"], told["low"], told["high"]
    if value is None:
        return "not defined"
    # One patient: there is nothing to draw from.
    return f"{value:.2f}" + (" [not defined]" if low is None else f" [{low:.2f}, {high:.2f}]")
