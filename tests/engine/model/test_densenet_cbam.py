"""The whole model: its size, its shapes, its precision, and a round trip through a saved file."""

import keras
import numpy as np
import pytest

from engine.model import build_densenet121_cbam, probabilities
from records.errors import ConfigError

ARTICLE = {
    "stored_side_px": 320,
    "stored_channels": 1,
    "image_side_px": 320,
    "findings": 14,
    "head_units": (128, 64),
    "dropout": 0.3,
    "l2": 0.001,
    "cbam_reduction": 2,
    "weights": None,
}
SMALL = {**ARTICLE, "stored_side_px": 64, "image_side_px": 32}
IMAGES = np.random.default_rng(4).integers(0, 256, (3, 64, 64, 1), np.uint8)


@pytest.fixture(scope="module")
def article():
    return build_densenet121_cbam(**ARTICLE)


@pytest.fixture(scope="module")
def small():
    return build_densenet121_cbam(**SMALL)


def test_the_model_has_the_articles_parameters(article):
    assert article.count_params() == 8_228_081
    assert article.get_layer("densenet121").count_params() == 7_037_504
    assert all(layer.trainable for layer in article.get_layer("densenet121").layers)


def test_every_stage_has_its_shape_at_320_px(article):
    backbone = article.get_layer("densenet121")
    stages = {
        "conv1_relu": (160, 160, 64),
        "conv2_block6_concat": (80, 80, 256),
        "conv3_block12_concat": (40, 40, 512),
        "conv4_block24_concat": (20, 20, 1024),
        "conv5_block16_concat": (10, 10, 1024),
    }
    assert {name: backbone.get_layer(name).output.shape[1:] for name in stages} == stages
    whole = {
        "preprocess": (320, 320, 3),
        "densenet121": (10, 10, 1024),
        "channel_attention": (10, 10, 1024),
        "spatial_attention": (10, 10, 1024),
        "head_pool": (1024,),
        "head_dense_1": (128,),
        "head_dense_2": (64,),
        "logits": (14,),
    }
    assert {name: article.get_layer(name).output.shape[1:] for name in whole} == whole
    assert article.input.dtype == "uint8"


def test_hidden_layers_are_penalised_and_the_output_is_not(article):
    penalties = [layer.name for layer in article.layers if getattr(layer, "kernel_regularizer", None)]
    assert penalties == ["head_dense_1", "head_dense_2"]
    assert article.get_layer("head_dense_1").kernel_regularizer.l2 == pytest.approx(0.001)
    assert article.get_layer("head_dropout_2").rate == 0.3


def test_logits_are_not_squashed(small):
    assert small.get_layer("logits").activation is keras.activations.linear
    logits = small(IMAGES, training=False)
    assert logits.shape == (3, 14)
    assert np.isfinite(logits).all()


def test_a_saved_model_loads_in_safe_mode_and_answers_alike(small, tmp_path):
    small.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(IMAGES, training=False), small(IMAGES, training=False))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_logits_are_finite_float32_under_mixed_precision(small, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = build_densenet121_cbam(**SMALL)
    finally:
        keras.config.set_dtype_policy(before)
    model.set_weights(small.get_weights())
    assert keras.backend.standardize_dtype(model.get_layer("densenet121").output.dtype) == policy[6:]
    logits = model(IMAGES, training=False)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    np.testing.assert_allclose(logits, small(IMAGES, training=False), atol=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stored_channels": 2}, "2 channels"),
        ({"image_side_px": 16}, "image side is 16 px; expected 32 px to the stored 64 px"),
        ({"image_side_px": 128}, "image side is 128 px"),
        ({"findings": 0}, "findings is 0"),
        ({"head_units": (128, 0)}, "head's units"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"l2": -0.1}, "l2 is -0.1"),
        ({"cbam_reduction": 3}, "divisor of 1024"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_built(change, message):
    with pytest.raises(ConfigError, match=message):
        build_densenet121_cbam(**{**SMALL, **change})


def test_probabilities_are_float32_sigmoids_that_never_overflow():
    logits = np.array([-1000, -50, -1, 0, 12, 1000], np.float32)
    out = probabilities(logits)
    assert out.dtype == np.float32
    np.testing.assert_allclose(
        out, [0, np.exp(-50.0), 1 / (1 + np.e), 0.5, 1 / (1 + np.exp(-12.0)), 1], rtol=1e-6
    )
    assert probabilities(np.float16([[12]]))[0, 0] < 1
    assert probabilities(keras.ops.zeros((2, 3))).shape == (2, 3)
