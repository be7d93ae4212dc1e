"""One run's settings: flat YAML read into frozen dataclasses, complete and strict.

A config file names every key, so no default hides in code; an unknown or missing key, a value of another type
or out of range is an error that says which. `--set section.key=value` overrides are checked alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from engine import strict_yaml
from engine.config.augment import AugmentConfig
from engine.config.checkpoint import CheckpointConfig
from engine.config.input import InputConfig
from engine.config.loss import LossConfig
from engine.config.model import ModelConfig
from engine.config.optimizer import OptimizerConfig
from engine.config.schedule import CosineConfig, ScheduleConfig
from engine.config.train import TrainConfig
from records.errors import ConfigError

__all__ = [
    "AugmentConfig",
    "CheckpointConfig",
    "Config",
    "InputConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "ScheduleConfig",
    "TrainConfig",
    "load",
]

# What a run may go on with other values of. Of these `replicas` alone changes what is learnt, and only by
# batch normalisation, which sees the pictures of one replica.
_MACHINE_KEYS = {
    "input": {"prefetch_batches", "prefetch_to_device", "cache_bytes"},
    "train": {"replicas", "compilation", "deterministic"},
    "checkpoint": {"every_steps", "keep_last", "location"},
}


_MISSING = object()


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    model: ModelConfig
    loss: LossConfig
    input: InputConfig
    augment: AugmentConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    train: TrainConfig
    checkpoint: CheckpointConfig

    def __post_init__(self) -> None:
        if self.augment.is_on and not self.augment.originals and not self.input.oversampled_findings:
            raise ConfigError(
                "augment.originals is false and input.oversampled_findings names none, so nothing would be "
                "varied; name findings, or set augment.originals to true"
            )
        if isinstance(self.schedule, CosineConfig) and self.schedule.warmup_epochs > self.train.epochs:
            raise ConfigError(
                f"schedule.warmup_epochs is {self.schedule.warmup_epochs:g}; expected at most the "
                f"{self.train.epochs} of train.epochs"
            )

    def to_yaml(self) -> str:
        """Return the resolved config as a file that `load` reads."""
        return yaml.safe_dump(self._values(), sort_keys=False)

    def differences(self, text: str) -> list[str]:
        """Name the keys that another resolved config has otherwise, but for those of the machine.

        Returns:
            `train.epochs is 2 there, 4 here` each; empty: it asks for the same training.
        """
        try:
            theirs = _recipe(strict_yaml.parse(text))
        except (yaml.YAMLError, AttributeError):
            return ["the config there can't be read"]
        ours = _recipe(self._values())
        return [
            f"{key} is {theirs.get(key, 'missing')} there, {ours.get(key, 'missing')} here"
            for key in {**ours, **theirs}
            if theirs.get(key, _MISSING) != ours.get(key, _MISSING)
        ]

    def _values(self) -> dict[str, dict[str, Any]]:
        sections = dataclasses.asdict(self)
        return {
            section: {key: list(value) if isinstance(value, tuple) else value for key, value in keys.items()}
            for section, keys in sections.items()
        }


def load(path: str, overrides: Sequence[str] = ()) -> Config:
    """Read a config file.

    Args:
        path: of a YAML file that names every key.
        overrides: `section.key=value` each, the value in YAML.

    Raises:
        ConfigError: with the file and the key.
    """
    return strict_yaml.load(path, overrides, Config, example="configs/baseline.yaml")


def _recipe(values: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        f"{section}.{key}": value
        for section, keys in values.items()
        for key, value in keys.items()
        if key not in _MACHINE_KEYS.get(section, ())
    }
