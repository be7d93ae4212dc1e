"""One update of the weights, against the same computed by hand in float64."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from engine.config.optimizer import AdamConfig, SGDConfig
from engine.losses import BCE, DynamicWeightedBCE
from engine.training.optimizers import build_optimizer, loss_scale
from engine.training.step import TrainingStep

RECORDS, PIXELS, FINDINGS = 8, 5, 3
L2 = 0.01
RNG = np.random.default_rng(5)
PICTURES = RNG.normal(0, 1, (RECORDS, PIXELS)).astype(np.float32)
LABELS = RNG.integers(0, 2, (RECORDS, FINDINGS)).astype(np.float32)


def _linear(l2: float = L2) -> keras.Model:
    """Logits are linear in the pictures; the kernel is penalised."""
    penalty = keras.regularizers.L2(l2) if l2 else None
    dense = keras.layers.Dense(FINDINGS, kernel_regularizer=penalty, dtype="float32")
    model = keras.Sequential([keras.Input((PIXELS,)), dense])
    rng = np.random.default_rng(7)
    model.set_weights([rng.normal(0, 1, weight.shape) for weight in model.get_weights()])
    return model


def _step(model, optimizer=None, *, loss=None, precision: str = "float32", **settings) -> TrainingStep:
    optimizer = optimizer or build_optimizer(SGDConfig("sgd", 1.0, 0.0, 0.0, 0.0, False), precision)
    return TrainingStep(model, loss or BCE(), optimizer, records=RECORDS, **settings)


def _call(step: TrainingStep, pictures: np.ndarray = PICTURES):
    return step(tf.constant(pictures), tf.constant(LABELS))


def _by_hand(weights: list[np.ndarray], l2: float = L2) -> tuple[float, list[np.ndarray]]:
    """The loss and its gradients, in float64: mean binary cross-entropy and the penalty."""
    kernel, bias = (weight.astype(np.float64) for weight in weights)
    logits = PICTURES.astype(np.float64) @ kernel + bias
    losses = np.logaddexp(0, logits) - LABELS * logits
    slopes = (1 / (1 + np.exp(-logits)) - LABELS) / losses.size
    gradients = [PICTURES.T @ slopes + 2 * l2 * kernel, slopes.sum(axis=0)]
    return float(losses.mean() + l2 * np.sum(kernel**2)), gradients


@pytest.mark.parametrize("micro_batches", [1, 2, 8])
def test_a_step_has_the_loss_and_the_gradients_of_the_whole_batch_and_the_penalties_once(micro_batches):
    model = _linear()
    before = model.get_weights()
    loss, gradients = _by_hand(before)
    outcome = _call(_step(model, micro_batches=micro_batches))
    assert float(outcome.loss) == pytest.approx(loss, rel=1e-6)
    assert not bool(outcome.skipped)
    for old, new, gradient in zip(before, model.get_weights(), gradients, strict=True):
        np.testing.assert_allclose(new, old - gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_the_gradient_is_clipped_when_it_is_whole(micro_batches):
    model = _linear()
    before = model.get_weights()
    _, gradients = _by_hand(before)
    norm = float(np.sqrt(sum(np.sum(gradient**2) for gradient in gradients)))
    optimizer = build_optimizer(SGDConfig("sgd", 1.0, norm / 3, 0.0, 0.0, False), "float32")
    _call(_step(model, optimizer, micro_batches=micro_batches))
    for old, new, gradient in zip(before, model.get_weights(), gradients, strict=True):
        np.testing.assert_allclose(new, old - gradient / 3, rtol=1e-5, atol=1e-6)


def test_micro_batches_have_their_own_ratios_in_the_losses_that_take_the_batchs():
    losses = []
    for micro_batches in (1, 2):
        step = _step(_linear(0), loss=DynamicWeightedBCE(0.1, "batch"), micro_batches=micro_batches)
        losses.append(float(_call(step).loss))
    kernel, bias = _linear(0).get_weights()
    logits = np.split(PICTURES @ kernel + bias, 2)
    halves = zip(np.split(LABELS, 2), logits, strict=True)
    parts = [DynamicWeightedBCE(0.1, "batch").call(*half) for half in halves]
    assert losses[1] == pytest.approx(float(np.mean(np.concatenate(parts))), rel=1e-5)
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def test_pictures_come_with_transforms_and_in_micro_batches_too():
    images = keras.Input((PIXELS,), name="images")
    shift = keras.Input((1,), name="transforms")
    model = keras.Model({"images": images, "transforms": shift}, keras.layers.Dense(FINDINGS)(images + shift))
    start, ends = model.get_weights(), []
    inputs = {"images": tf.constant(PICTURES), "transforms": tf.constant(PICTURES[:, :1])}
    for micro_batches in (1, 4):
        model.set_weights(start)
        _step(model, micro_batches=micro_batches)(inputs, tf.constant(LABELS))
        ends.append(model.get_weights()[0])
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_loss_scaling_changes_nothing_of_a_step_that_does_not_overflow(micro_batches):
    model = _linear()
    before = model.get_weights()
    loss, gradients = _by_hand(before)
    outcome = _call(_step(model, precision="mixed_float16", micro_batches=micro_batches))
    assert float(outcome.loss) == pytest.approx(loss, rel=1e-6)
    for old, new, gradient in zip(before, model.get_weights(), gradients, strict=True):
        np.testing.assert_allclose(new, old - gradient, rtol=1e-4, atol=1e-5)


def test_a_step_whose_gradient_overflows_is_skipped_and_halves_the_scale():
    model = _linear()
    optimizer = build_optimizer(AdamConfig("adam", 0.1, 1.0, 0.9), "mixed_float16")
    step = _step(model, optimizer)
    optimizer.dynamic_scale.assign(2.0**127)
    before, kept = model.get_weights(), [variable.numpy() for variable in optimizer.inner_optimizer.variables]
    large = PICTURES * 100
    outcome = _call(step, large)
    assert bool(outcome.skipped)
    assert np.isfinite(float(outcome.loss))
    assert loss_scale(optimizer) == 2.0**126
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    for value, variable in zip(kept, optimizer.inner_optimizer.variables, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())
    taken = [not bool(_call(step, large).skipped) for _ in range(12)]
    # The scale falls until a step is taken, and from then on each is.
    assert taken == sorted(taken)
    assert taken[-1]
    assert loss_scale(optimizer) == 2.0 ** (126 - taken.count(False))


def test_a_compiled_step_is_the_same_step():
    ends = []
    for compiled in (False, True):
        model = _linear()
        outcome = _call(_step(model, compiled=compiled, micro_batches=2))
        ends.append((float(outcome.loss), model.get_weights()[0]))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-6)
    np.testing.assert_allclose(ends[0][1], ends[1][1], rtol=1e-5, atol=1e-6)
