"""Values and gradients of the losses against float64 NumPy, and what they keep when saved."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from engine.losses import BCE, LOSSES, DynamicWeightedBCE, WeightedBCE, build_loss
from records.errors import ConfigError

RNG = np.random.default_rng(3)
FINDINGS = 14
PREVALENCE = np.linspace(0.002, 0.18, FINDINGS)
POS_WEIGHT = np.linspace(1, 60, FINDINGS)
LABELS = (RNG.random((16, FINDINGS)) < 0.2).astype(np.float32)
LOGITS = RNG.normal(0, 2, (16, FINDINGS)).astype(np.float32)
SMOOTHING = 0.1

ALL = {
    "bce": BCE(),
    "weighted_bce": WeightedBCE(POS_WEIGHT),
    "one_weight": WeightedBCE(5.0),
    "batch": DynamicWeightedBCE(SMOOTHING),
    "training": DynamicWeightedBCE(SMOOTHING, "training", PREVALENCE),
    "none": DynamicWeightedBCE(SMOOTHING, "none"),
}


def _weights(kind, labels):
    """Float64 w+ and w- of each loss, (F,)."""
    ones = np.ones(FINDINGS)
    if kind in ("bce", "weighted_bce", "one_weight"):
        return {"bce": ones, "weighted_bce": POS_WEIGHT, "one_weight": 5 * ones}[kind], ones
    ratio = {"batch": labels.mean(axis=0), "training": PREVALENCE, "none": 0.5 * ones}[kind].astype(
        np.float64
    )
    smoothed = ratio * (1 - SMOOTHING) + 0.5 * SMOOTHING
    return 1 / (smoothed + 1e-7), 1 / (1 - smoothed + 1e-7)


def _expected(kind, labels, logits):
    """Float64 loss per sample and its gradient with respect to the logits."""
    labels, logits = labels.astype(np.float64), logits.astype(np.float64)
    positive, negative = _weights(kind, labels)
    cost = positive * labels * np.logaddexp(0, -logits) + negative * (1 - labels) * np.logaddexp(0, logits)
    p = 1 / (1 + np.exp(-logits))
    gradient = negative * (1 - labels) * p - positive * labels * (1 - p)
    return cost.mean(axis=1), gradient / FINDINGS


def _loss_and_gradient(loss, labels, logits):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        values = loss.call(tf.constant(labels), logits)
    return values, tape.gradient(values, logits)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("scale", [1, 25])
def test_values_and_gradients_equal_float64_numpy(kind, scale):
    logits = np.clip(LOGITS * scale, -50, 50)
    values, gradient = _loss_and_gradient(ALL[kind], LABELS, logits)
    expected, expected_gradient = _expected(kind, LABELS, logits)
    np.testing.assert_allclose(values, expected, rtol=2e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=5e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["batch", "training"])
def test_the_expected_gradient_equals_finite_differences(kind):
    step = np.zeros(LOGITS.shape)
    step[2, 5] = 1e-5
    up, _ = _expected(kind, LABELS, LOGITS + step)
    down, _ = _expected(kind, LABELS, LOGITS - step)
    _, gradient = _expected(kind, LABELS, LOGITS)
    assert (up - down)[2] / 2e-5 == pytest.approx(gradient[2, 5], rel=1e-6)


def test_the_dynamic_loss_equals_the_articles_formula_at_moderate_logits():
    epsilon = 1e-7
    y, p = LABELS.astype(np.float64), 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    p = np.clip(p, epsilon, 1 - epsilon)
    smoothed = y.mean(axis=0) * (1 - SMOOTHING) + 0.5 * SMOOTHING
    positive, negative = 1 / (smoothed + epsilon), 1 / (1 - smoothed + epsilon)
    article = -np.mean(positive * y * np.log(p) + negative * (1 - y) * np.log1p(-p))
    assert float(DynamicWeightedBCE(SMOOTHING)(LABELS, LOGITS)) == pytest.approx(article, rel=2e-6)


def test_one_positive_in_sixteen_weighs_the_same_whatever_the_finding():
    labels = np.zeros((16, FINDINGS), np.float32)
    labels[4] = 1
    positive, _ = DynamicWeightedBCE(0.1).weights(tf.constant(labels))
    np.testing.assert_allclose(positive, 9.41, atol=0.005)


def test_a_finding_that_no_batch_shows_is_weighed_at_most_by_two_over_the_smoothing():
    positive, _ = DynamicWeightedBCE(0.1).weights(tf.zeros((16, FINDINGS)))
    np.testing.assert_allclose(positive, 20, rtol=1e-5)


@pytest.mark.parametrize("kind", ALL)
def test_confident_mistakes_at_fifty_keep_a_finite_and_useful_gradient(kind):
    labels = np.zeros((4, FINDINGS), np.float32)
    labels[::2] = 1
    wrong = np.where(labels == 1, -50, 50).astype(np.float32)
    values, gradient = _loss_and_gradient(ALL[kind], labels, wrong)
    assert np.isfinite(values).all()
    assert (np.abs(gradient) > 0.05).all()
    assert (np.sign(gradient) == np.where(labels == 1, -1, 1)).all()


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_logits_give_a_float32_loss_per_sample(kind, dtype):
    values = ALL[kind].call(tf.constant(LABELS), tf.cast(LOGITS, dtype))
    assert values.dtype == tf.float32
    assert values.shape == (16,)
    np.testing.assert_allclose(values, ALL[kind].call(LABELS, LOGITS), rtol=0.02)


def test_the_loss_is_float32_under_a_half_precision_policy():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        loss = build_loss("dynamic_weighted_bce")
        assert loss(LABELS, tf.cast(LOGITS, "float16")).dtype == tf.float32
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("labels", [LABELS.astype(np.uint8), LABELS.astype(np.int64), LABELS.astype(bool)])
def test_integer_and_boolean_labels_are_taken(labels):
    np.testing.assert_array_equal(ALL["batch"](labels, LOGITS), ALL["batch"](LABELS, LOGITS))


@pytest.mark.parametrize("kind", ALL)
def test_sample_weights_weigh_samples(kind):
    weights = np.zeros(16, np.float32)
    weights[3] = 2
    weighted = float(ALL[kind](LABELS, LOGITS, sample_weight=weights))
    alone = float(ALL[kind].call(LABELS, LOGITS)[3])
    assert weighted == pytest.approx(2 * alone / 16, rel=1e-6)


def _mean_over(loss, batch_size):
    values = [
        loss.call(LABELS[start : start + batch_size], LOGITS[start : start + batch_size])
        for start in range(0, len(LABELS), batch_size)
    ]
    return float(np.concatenate(values).mean(dtype=np.float64))


@pytest.mark.parametrize("kind", ALL)
def test_validation_loss_does_not_depend_on_batching(kind):
    loss = ALL[kind].for_validation(PREVALENCE)
    whole = _mean_over(loss, 16)
    assert [_mean_over(loss, size) for size in (1, 3, 5, 8)] == pytest.approx([whole] * 4, rel=1e-6)


def test_the_articles_validation_loss_does_depend_on_batching():
    assert abs(_mean_over(ALL["batch"], 2) - _mean_over(ALL["batch"], 16)) > 0.05


def test_validating_keeps_smoothing_and_takes_the_training_prevalence():
    loss = DynamicWeightedBCE(0.2).for_validation(PREVALENCE)
    expected = DynamicWeightedBCE(0.2, "training", PREVALENCE)
    np.testing.assert_array_equal(loss.call(LABELS, LOGITS), expected.call(LABELS, LOGITS))


@pytest.mark.parametrize("kind", ALL)
def test_a_saved_loss_keeps_every_setting(kind):
    saved = keras.losses.serialize(ALL[kind])
    loaded = keras.losses.deserialize(saved)
    assert type(loaded) is type(ALL[kind])
    assert loaded.get_config() == ALL[kind].get_config()
    np.testing.assert_array_equal(loaded.call(LABELS, LOGITS), ALL[kind].call(LABELS, LOGITS))


def test_a_compiled_model_is_saved_and_loaded_with_its_loss(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(FINDINGS)])
    model.compile(loss=DynamicWeightedBCE(0.2, "training", PREVALENCE), optimizer="sgd")
    model.save(tmp_path / "model.keras")
    loss = keras.saving.load_model(tmp_path / "model.keras").loss
    assert (loss.smoothing, loss.prevalence) == (0.2, "training")
    assert loss.training_prevalence == PREVALENCE.tolist()


def test_a_model_trains_with_the_loss():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((FINDINGS,)), keras.layers.Dense(FINDINGS)])
    model.compile(loss=DynamicWeightedBCE(), optimizer=keras.optimizers.SGD(0.5))
    history = model.fit(LABELS, LABELS, batch_size=16, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]


@pytest.mark.parametrize("name", LOSSES)
def test_every_named_loss_can_be_built(name):
    loss = build_loss(name, pos_weight=2.0, training_prevalence=PREVALENCE, prevalence="training")
    assert np.isfinite(loss(LABELS, LOGITS))


def test_the_settings_reach_the_loss():
    loss = build_loss("dynamic_weighted_bce", smoothing=0.2, prevalence="none")
    assert (loss.smoothing, loss.prevalence) == (0.2, "none")
    assert build_loss("weighted_bce", pos_weight=[1.0, 2.0]).pos_weight == [1.0, 2.0]


def test_an_unknown_name_is_answered_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r"`dynamic_bce`; did you mean `dynamic_weighted_bce`\?"):
        build_loss("dynamic_bce")
    with pytest.raises(ConfigError, match="expected one of bce, weighted_bce, dynamic_weighted_bce"):
        build_loss("xyz")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"smoothing": 1.5}, "smoothing is 1.5"),
        ({"smoothing": float("nan")}, "smoothing is nan"),
        ({"prevalence": "running"}, "unknown prevalence `running`"),
        ({"prevalence": "training"}, "needs the training split's prevalence"),
        ({"prevalence": "training", "training_prevalence": [0.0, 0.5]}, "above 0 and below 1"),
    ],
)
def test_wrong_settings_of_the_dynamic_loss_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        build_loss("dynamic_weighted_bce", **settings)


@pytest.mark.parametrize("pos_weight", [None, 0.0, -1.0, float("inf"), [1.0, float("nan")], []])
def test_wrong_positive_weights_are_refused(pos_weight):
    with pytest.raises(ConfigError, match="pos_weight"):
        build_loss("weighted_bce", pos_weight=pos_weight)


@pytest.mark.parametrize(
    "loss", [BCE(), WeightedBCE([1.0, 2.0]), DynamicWeightedBCE(0.1, "training", [0.1, 0.2])]
)
def test_findings_that_do_not_match_are_refused(loss):
    logits = LOGITS[:, :3] if isinstance(loss, BCE) else LOGITS
    with pytest.raises(ValueError, match=r"14|findings"):
        loss.call(LABELS, logits)
