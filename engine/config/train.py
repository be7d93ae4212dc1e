"""The loop: section `train`."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config.checks import at_least, below_one, between, choice
from records.errors import ConfigError

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
MONITORS = ("val_macro_auroc", "val_loss")


@dataclass(frozen=True)
class TrainConfig:
    """The loop.

    Attributes:
        seed: of initial weights, dropout and record order.
        epochs: at most.
        global_batch: records a step.
        learning_rate: of Adam.
        precision: Keras's dtype policy; logits and losses are float32 under each.
        monitor: decides on checkpoint, rate and stopping.
        early_stopping_patience: epochs without a better value before the run ends.
        plateau_patience: epochs without a better value before the rate falls.
        plateau_factor: that it then falls by.
        min_learning_rate: that it doesn't fall below.
    """

    seed: int
    epochs: int
    global_batch: int
    learning_rate: float
    precision: str
    monitor: str
    early_stopping_patience: int
    plateau_patience: int
    plateau_factor: float
    min_learning_rate: float

    def __post_init__(self) -> None:
        between("train.seed", self.seed, 0, 2**32 - 1)
        at_least("train.epochs", self.epochs, 1)
        at_least("train.global_batch", self.global_batch, 1)
        choice("train.precision", self.precision, PRECISIONS)
        choice("train.monitor", self.monitor, MONITORS)
        at_least("train.early_stopping_patience", self.early_stopping_patience, 1)
        at_least("train.plateau_patience", self.plateau_patience, 1)
        below_one("train.plateau_factor", self.plateau_factor)
        at_least("train.min_learning_rate", self.min_learning_rate, 0)
        if not self.learning_rate > 0:
            raise ConfigError(f"train.learning_rate is {self.learning_rate}; expected more than 0")
