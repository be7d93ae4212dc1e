"""The config of a comparison is strict, and the shipped one compares every loss that there is."""

from __future__ import annotations

import pytest
from fabricated_comparison import settings

from engine.config import comparison
from engine.config.loss import LossConfig
from records.errors import ConfigError


def test_the_shipped_comparison_names_every_loss_with_several_seeds() -> None:
    config = comparison.load("configs/losses.yaml")
    assert {loss.name for loss in config.comparison.losses} == set(LossConfig.choices)
    assert len(config.comparison.seeds) >= 3
    assert config.learning_rates == config.comparison.learning_rates


def test_without_a_grid_every_loss_has_the_optimisers_rate() -> None:
    assert settings("optimizer.learning_rate=0.5").learning_rates == (0.5,)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("comparison.losses=[{name: focl}]", "comparison.losses[0].name is `focl`; did you mean `focal`?"),
        (
            "comparison.losses=[{name: bce}, {name: focal, alpha: 2, gamma: 1}]",
            "comparison.losses[1]: loss.alpha is 2.0; expected 0 to 1",
        ),
        ("comparison.losses=[{name: macro_f1}]", "comparison.losses names no `bce`, which the others are"),
        ("comparison.losses=[{name: bce}, {name: bce}]", "comparison.losses[1]: `bce` with these keys"),
        ("comparison.losses=bce", "comparison.losses is `bce`; expected a list"),
        ("comparison.seeds=[]", "comparison.seeds is []; expected at least one"),
        ("comparison.seeds=[1, 1]", "comparison.seeds names 1 twice"),
        ("comparison.seeds=[-1]", "comparison.seeds is -1; expected 0 to"),
        ("comparison.tuning_seed=2", "comparison.tuning_seed is 2, which is one of comparison.seeds"),
        ("comparison.learning_rates=[0]", "comparison.learning_rates is 0.0; expected more than 0"),
        ("comparison.learning_rates=[1, 1]", "comparison.learning_rates names 1.0 twice"),
        ("comparison.learning_rates=1", "expected a list such as [0.001, 0.003]"),
        ("comparison.epochs=0", "comparison.epochs is 0; expected at least 1"),
        ("comparison.global_batch=0", "comparison.global_batch is 0; expected at least 1"),
        ("comparison.bootstrap_draws=10", "comparison.bootstrap_draws is 10; expected at least 100"),
        ("comparison.precision=half", "comparison.precision is `half`; expected one of float32"),
        ("input.reader=tfrecord", "input.reader is `tfrecord`; expected `index`"),
        (
            "schedule={name: plateau, factor: 0.5, patience: 1, min_delta: 0, min_learning_rate: 0}",
            "schedule.name is `plateau`, by which each loss would get other learning rates",
        ),
        ("train.epochs=1", "unknown key `train`"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        settings(override)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
