"""`engine run`: each stage's commands one after the other, each in a process that inherits nothing.

What is done is recognised by the commands themselves, from the files that they left; so the same command
goes on behind a failure, an interrupt or a machine that was taken away.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from engine import config as configs
from engine.config import pipeline as settings
from engine.pipeline.stages import Stage, compared_of, judged_run, members_of, stages_of
from engine.training import in_turn
from records import manifest, storage
from records.errors import ConfigError, CxrError

_MODULES = {"engine": ("-m", "engine.cli"), "python": ()}


def run(config_path: str, overrides: Sequence[str] = (), *, dry_run: bool = False) -> int:
    """Go from data to report.

    Args:
        config_path: of a pipeline's YAML file.
        overrides: `section.key=value` each.
        dry_run: print the commands alone.

    Returns:
        0, or the exit code of the first command that didn't end well, behind which none is begun.

    Raises:
        CxrError: the file or a member's config is at fault, or data set or boxes aren't there; nothing was
            begun.
    """
    config = settings.load(config_path, overrides)
    _check_trainings(config)
    _check_boxes(config)
    _check_data(config)
    stages = stages_of(config)
    if dry_run:
        for stage in stages:
            print(f"# {stage.name}")
            print("\n".join(shlex.join(command) for command in stage.commands))
        return 0
    seconds = []
    for number, stage in enumerate(stages, start=1):
        start_s = time.monotonic()
        if code := _run(stage, f"{number}/{len(stages)}"):
            _say(f"stopped in `{stage.name}` (exit code {code}); the same command goes on from there")
            return code
        seconds.append(time.monotonic() - start_s)
    _print_times(stages, seconds)
    print(judged_run(config) / "report.html")
    return 0


def _check_trainings(config: settings.PipelineConfig) -> None:
    """Find a mistake in the last member's config before hours are spent on the first."""
    for training in (*members_of(config), *compared_of(config)[1:]):
        try:
            configs.load(training.config, training.overrides)
        except ConfigError as error:
            raise ConfigError(f"{training.folder.name}: {error}") from error


def _check_boxes(config: settings.PipelineConfig) -> None:
    """Find missing boxes now, and not after the trainings; `data.make` may make them."""
    boxes = config.heatmaps.boxes
    if boxes and not config.data.make and not storage.exists(boxes):
        raise ConfigError(f'heatmaps.boxes is {boxes}, which isn\'t there; "" makes no heat maps')


def _check_data(config: settings.PipelineConfig) -> None:
    """Read the data set's manifest now, which each of the commands needs; `data.make` may make it."""
    if config.data.make:
        return
    try:
        manifest.load(config.data.manifest)
    except CxrError as error:
        raise type(error)(f"data.manifest: {error}; data.make is empty, so nothing makes it") from error


def _run(stage: Stage, place: str) -> int:
    for command in stage.commands:
        _say(f"[{place} {stage.name}] {shlex.join(command)}")
        program, *arguments = command
        if code := in_turn.call([sys.executable, *_MODULES[program], *arguments]):
            return code
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print_times(stages: Sequence[Stage], seconds: Sequence[float]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    for stage, spent in zip(stages, seconds, strict=True):
        table.add_row(stage.name, f"{spent:.1f}")
    table.add_section()
    table.add_row("all", f"{sum(seconds):.1f}", style="bold")
    Console(stderr=True, markup=False, highlight=False).print(table)
