"""One run's settings: flat YAML read into frozen dataclasses, complete and strict.

A config file names every key, so no default hides in code; an unknown or missing key, a value of another type
or out of range is an error that says which. `--set section.key=value` overrides are checked alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from engine import strict_yaml
from engine.config.augment import AugmentConfig
from engine.config.input import InputConfig
from engine.config.loss import LossConfig
from engine.config.model import ModelConfig
from engine.config.train import TrainConfig
from records.errors import ConfigError

__all__ = ["AugmentConfig", "Config", "InputConfig", "LossConfig", "ModelConfig", "TrainConfig", "load"]


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    model: ModelConfig
    loss: LossConfig
    input: InputConfig
    augment: AugmentConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        if self.augment.is_on and not self.augment.originals and not self.input.oversampled_findings:
            raise ConfigError(
                "augment.originals is false and input.oversampled_findings names none, so nothing would be "
                "varied; name findings, or set augment.originals to true"
            )

    def to_yaml(self) -> str:
        """Return the resolved config as a file that `load` reads."""
        sections = dataclasses.asdict(self)
        values = {
            section: {key: list(value) if isinstance(value, tuple) else value for key, value in keys.items()}
            for section, keys in sections.items()
        }
        return yaml.safe_dump(values, sort_keys=False)


def load(path: str, overrides: Sequence[str] = ()) -> Config:
    """Read a config file.

    Args:
        path: of a YAML file that names every key.
        overrides: `section.key=value` each, the value in YAML.

    Raises:
        ConfigError: with the file and the key.
    """
    return strict_yaml.load(path, overrides, Config, example="configs/baseline.yaml")
