"""The learning rate of each step, against the formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from engine.config.schedule import ConstantConfig, CosineConfig, ExponentialConfig, PlateauConfig
from engine.training.schedules import rate_of_step

STEPS, EPOCHS = 7, 5


def _rates(settings, first_rate: float = 1e-3, steps: int = STEPS, epochs: int = EPOCHS) -> np.ndarray:
    rate = rate_of_step(settings, first_rate, steps_per_epoch=steps, epochs=epochs)
    assert rate is not None
    return np.array([rate(step) for step in range(steps * epochs)])


@pytest.mark.parametrize(
    "settings", [ConstantConfig("constant"), PlateauConfig("plateau", 0.5, 3, 1e-4, 1e-6)]
)
def test_a_rate_that_no_step_decides_on_is_left_alone(settings):
    assert rate_of_step(settings, 1e-3, steps_per_epoch=STEPS, epochs=EPOCHS) is None


def test_the_exponential_rate_falls_by_its_factor_after_each_epoch():
    rates = _rates(ExponentialConfig("exponential", 0.95)).reshape(EPOCHS, STEPS)
    expected = 1e-3 * 0.95 ** np.arange(EPOCHS)
    np.testing.assert_allclose(rates, np.repeat(expected[:, None], STEPS, axis=1), rtol=1e-12)


def test_the_cosine_falls_from_the_first_rate_to_the_final_share_at_the_last_step():
    rates = _rates(CosineConfig("cosine", 0.0, 0.1))
    angles = np.linspace(0, np.pi, STEPS * EPOCHS)
    np.testing.assert_allclose(rates, 1e-3 * (0.1 + 0.9 * (1 + np.cos(angles)) / 2), rtol=1e-12)
    assert rates[-1] == pytest.approx(1e-4)


@pytest.mark.parametrize(("warmup_epochs", "rising"), [(1.0, 7), (0.5, 4), (3.0, 21)])
def test_the_warm_up_rises_in_a_line_from_above_zero(warmup_epochs, rising):
    rates = _rates(CosineConfig("cosine", warmup_epochs, 0.0))
    steps = warmup_epochs * STEPS
    np.testing.assert_allclose(rates[:rising], 1e-3 * np.arange(1, rising + 1) / (steps + 1), rtol=1e-12)
    done = (np.arange(rising, STEPS * EPOCHS) - steps) / (STEPS * EPOCHS - 1 - steps)
    np.testing.assert_allclose(rates[rising:], 1e-3 * (1 + np.cos(np.pi * done)) / 2, rtol=1e-9, atol=1e-18)
    assert 0 < rates[0] < rates[rising - 1] <= rates.max() <= 1e-3
    assert rates[-1] == pytest.approx(0, abs=1e-18)


def test_a_warm_up_as_long_as_the_run_never_falls():
    rates = _rates(CosineConfig("cosine", float(EPOCHS), 0.0))
    assert np.all(np.diff(rates) > 0)
    assert rates[-1] < 1e-3


def test_a_run_of_a_single_step_has_a_rate():
    assert _rates(CosineConfig("cosine", 0.0, 0.25), steps=1, epochs=1).tolist() == [0.25e-3]
