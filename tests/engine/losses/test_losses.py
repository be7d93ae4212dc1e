"""Every loss against float64 NumPy: values, gradients, shares, precision, and what it keeps when saved."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_references import CASES, FINDINGS, INPUTS, LABELS, LOGITS, POSITIVES, PREVALENCE, RECORDS

from engine.config.loss import LossConfig
from engine.losses import LogitLoss, build_loss

STEP = 1e-4


def _built(case: str) -> LogitLoss:
    return build_loss(CASES[case][0], POSITIVES, RECORDS)


def _values_and_gradient(loss, labels, logits):
    """Values per sample, and the gradient of their mean."""
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        values = loss.call(tf.constant(labels), logits)
        mean = tf.reduce_mean(values)
    return values.numpy(), tf.cast(tape.gradient(mean, logits), tf.float32).numpy()


def _expected_gradient(reference, labels, logits):
    """Central differences of the reference's mean."""
    gradient = np.zeros(logits.shape)
    for element in np.ndindex(logits.shape):
        step = np.zeros(logits.shape)
        step[element] = STEP
        up, down = (np.mean(reference(labels, logits + sign * step)) for sign in (1, -1))
        gradient[element] = (up - down) / (2 * STEP)
    return gradient


def test_every_loss_of_the_config_has_a_reference():
    assert {settings.name for settings, _ in CASES.values()} == set(LossConfig.choices)


@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_float64_numpy(case, given):
    labels, logits = INPUTS[given]
    values, gradient = _values_and_gradient(_built(case), labels, logits)
    reference = CASES[case][1]
    expected = reference(labels.astype(np.float64), logits.astype(np.float64))
    assert values.shape == (len(labels),)
    np.testing.assert_allclose(
        values.mean() if expected.ndim == 0 else values, expected, rtol=1e-5, atol=1e-6
    )
    expected = _expected_gradient(reference, labels.astype(np.float64), logits.astype(np.float64))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("case", CASES)
def test_a_loss_is_float32_and_finite_at_fifty_under_any_policy(case, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        loss = _built(case)
        for labels, logits in INPUTS.values():
            given = tf.cast(logits, keras.config.dtype_policy().compute_dtype)
            values, gradient = _values_and_gradient(loss, labels, given)
            assert values.dtype == np.float32
            assert np.isfinite(values).all()
            assert np.isfinite(gradient).all()
            if not loss.variables:
                np.testing.assert_array_equal(values, loss.call(labels, tf.cast(given, tf.float32)))
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("case", CASES)
def test_logits_beyond_fifty_leave_values_and_gradients_finite(case):
    for sign in (1, -1):
        values, gradient = _values_and_gradient(_built(case), LABELS, sign * np.full_like(LOGITS, 500))
        assert np.isfinite(values).all()
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("case", CASES)
def test_sample_weights_weigh_samples(case):
    weights = np.linspace(0, 2, len(LABELS)).astype(np.float32)
    weighted = float(_built(case)(LABELS, LOGITS, sample_weight=weights))
    assert weighted == pytest.approx(float(np.mean(weights * _built(case).call(LABELS, LOGITS))), rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_integer_and_boolean_labels_are_taken(case):
    expected = _built(case).call(LABELS, LOGITS)
    for dtype in (np.uint8, np.int64, bool):
        np.testing.assert_array_equal(_built(case).call(LABELS.astype(dtype), LOGITS), expected)


@pytest.mark.parametrize("case", CASES)
def test_a_saved_loss_keeps_every_setting(case):
    loaded = keras.losses.deserialize(keras.losses.serialize(_built(case)))
    assert type(loaded) is type(_built(case))
    assert loaded.get_config() == _built(case).get_config()
    np.testing.assert_array_equal(loaded.call(LABELS, LOGITS), _built(case).call(LABELS, LOGITS))


@pytest.mark.parametrize("case", CASES)
def test_findings_that_do_not_match_are_refused(case):
    with pytest.raises(ValueError, match="5 findings, logits of 4"):
        _built(case).call(LABELS, LOGITS[:, :4])


OF_A_TRAINING_SET = (
    "weighted_bce",
    "guide_weighted_bce",
    "training_prevalence",
    "running_weighted_bce",
    "class_balanced_focal",
    "distribution_balanced",
)


@pytest.mark.parametrize("case", OF_A_TRAINING_SET)
def test_labels_of_other_findings_than_the_training_sets_are_refused(case):
    with pytest.raises(ValueError, match="5 findings, the labels are of 4"):
        _built(case).call(LABELS[:, :4], LOGITS[:, :4])


def _mean_over(loss, batch_size):
    values = [
        loss.call(LABELS[start : start + batch_size], LOGITS[start : start + batch_size])
        for start in range(0, len(LABELS), batch_size)
    ]
    return float(np.concatenate(values).mean(dtype=np.float64))


OF_A_BATCH = {"dice", "tversky", "focal_tversky", "macro_f1", "pairwise_ranking", "auc_margin"}


@pytest.mark.parametrize("case", sorted(CASES.keys() - OF_A_BATCH))
def test_a_sum_over_samples_validates_the_same_however_it_is_batched(case):
    loss = _built(case).for_validation(PREVALENCE)
    whole = loss.of_data_set(LABELS, LOGITS)
    assert [_mean_over(loss, size) for size in (1, 3, 5, 8)] == pytest.approx([whole] * 4, rel=1e-6)


@pytest.mark.parametrize("case", sorted(OF_A_BATCH))
def test_a_loss_of_a_batch_validates_on_the_whole_set(case):
    labels, logits = np.tile(LABELS, (50, 1)), np.tile(LOGITS, (50, 1))
    logits += np.random.default_rng(0).normal(0, 0.1, logits.shape).astype(np.float32)
    expected = float(CASES[case][1](labels.astype(np.float64), logits.astype(np.float64)))
    loss = _built(case).for_validation(PREVALENCE)
    assert loss.of_data_set(labels.astype(np.uint8), logits) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_a_compiled_model_learns_with_the_loss(case):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((FINDINGS,)), keras.layers.Dense(FINDINGS)])
    model.compile(loss=_built(case), optimizer=keras.optimizers.SGD(0.02))
    loss = _built(case).for_validation(PREVALENCE)
    before = loss.of_data_set(LABELS, model.predict_on_batch(LOGITS))
    for _ in range(5):
        model.train_on_batch(LOGITS, LABELS)
    assert loss.of_data_set(LABELS, model.predict_on_batch(LOGITS)) < before
