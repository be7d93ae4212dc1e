"""A benchmark of the training step for a screen of 80 columns: the step's parts, real input."""

from __future__ import annotations

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from engine.benchmark.step_figures import REAL_GOAL_SHARE, Milliseconds, StepRates, VariantRates
from engine.benchmark.windows import Rate

_NONE = "–"


def to_tables(found: StepRates) -> tuple[RenderableType, ...]:
    """Return what is to be printed, from top to bottom."""
    notes = Padding(Text("\n".join(_notes(found)), style="dim"), (0, 1, 1, 1))
    return step_table(found), input_table(found), notes


def step_table(found: StepRates) -> Table:
    """Return the table of steps on synthetic batches, and of their parts."""
    rows, columns, channels = found.image_shape
    stored = f"{rows} x {columns} x {channels} uint8"
    title = f"A training step of {found.model} at {found.image_side_px} px, from {stored}"
    table = _table(title, "images/s", "spread", "ms", "forward", "backward", "optimiser")
    for variant in found.variants:
        if not variant.not_measured:
            parts = (variant.step, variant.forward, variant.backward, variant.optimizer)
            table.add_row(variant.name, *_rate_cells(variant.synthetic), *map(_ms_cell, parts))
    return table


def input_table(found: StepRates) -> Table:
    """Return the table of real input beside synthetic batches, of memory, and of the first step."""
    memory = "GPU\nmemory" if found.has_gpu else "memory"
    headings = ("real\nimages/s", "of syn-\nthetic", "waiting", memory, "build", "first\nstep")
    table = _table("Real input, memory, start", *headings)
    for variant in found.variants:
        if not variant.not_measured:
            table.add_row(variant.name, *_input_cells(variant), *_start_cells(variant))
    return table


def _notes(found: StepRates) -> list[str]:
    lines = [
        f"{found.device}; {found.machine}; {found.parameters:,} parameters",
        f"medians of {found.rounds} interleaved rounds of {found.steps} steps; times of the step in ms",
        "backward and optimiser are differences: of forward and backward, and of the whole step",
    ]
    if found.augmented:
        lines.append("pictures are varied inside the step, in its forward part")
    if found.data:
        lines.append(f"real: {found.data}; wanted of synthetic: {REAL_GOAL_SHARE:g}: {_verdict(found)}")
    else:
        lines.append("no --data: synthetic batches alone")
    if found.start_s is not None:
        lines.append(f"{found.start_s:.1f} s from the process's start to the first variant, mostly imports")
    if not found.has_gpu:
        lines.append("memory: the most that the process held, with whatever else it keeps")
    reasons = [f"{one.name}: not measured: {one.not_measured}" for one in found.variants if one.not_measured]
    return [*lines, *reasons]


def _verdict(found: StepRates) -> str:
    shares = [variant.real_share for variant in found.variants if variant.real_share is not None]
    if not shares:
        return "not measured"
    return "met" if min(shares) >= REAL_GOAL_SHARE else "missed"


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("precision, batch", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _rate_cells(rate: Rate | None) -> tuple[str, str]:
    if rate is None or rate.images_per_s is None:
        return _NONE, _NONE
    return (
        _in_three_figures(rate.images_per_s),
        f"{_in_three_figures(rate.lowest_images_per_s)}–{_in_three_figures(rate.highest_images_per_s)}",
    )


def _input_cells(variant: VariantRates) -> tuple[str, str, str]:
    if variant.real_share is None or variant.stall_share is None:
        return _NONE, _NONE, _NONE
    images_per_s, _ = _rate_cells(variant.real)
    return images_per_s, f"{variant.real_share:.3f}", f"{100 * variant.stall_share:.1f} %"


def _start_cells(variant: VariantRates) -> tuple[str, str, str]:
    memory = _NONE if variant.peak_bytes is None else f"{variant.peak_bytes / 1e9:.1f} GB"
    return memory, f"{variant.build_s:.1f} s", f"{variant.first_step_s:.1f} s"


def _ms_cell(part: Milliseconds | None) -> str:
    return _NONE if part is None else _in_three_figures(part.median)


def _in_three_figures(number: float | None) -> str:
    if number is None:
        return _NONE
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
