"""A comparison of losses: sections of its own around those that a training shares with `engine train`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import engine.config as configs
from engine import strict_yaml
from engine.config.augment import AugmentConfig
from engine.config.checkpoint import CheckpointConfig
from engine.config.checks import at_least, between, choice
from engine.config.input import InputConfig
from engine.config.loss import LossConfig
from engine.config.model import ModelConfig
from engine.config.optimizer import OptimizerConfig
from engine.config.schedule import PlateauConfig, ScheduleConfig
from engine.config.train import PRECISIONS, TrainConfig
from records.errors import ConfigError

BASELINE = "bce"
_LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class ComparisonConfig:
    """What is compared, and how long each training is.

    Attributes:
        epochs: of each training; its last weights are judged, so that no epoch is chosen on validation.
        global_batch: records a step.
        precision: Keras's dtype policy.
        seeds: of initial weights, dropout and record order; one training each for every loss.
        learning_rates: of which each loss gets its best; none: all have `optimizer.learning_rate`.
        tuning_seed: of the trainings that choose the rate, which count for nothing else.
        bootstrap_draws: for the intervals.
        losses: to compare, `bce` without keys among them.
    """

    epochs: int
    global_batch: int
    precision: str
    seeds: tuple[int, ...]
    learning_rates: tuple[float, ...]
    tuning_seed: int
    bootstrap_draws: int
    losses: tuple[LossConfig, ...]

    def __post_init__(self) -> None:
        at_least("comparison.epochs", self.epochs, 1)
        at_least("comparison.global_batch", self.global_batch, 1)
        choice("comparison.precision", self.precision, PRECISIONS)
        at_least("comparison.bootstrap_draws", self.bootstrap_draws, 100)
        between("comparison.tuning_seed", self.tuning_seed, 0, _LARGEST_SEED)
        self._check_seeds()
        self._check_rates()
        self._check_losses()

    def _check_seeds(self) -> None:
        if not self.seeds:
            raise ConfigError("comparison.seeds is []; expected at least one, such as [1, 2, 3]")
        for seed in self.seeds:
            between("comparison.seeds", seed, 0, _LARGEST_SEED)
        _check_distinct("comparison.seeds", self.seeds)
        if self.tuning_seed in self.seeds:
            raise ConfigError(
                f"comparison.tuning_seed is {self.tuning_seed}, which is one of comparison.seeds; expected "
                "another, so that no training is judged by what it chose"
            )

    def _check_rates(self) -> None:
        for rate in self.learning_rates:
            if not rate > 0:
                raise ConfigError(f"comparison.learning_rates is {rate}; expected more than 0")
        _check_distinct("comparison.learning_rates", self.learning_rates)

    def _check_losses(self) -> None:
        if not any(loss.name == BASELINE for loss in self.losses):
            raise ConfigError(
                f"comparison.losses names no `{BASELINE}`, which the others are held against; add "
                f"{{name: {BASELINE}}}"
            )
        for place, loss in enumerate(self.losses):
            if loss in self.losses[:place]:
                raise ConfigError(f"comparison.losses[{place}]: `{loss.name}` with these keys stands twice")


@dataclass(frozen=True)
class LossComparison:
    """All settings of a comparison; what its sections share with a run's means the same."""

    model: ModelConfig
    input: InputConfig
    augment: AugmentConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    comparison: ComparisonConfig

    def __post_init__(self) -> None:
        if isinstance(self.schedule, PlateauConfig):
            raise ConfigError(
                "schedule.name is `plateau`, by which each loss would get other learning rates; expected "
                "constant, exponential or cosine"
            )
        if self.input.reader != "index":
            raise ConfigError(
                f"input.reader is `{self.input.reader}`; expected `index`, which alone gives every loss the "
                "records in the same order"
            )

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """What each loss may choose from; one: nothing is chosen."""
        return self.comparison.learning_rates or (self.optimizer.learning_rate,)

    def training(self, loss: LossConfig, learning_rate: float, seed: int) -> configs.Config:
        """Return the settings of one training as those of a run that is only looked at when it ends."""
        asked = self.comparison
        train = TrainConfig(
            seed=seed,
            epochs=asked.epochs,
            global_batch=asked.global_batch,
            micro_batches=1,
            replicas=1,
            precision=asked.precision,
            compilation="auto",
            deterministic=True,
            monitor="val_macro_auroc",
            threshold=0.5,
            early_stopping_patience=asked.epochs,
            early_stopping_min_delta=0.0,
        )
        return configs.Config(
            model=self.model,
            loss=loss,
            input=self.input,
            augment=self.augment,
            optimizer=dataclasses.replace(self.optimizer, learning_rate=learning_rate),
            schedule=self.schedule,
            train=train,
            checkpoint=CheckpointConfig(every_steps=0, keep_last=1, location="", best_copies=""),
        )


def load(path: str, overrides: Sequence[str] = ()) -> LossComparison:
    """Read the config of a comparison.

    Args:
        path: of a YAML file that names every key.
        overrides: `section.key=value` each, the value in YAML.

    Raises:
        ConfigError: with the file and the key.
    """
    return strict_yaml.load(path, overrides, LossComparison, example="configs/losses.yaml")


def _check_distinct(name: str, values: Sequence[float]) -> None:
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ConfigError(f"{name} names {value} twice; expected each once")
