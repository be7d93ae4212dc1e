"""What single losses are for: weights that the seeds print, ratios that run, the article's own formula."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_references import LABELS, LOGITS, POSITIVES, PREVALENCE, RECORDS

from engine.config.loss import ClassBalancedFocalConfig, LossConfig, WeightedBCEConfig
from engine.losses import (
    BCE,
    AUCMargin,
    DistributionBalanced,
    DynamicWeightedBCE,
    GuideWeightedBCE,
    PairwiseRanking,
    RunningWeightedBCE,
    WeightedBCE,
    build_loss,
    ranking,
    training_prevalence,
)
from records.errors import ConfigError

# Of the guide's own split, in alphabetical order: positives, and its printed N / 2n- and N / 2n+.
GUIDE_RECORDS = 66_543
GUIDE_POSITIVES = [6872, 1634, 2729, 1318, 7544, 1610, 1021, 176, 11838, 3320, 3791, 2007, 866, 3166]
GUIDE_NEGATIVE_WEIGHTS = [
    0.5576, 0.5126, 0.5214, 0.5101, 0.5639, 0.5124, 0.5078,
    0.5013, 0.6082, 0.5263, 0.5302, 0.5155, 0.5066, 0.5250,
]  # fmt: skip
GUIDE_POSITIVE_WEIGHTS = [
    4.842, 20.36, 12.19, 25.24, 4.410, 20.67, 32.59, 189.04, 2.811, 10.02, 8.776, 16.58, 38.42, 10.51,
]  # fmt: skip


def test_the_guides_weights_are_those_it_prints():
    loss = build_loss(LossConfig("guide_weighted_bce"), GUIDE_POSITIVES, GUIDE_RECORDS)
    positive, negative = loss.weights(np.zeros((1, 14), np.float32))
    np.testing.assert_allclose(positive, GUIDE_POSITIVE_WEIGHTS, rtol=6e-4)
    np.testing.assert_allclose(negative, GUIDE_NEGATIVE_WEIGHTS, atol=6e-5)


def test_a_finding_that_no_record_has_or_each_counts_as_half_a_record():
    np.testing.assert_allclose(training_prevalence([0, 3, 10], 10), [0.05, 0.3, 0.95])


def test_fixed_weights_are_the_training_sets_unless_one_is_given():
    of_the_set = build_loss(WeightedBCEConfig("weighted_bce", 0.0), [2, 5, 0], 10)
    np.testing.assert_allclose(of_the_set.pos_weight, [4, 1, 19])
    assert build_loss(WeightedBCEConfig("weighted_bce", 7.0), [2, 5, 0], 10).pos_weight == [7.0]


def test_the_dynamic_loss_equals_the_articles_formula_at_moderate_logits():
    epsilon = 1e-7
    y, p = LABELS.astype(np.float64), 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    p = np.clip(p, epsilon, 1 - epsilon)
    smoothed = y.mean(axis=0) * 0.9 + 0.05
    positive, negative = 1 / (smoothed + epsilon), 1 / (1 - smoothed + epsilon)
    article = -np.mean(positive * y * np.log(p) + negative * (1 - y) * np.log1p(-p))
    assert float(DynamicWeightedBCE(0.1)(LABELS, LOGITS)) == pytest.approx(article, rel=2e-6)


def test_one_positive_in_sixteen_weighs_the_same_whatever_the_finding():
    labels = np.zeros((16, 14), np.float32)
    labels[4] = 1
    positive, _ = DynamicWeightedBCE(0.1).weights(tf.constant(labels))
    np.testing.assert_allclose(positive, 9.41, atol=0.005)


def test_a_finding_that_no_batch_shows_is_weighed_at_most_by_two_over_the_smoothing():
    positive, _ = DynamicWeightedBCE(0.1).weights(tf.zeros((16, 14)))
    np.testing.assert_allclose(positive, 20, rtol=1e-5)


def test_the_articles_validation_loss_depends_on_batching():
    loss = DynamicWeightedBCE(0.1)
    halves = [float(loss(LABELS[rows], LOGITS[rows])) for rows in (slice(0, 4), slice(4, 8))]
    assert abs(np.mean(halves) - float(loss(LABELS, LOGITS))) > 0.05


def test_validating_keeps_smoothing_and_takes_the_training_prevalence():
    expected = DynamicWeightedBCE(0.2, "training", PREVALENCE).call(LABELS, LOGITS)
    for loss in (DynamicWeightedBCE(0.2), RunningWeightedBCE(PREVALENCE, 0.2)):
        np.testing.assert_array_equal(loss.for_validation(PREVALENCE).call(LABELS, LOGITS), expected)


def test_the_running_ratio_is_an_exponential_mean_of_the_batches():
    loss = RunningWeightedBCE(PREVALENCE, momentum=0.9)
    expected = PREVALENCE
    for _ in range(3):
        loss.call(LABELS, LOGITS)
        expected = 0.9 * expected + 0.1 * LABELS.mean(axis=0)
        np.testing.assert_allclose(loss.variables[0], expected, rtol=1e-5)


def test_the_running_ratio_moves_with_each_step_of_fit_and_not_in_validation():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(5)])
    loss = RunningWeightedBCE(PREVALENCE, momentum=0.5)
    model.compile(loss=loss, optimizer="sgd")
    model.fit(LOGITS, LABELS, batch_size=4, epochs=1, shuffle=False, verbose=0)
    expected = 0.25 * PREVALENCE + 0.25 * LABELS[:4].mean(axis=0) + 0.5 * LABELS[4:].mean(axis=0)
    np.testing.assert_allclose(loss.variables[0], expected, rtol=1e-5)
    loss.for_validation(PREVALENCE).of_data_set(LABELS, LOGITS)
    np.testing.assert_allclose(loss.variables[0], expected, rtol=1e-5)


def test_a_running_ratio_that_is_put_back_goes_on_as_if_never_stopped():
    undisturbed, stopped, resumed = (RunningWeightedBCE(PREVALENCE) for _ in range(3))
    for loss in (undisturbed, stopped):
        loss.call(LABELS, LOGITS)
    for there, here in zip(resumed.variables, stopped.variables, strict=True):
        there.assign(here)
    np.testing.assert_array_equal(undisturbed.call(LABELS, LOGITS), resumed.call(LABELS, LOGITS))


def test_only_the_running_loss_has_variables():
    for name, kind in LossConfig.choices.items():
        if kind is LossConfig:
            assert build_loss(LossConfig(name), POSITIVES, RECORDS).variables == []


def test_effective_numbers_weigh_between_alike_and_inverse_counts():
    def weights(beta):
        settings = ClassBalancedFocalConfig("class_balanced_focal", beta, 2.0)
        return build_loss(settings, [100], 1000).weights(np.zeros((1, 1), np.float32))

    np.testing.assert_allclose(np.ravel(weights(0.0)), [1, 1])
    np.testing.assert_allclose(np.ravel(weights(1 - 1e-9)), [1.8, 0.2], rtol=1e-4)


def test_a_sample_without_findings_has_the_highest_weight():
    loss = DistributionBalanced([0.2, 0.01])
    weights = np.asarray(loss.sample_weights(tf.constant([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])))
    np.testing.assert_allclose(weights[0], 1.1)
    assert weights[2, 0] < 0.3  # the common one is drawn because of the rare one
    assert weights[2, 1] > 1


@pytest.mark.parametrize("pairs", [1, 100])
def test_ranking_in_blocks_is_ranking_at_once(monkeypatch, pairs):
    expected = PairwiseRanking().call(LABELS, LOGITS)
    monkeypatch.setattr(ranking, "BLOCK_PAIRS", pairs)
    np.testing.assert_allclose(PairwiseRanking().call(LABELS, LOGITS), expected, rtol=1e-6)


def test_the_auc_margin_is_the_saddle_point_of_the_published_loss():
    y, p = LABELS[:, 0] == 1, 1 / (1 + np.exp(-LOGITS[:, 0].astype(np.float64)))

    def published(a, b, c):
        spread = np.mean((p[y] - a) ** 2) + np.mean((p[~y] - b) ** 2)
        return spread + 2 * c * (1 + p[~y].mean() - p[y].mean()) - c**2

    a, b = p[y].mean(), p[~y].mean()
    c = 1 + b - a
    found = float(AUCMargin(1.0)(LABELS[:, :1], LOGITS[:, :1]))
    assert found == pytest.approx(published(a, b, c), rel=1e-5)
    for step in (-0.01, 0.01):
        assert published(a + step, b, c) > found
        assert published(a, b + step, c) > found
        assert published(a, b, c + step) < found


@pytest.mark.parametrize("pos_weight", [0.0, -1.0, float("inf"), [1.0, float("nan")], []])
def test_wrong_positive_weights_are_refused(pos_weight):
    with pytest.raises(ConfigError, match="pos_weight"):
        WeightedBCE(pos_weight)


@pytest.mark.parametrize("shares", [[0.0, 0.5], [0.5, 1.0], []])
def test_a_prevalence_that_cannot_be_weighed_is_refused(shares):
    for make in (GuideWeightedBCE, RunningWeightedBCE, DistributionBalanced):
        with pytest.raises(ConfigError, match="above 0 and below 1"):
            make(shares)
    with pytest.raises(ConfigError, match="needs the training split's prevalence"):
        DynamicWeightedBCE(0.1, "training")
    with pytest.raises(ConfigError, match="prevalence is `none`; expected one of batch, training"):
        DynamicWeightedBCE(0.1, "none")


def test_a_compiled_model_is_saved_and_loaded_with_its_loss(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5)])
    model.compile(loss=RunningWeightedBCE(PREVALENCE, 0.2, 0.9), optimizer="sgd")
    model.save(tmp_path / "model.keras")
    loss = keras.saving.load_model(tmp_path / "model.keras").loss
    assert (loss.smoothing, loss.momentum) == (0.2, 0.9)
    assert loss.training_prevalence == PREVALENCE.tolist()


def test_plain_cross_entropy_is_keras_own():
    expected = keras.losses.BinaryCrossentropy(from_logits=True)(LABELS, LOGITS)
    assert float(BCE()(LABELS, LOGITS)) == pytest.approx(float(expected), rel=1e-6)
