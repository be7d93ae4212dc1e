"""How gradients change the weights: section `optimizer`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.config.checks import at_least, below_one
from records.errors import ConfigError


@dataclass(frozen=True)
class OptimizerConfig:
    """What all optimisers take.

    Attributes:
        name: one of `choices`.
        learning_rate: that the schedule begins with.
        clip_norm: of the whole gradient, which is scaled down to it; 0: never.
        ema_momentum: of the running mean of the weights that is judged and kept; 0: the weights themselves.
    """

    choices: ClassVar[dict[str, type[OptimizerConfig]]]
    name: str
    learning_rate: float
    clip_norm: float
    ema_momentum: float

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ConfigError(f"optimizer.learning_rate is {self.learning_rate}; expected more than 0")
        at_least("optimizer.clip_norm", self.clip_norm, 0)
        below_one("optimizer.ema_momentum", self.ema_momentum)


@dataclass(frozen=True)
class AdamConfig(OptimizerConfig):
    """Adam (Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", ICLR)."""


@dataclass(frozen=True)
class AdamWConfig(OptimizerConfig):
    """AdamW (Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", ICLR).

    Attributes:
        weight_decay: share of a weight that a step at rate 1 takes away.
    """

    weight_decay: float

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("optimizer.weight_decay", self.weight_decay, 0)


@dataclass(frozen=True)
class SGDConfig(OptimizerConfig):
    """Stochastic gradient descent.

    Attributes:
        momentum: 0 to below 1.
        nesterov: whether the momentum is Nesterov's.
    """

    momentum: float
    nesterov: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        below_one("optimizer.momentum", self.momentum)


OptimizerConfig.choices = {"adam": AdamConfig, "adamw": AdamWConfig, "sgd": SGDConfig}
