"""Which commands a pipeline is made of. Running them is `pipeline`'s.

Commands meet through files, so a stage is nothing but command lines, which a reader may as well type; each
recognises what it has done before.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

from engine.config.pipeline import PipelineConfig

Command = tuple[str, ...]


class Stage(NamedTuple):
    """Commands that belong together, each `python` or `engine` and its arguments."""

    name: str
    commands: tuple[Command, ...]


class Training(NamedTuple):
    """A run: its folder, the config of `engine train`, and what it has otherwise."""

    folder: Path
    config: str
    overrides: tuple[str, ...]


def members_of(config: PipelineConfig) -> list[Training]:
    """Return the trainings of the members."""
    folder = Path(config.output.folder) / "members"
    return [Training(folder / member.name, member.config, member.set) for member in config.members.runs]


def compared_of(config: PipelineConfig) -> list[Training]:
    """Return a member and the training that it is compared with; neither where nothing is."""
    name = config.comparison.member
    for member in members_of(config):
        if member.folder.name == name:
            other = Path(config.output.folder) / "comparison" / name
            return [member, Training(other, member.config, member.overrides + config.comparison.set)]
    return []


def judged_run(config: PipelineConfig) -> Path:
    """Return the run directory that is judged: the ensemble's, or that of the only member."""
    members = members_of(config)
    return members[0].folder if len(members) == 1 else Path(config.output.folder) / "ensemble"


def stages_of(config: PipelineConfig) -> list[Stage]:
    """Return the stages of a pipeline in their order; those that there is nothing to do for are left out."""
    data = ("--data", config.data.manifest)
    judged = ("--run-dir", str(judged_run(config)), *data)
    draws = ("--draws", str(config.evaluation.draws))
    members, compared = members_of(config), compared_of(config)
    stages = [Stage("data", tuple(tuple(shlex.split(command)) for command in config.data.make))]
    for training in (*members, *compared[1:]):
        name = "/".join(training.folder.parts[-2:])
        stages.append(Stage(name, (_train(training, data),)))
    if len(members) > 1:
        stages.append(Stage("ensemble", ((*_ensemble(config, members), *data, *draws),)))
    stages.append(Stage("evaluation", (("engine", "evaluate", *judged, *draws),)))
    if others := [run for run in compared if run.folder != judged_run(config)]:
        evaluate = [("engine", "evaluate", "--run-dir", str(run.folder), *data, *draws) for run in others]
        stages.append(Stage("comparison", tuple(evaluate)))
    if config.heatmaps.boxes:
        how = ("--boxes", config.heatmaps.boxes, "--images", str(config.heatmaps.images))
        stages.append(Stage("heat maps", (("engine", "heatmaps", *judged, *how, *draws),)))
    compare = ("--compare", *(str(run.folder) for run in compared)) if compared else ()
    stages.append(Stage("report", (("engine", "report", *judged, *compare),)))
    return [stage for stage in stages if stage.commands]


def _train(training: Training, data: Command) -> Command:
    overrides = [part for override in training.overrides for part in ("--set", override)]
    run = ("--run-dir", str(training.folder), "--resume", "auto")
    return ("engine", "train", "--config", training.config, *data, *run, *overrides)


def _ensemble(config: PipelineConfig, members: list[Training]) -> Command:
    how = config.ensemble
    return (
        *("engine", "ensemble", "--run-dirs", *(str(member.folder) for member in members)),
        *("--output", str(judged_run(config))),
        # Of other members or by another rule, an ensemble there is replaced; its readings of test are kept.
        *("--rule", how.rule, "--weights", how.weights, "--tta", how.tta, "--overwrite"),
    )
