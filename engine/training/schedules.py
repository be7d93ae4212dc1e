"""The learning rate of each step, where that depends on nothing but the step."""

from __future__ import annotations

import math
from collections.abc import Callable

from engine.config.schedule import CosineConfig, ExponentialConfig, ScheduleConfig


def rate_of_step(
    settings: ScheduleConfig, first_rate: float, *, steps_per_epoch: int, epochs: int
) -> Callable[[int], float] | None:
    """Return a function from a step, counted from 0 through all epochs, to its learning rate.

    Args:
        settings: of the schedule.
        first_rate: the optimiser's.
        steps_per_epoch: of the run.
        epochs: of the run.

    Returns:
        None where the rate stays, or depends on how the training goes.
    """
    if isinstance(settings, ExponentialConfig):
        factor = settings.factor
        return lambda step: first_rate * factor ** (step // steps_per_epoch)
    if isinstance(settings, CosineConfig):
        warmup_steps = settings.warmup_epochs * steps_per_epoch
        falling_steps = epochs * steps_per_epoch - 1 - warmup_steps
        final_share = settings.final_share

        def rate(step: int) -> float:
            if step < warmup_steps:
                return first_rate * (step + 1) / (warmup_steps + 1)
            done = min(1.0, (step - warmup_steps) / falling_steps) if falling_steps > 0 else 1.0
            return first_rate * (final_share + (1 - final_share) * (1 + math.cos(math.pi * done)) / 2)

        return rate
    return None
