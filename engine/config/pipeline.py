"""What `engine run` goes through, from data to report: one section for each stage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine import strict_yaml
from engine.config.checks import at_least, choice
from records.errors import ConfigError

RULES = ("probabilities", "logits")
WEIGHTS = ("equal", "fitted", "greedy")
VIEWS = ("none", "shift", "rotate")
PROGRAMS = ("python", "engine")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class DataStage:
    """Where the data set is, and how it is made.

    Attributes:
        manifest: location of `manifest.json`: a path, `s3://` or `gs://`.
        make: commands that make it, in order, `python` or `engine` first; none: it is there. Each is run
            every time, so it must recognise what it has done before, as this project's do.
    """

    manifest: str
    make: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.manifest:
            raise ConfigError("data.manifest is empty; expected the location of a manifest.json")
        for place, command in enumerate(self.make):
            choice(f"data.make[{place}]", command.partition(" ")[0], PROGRAMS)


@dataclass(frozen=True)
class Member:
    """One training.

    Attributes:
        name: of its folder.
        config: path of a config for `engine train`.
        set: `section.key=value` each, of that config.
    """

    name: str
    config: str
    set: tuple[str, ...]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"name is `{self.name}`; expected a folder's name: letters, digits, dots, hyphens "
                "and underscores"
            )


@dataclass(frozen=True)
class MembersStage:
    """The trainings, one after the other; one alone makes no ensemble."""

    runs: tuple[Member, ...]

    def __post_init__(self) -> None:
        if not self.runs:
            raise ConfigError("members.runs is []; expected at least one {name: ..., config: ..., set: []}")
        names = [member.name for member in self.runs]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(
                f"members.runs: two are called {twice}, and so would their folders be; rename one"
            )


@dataclass(frozen=True)
class ComparisonStage:
    """A member beside the same training but for some keys, such as plain BCE in place of a weighted one.

    Attributes:
        member: name of one of the runs; empty: nothing is compared.
        set: `section.key=value` each, on top of the member's own.
    """

    member: str
    set: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.member and not self.set:
            raise ConfigError(
                "comparison.set is []; expected what the other training has otherwise, such as "
                "[loss={name: bce}]"
            )


@dataclass(frozen=True)
class EnsembleStage:
    """How the members' predictions become one.

    Attributes:
        rule: what is averaged.
        weights: how members are weighed; what is fitted is fitted on validation.
        tta: views of each picture that are averaged, too.
    """

    rule: str
    weights: str
    tta: str

    def __post_init__(self) -> None:
        choice("ensemble.rule", self.rule, RULES)
        choice("ensemble.weights", self.weights, WEIGHTS)
        choice("ensemble.tta", self.tta, VIEWS)


@dataclass(frozen=True)
class EvaluationStage:
    """How the result is judged: `draws` of patients for the intervals."""

    draws: int

    def __post_init__(self) -> None:
        at_least("evaluation.draws", self.draws, 100)


@dataclass(frozen=True)
class HeatmapsStage:
    """Heat maps held against drawn boxes.

    Attributes:
        boxes: location of a `BBox_List_2017.csv`; empty: none are made.
        images: in the gallery.
    """

    boxes: str
    images: int

    def __post_init__(self) -> None:
        at_least("heatmaps.images", self.images, 0)


@dataclass(frozen=True)
class OutputStage:
    """The `folder` for the members, the ensemble and the report."""

    folder: str

    def __post_init__(self) -> None:
        if not self.folder or "://" in self.folder:
            raise ConfigError(f"output.folder is `{self.folder}`; expected a folder")


@dataclass(frozen=True)
class PipelineConfig:
    """All stages, in their order."""

    data: DataStage
    members: MembersStage
    comparison: ComparisonStage
    ensemble: EnsembleStage
    evaluation: EvaluationStage
    heatmaps: HeatmapsStage
    output: OutputStage

    def __post_init__(self) -> None:
        names = [member.name for member in self.members.runs]
        if self.comparison.member:
            choice("comparison.member", self.comparison.member, names)


def load(path: str, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read a file of stages.

    Args:
        path: of a YAML file that names every key.
        overrides: `section.key=value` each, the value in YAML.

    Raises:
        ConfigError: with the file and the key.
    """
    return strict_yaml.load(path, overrides, PipelineConfig, example="configs/pipeline.yaml")
