"""The optimiser that a config names, as Keras has it."""

from __future__ import annotations

from typing import Any

import keras

from engine.config.optimizer import AdamWConfig, OptimizerConfig, SGDConfig


def build_optimizer(settings: OptimizerConfig, precision: str) -> keras.optimizers.Optimizer:
    """Build an optimiser that has no variables yet.

    Args:
        settings: kind, rate, clipping and running mean.
        precision: Keras's dtype policy; `mixed_float16` has the loss scaled dynamically, because small
            gradients would otherwise be 0 in half precision (Micikevicius et al. 2018, "Mixed Precision
            Training", ICLR).
    """
    shared: dict[str, Any] = {
        "learning_rate": settings.learning_rate,
        "global_clipnorm": settings.clip_norm or None,
        "use_ema": settings.ema_momentum > 0,
        "ema_momentum": settings.ema_momentum or 0.99,
    }
    optimizer: keras.optimizers.Optimizer
    if isinstance(settings, AdamWConfig):
        optimizer = keras.optimizers.AdamW(weight_decay=settings.weight_decay, **shared)
    elif isinstance(settings, SGDConfig):
        optimizer = keras.optimizers.SGD(momentum=settings.momentum, nesterov=settings.nesterov, **shared)
    else:
        optimizer = keras.optimizers.Adam(**shared)
    return keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer


def innermost(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Return the optimiser within the loss scaling, if there is one."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def loss_scale(optimizer: keras.optimizers.Optimizer) -> float | None:
    """Return what the loss is multiplied by, None where it isn't."""
    scale = getattr(optimizer, "dynamic_scale", None)
    return None if scale is None else float(keras.ops.convert_to_numpy(scale))
