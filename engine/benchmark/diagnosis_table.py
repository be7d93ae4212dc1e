"""A diagnosis for a screen of 80 columns: verdict, stages beside ceilings, and the usual ways."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from engine.benchmark.ceilings import NETWORK, Ceiling
from engine.benchmark.diagnosis import AUGMENT, FETCH, WHOLE, Diagnosis, Stage
from engine.benchmark.diagnosis_options import STORE
from engine.benchmark.emulated_step import Utilisation
from engine.benchmark.input_rate import PNG_LOOP
from engine.benchmark.windows import Rate


def to_tables(diagnosis: Diagnosis) -> tuple[RenderableType, ...]:
    """Return what is to be printed, from top to bottom."""
    return (
        stages_table(diagnosis),
        _lines([diagnosis.verdict.text, *_utilisation_lines(diagnosis.utilisation)], "bold"),
        _lines(notes(diagnosis), "dim"),
        rates_table(diagnosis),
    )


def stages_table(diagnosis: Diagnosis) -> Table:
    """Return the table of the stages that were measured, and of the ceilings."""
    setting = diagnosis.setting
    side, _, channels = setting.image_shape
    stored = f"{side} x {side} x {channels} {setting.encoding}"
    # The location on lines of its own: it may be long.
    table = _table(f"{setting.data}\n{stored}, batches of {setting.batch}", "stage")
    table.add_column("stall", justify="right", no_wrap=True)
    table.add_column("of ceiling", justify="right", no_wrap=True)
    for stage in diagnosis.stages:
        if not stage.not_measured:
            if stage.name == WHOLE:
                table.add_section()
            table.add_row(stage.name, *_rate_cells(stage), *_share_cells(stage))
    table.add_section()
    for ceiling in diagnosis.ceilings:
        if not ceiling.not_measured:
            table.add_row(ceiling.name, *_rate_cells(ceiling), "", _bytes_cell(ceiling))
    return table


def rates_table(diagnosis: Diagnosis) -> Table:
    """Return the table of the training input beside the usual ways, each compared with the PNG loop."""
    table = _table("The training input beside the usual ways to read the same images", "input")
    table.add_column("times the\nPNG loop", justify="right", no_wrap=True)
    table.caption = "\n".join(_reasons(diagnosis.rates))
    loop = next((rate.images_per_s for rate in diagnosis.rates if rate.name == PNG_LOOP), None)
    for rate in diagnosis.rates:
        if rate.not_measured:
            table.add_row(rate.name, "not measured")
        else:
            times = f"{rate.images_per_s / loop:.1f}" if rate.images_per_s and loop else "–"
            table.add_row(rate.name, *_rate_cells(rate), times)
    return table


def notes(diagnosis: Diagnosis) -> list[str]:
    """Return what must be known to read the table of stages."""
    setting = diagnosis.setting
    device = "" if diagnosis.utilisation else " that takes no time"
    lines = [
        f"{setting.machine}; {setting.threads} threads gather; medians of {setting.rounds} interleaved "
        f"rounds, {setting.seconds:g} s in all for each",
        f"stall: share of the time in which a device{device} waits for this stage alone",
    ]
    augment = next(stage for stage in diagnosis.stages if stage.name == AUGMENT)
    if not augment.not_measured:
        lines.append(f"{AUGMENT}: inside the step, on the {setting.device}")
    if setting.source == STORE:
        lines.append(
            f"{FETCH}, {NETWORK}, {WHOLE}: from the store, each through a cache that is empty at first"
        )
    if setting.measured_bytes < setting.split_bytes:
        measured_gb, all_gb = setting.measured_bytes / 1e9, setting.split_bytes / 1e9
        lines.append(f"stages on local copies: of the first {measured_gb:.1f} of {all_gb:.1f} GB")
    lines += [f"{ceiling.name}: {ceiling.how}" for ceiling in diagnosis.ceilings if ceiling.how]
    return [*lines, *_reasons([*diagnosis.stages, *diagnosis.ceilings])]


def _table(title: str, first: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(first, no_wrap=True)
    for heading in ("images/s", "spread", "CPU-s\nper 1,000"):
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _lines(lines: Iterable[str], style: str) -> RenderableType:
    return Padding(Text("\n".join(lines), style=style), (0, 1, 1, 1))


def _rate_cells(rate: Rate) -> tuple[str, ...]:
    return (
        f"{rate.images_per_s:,.0f}",
        f"{rate.lowest_images_per_s:,.0f}–{rate.highest_images_per_s:,.0f}",
        f"{rate.cpu_s_per_1000:.3f}",
    )


def _share_cells(stage: Stage) -> tuple[str, str]:
    stall = "–" if stage.stall_share is None else f"{100 * stage.stall_share:.0f} %"
    if stage.ceiling_share is None:
        return stall, "–"
    return stall, f"{stage.ceiling_share:.2f} {'slowest' if stage.name == WHOLE else stage.ceiling}"


def _bytes_cell(ceiling: Ceiling) -> str:
    return f"{(ceiling.bytes_per_s or 0.0) / 1e9:.2f} GB/s"


def _utilisation_lines(found: Utilisation | None) -> list[str]:
    if not found:
        return []
    steps = f"{found.first_epoch_steps} of {found.steps_per_epoch} steps"
    first = _goal(found.first_epoch_share, found.first_epoch_goal_share)
    later = "not measured: the first epoch takes longer than --seconds"
    if found.later_share is not None:
        later = f"{found.later_steps} steps: {_goal(found.later_share, found.later_goal_share)}"
    return [
        f"a device of {found.step_ms:g} ms a batch: first batch after {found.first_batch_s:.2f} s",
        f"  first epoch, {steps}: {first}",
        f"  after it, {later}",
    ]


def _goal(share: float, goal_share: float) -> str:
    outcome = "met" if share >= goal_share else "missed"
    return f"at work {share:.3f} of the time, wanted {goal_share:g}: {outcome}"


def _reasons(rates: Iterable[Rate]) -> list[str]:
    """Return one line for each reason not to measure, with all that it holds for."""
    names: dict[str, list[str]] = {}
    for rate in rates:
        if rate.not_measured:
            names.setdefault(rate.not_measured, []).append(rate.name)
    return [f"{', '.join(held)}: not measured: {reason}" for reason, held in names.items()]
