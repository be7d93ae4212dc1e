"""How the learning rate changes: section `schedule`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.config.checks import at_least, between
from records.errors import ConfigError


@dataclass(frozen=True)
class ScheduleConfig:
    """What all schedules have.

    Attributes:
        name: one of `choices`.
    """

    choices: ClassVar[dict[str, type[ScheduleConfig]]]
    name: str


@dataclass(frozen=True)
class ConstantConfig(ScheduleConfig):
    """The optimiser's rate to the end."""


@dataclass(frozen=True)
class PlateauConfig(ScheduleConfig):
    """The rate falls when the monitored value has stopped to get better.

    Attributes:
        factor: that it then falls by.
        patience: epochs without a better value before it falls.
        min_delta: by which a value must be better to count.
        min_learning_rate: that it doesn't fall below.
    """

    factor: float
    patience: int
    min_delta: float
    min_learning_rate: float

    def __post_init__(self) -> None:
        if not 0 < self.factor < 1:
            raise ConfigError(f"schedule.factor is {self.factor}; expected more than 0, below 1")
        at_least("schedule.patience", self.patience, 1)
        at_least("schedule.min_delta", self.min_delta, 0)
        at_least("schedule.min_learning_rate", self.min_learning_rate, 0)


@dataclass(frozen=True)
class ExponentialConfig(ScheduleConfig):
    """The rate falls by a factor after each epoch.

    Attributes:
        factor: 0.95 in the guide.
    """

    factor: float

    def __post_init__(self) -> None:
        if not 0 < self.factor <= 1:
            raise ConfigError(f"schedule.factor is {self.factor}; expected more than 0, at most 1")


@dataclass(frozen=True)
class CosineConfig(ScheduleConfig):
    """The rate rises in a line to the optimiser's, then falls along half a cosine until the last step.

    Source: Loshchilov & Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR, equation 5
    without restarts.

    Attributes:
        warmup_epochs: of the rise; parts of an epoch count.
        final_share: of the optimiser's rate that the last step has.
    """

    warmup_epochs: float
    final_share: float

    def __post_init__(self) -> None:
        at_least("schedule.warmup_epochs", self.warmup_epochs, 0)
        between("schedule.final_share", self.final_share, 0, 1)


ScheduleConfig.choices = {
    "constant": ConstantConfig,
    "plateau": PlateauConfig,
    "exponential": ExponentialConfig,
    "cosine": CosineConfig,
}
